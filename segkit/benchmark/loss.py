"""Losses, or the backends of losses, on cubes of several sizes: forward and backward, each in a fresh process.

A row holds what :mod:`segkit.benchmark` says is measured, of one loss with its gradient to the logits; the sigmoid is
part of it. For small cubes most of `peak_bytes` is code that the first call loads. On a graphics card every call ends
when the card is done, and `device_peak_bytes` is the most memory that one call holds there beyond its inputs. All sizes
are cut from the middle of the same volume; a batch holds copies.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from segkit import io
from segkit.benchmark.contenders import Contender
from segkit.benchmark.measure import machine, time_in_turn
from segkit.benchmark.process import Limits, in_fresh_process
from segkit.data import check_aligned, edge_mask
from segkit.errors import BrokenComponent, InvalidParameter, InvalidShape, sentence
from segkit.parameters import convert
from segkit.registry import find

SIZES = (56, 84, 128)
TOLERANCE = 1e-5
"""Up to so much, relative to the largest, loss and gradient may differ by the order in which floats were summed."""

Results = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Cubes:
    """What losses see: cubes from the middle of a volume, in batches, on a device."""

    sizes: Sequence[int] = SIZES
    """Edges in voxels."""
    batch: int = 1
    """Copies of a cube at a time."""
    device: str = "auto"
    trace: str | None = None
    """File for a profiler trace; of one loss, backend and size."""


@dataclass(frozen=True)
class Entry:
    """Holds a loss that is measured, with its backend."""

    contender: Contender
    backend: str | None
    """The value of the parameter `backend`; None where it was not asked for, or the loss has none."""


def benchmark_losses(
    contenders: Sequence[Contender],
    inputs: Mapping[str, str],
    *,
    backends: Sequence[str] = (),
    cubes: Cubes = Cubes(),  # it cannot change
    limits: Limits = Limits(),  # noqa: B008
    neighborhood: list | None = None,
    progress: Callable[..., None] = lambda done, total, text="": None,
) -> dict[str, object]:
    """Measure losses on cubes from the middle of the volumes `inputs` ("affinities" and "truth" -> address).

    With `backends`, each loss that has a parameter `backend` runs once with each of them, and they are compared with
    each other; without, the losses are. Returns {"verb", "inputs", "sizes", "batch", "repeat", "threads", "machine",
    "yardsticks", "rows"}: `yardsticks` holds, by size, the number of edges and `argsort_seconds`, the time of
    np.argsort of their affinities, in float32, in this run. Rows have `loss`, `backend`, `component`, `parameters`,
    `size`, the measurements, `argsorts` (seconds for an item of the batch in units of the yardstick), `ratio` (seconds
    in units of the first that did not fail), and what :func:`compare` says: ``{"identical_to": {first: ...}}``. One
    that failed has `error` instead, in a sentence, and stops nobody else.
    """
    entries = entries_of(contenders, backends)
    _check(entries, inputs, cubes, limits.repeat)
    trace = str(Path(cubes.trace).absolute()) if cubes.trace else None
    given = {"batch": cubes.batch, "device": cubes.device, "trace": trace}
    given |= {"repeat": limits.repeat, "neighborhood": neighborhood}
    rows: list[dict[str, Any]] = []
    yardsticks: list[dict[str, Any]] = []
    for size in cubes.sizes:
        cropped = {role: centred(address, role, size) for role, address in inputs.items()}
        yardsticks.append({"size": size} | _yardstick(cropped, neighborhood))
        unit = cubes.batch * yardsticks[-1]["argsort_seconds"]
        firsts: dict[str | None, tuple[str, float, Results]] = {}
        for entry in entries:
            name = title(entry.contender.label, entry.backend)
            progress(len(rows), len(entries) * len(cubes.sizes), f"{name}, {size}")
            head = _head(entry, size)
            asked = given | {"inputs": cropped} | {key: head[key] for key in ("component", "parameters")}
            row, results = _run(asked, limits)
            if results:
                group = entry.contender.label if backends else None
                first = firsts.setdefault(group, (name, row["seconds"], results))
                row |= {"argsorts": row["seconds"] / unit} | _compared(first, row["seconds"], results)
            rows.append(head | row)
    progress(len(rows), len(rows))
    report = {"verb": "loss", "inputs": dict(inputs), "sizes": list(cubes.sizes), "batch": cubes.batch}
    report |= {"repeat": limits.repeat, "threads": limits.threads}
    return report | {"machine": machine(), "yardsticks": yardsticks, "rows": rows}


def entries_of(contenders: Sequence[Contender], backends: Sequence[str]) -> list[Entry]:
    """Every loss with every backend that was asked for; a loss without such a parameter once, as it is.

    Raises UnknownComponent for a loss that does not exist, and InvalidParameter for a backend that a loss does not
    take, or where none of the losses has backends. A loss that cannot be imported is an entry, to say why.
    """
    found = [_entries(contender, backends) for contender in contenders]
    if backends and contenders and not any(found):
        rule = f"must not be given with a loss that has no parameter 'backend', as {contenders[0].component!r}"
        raise InvalidParameter(sentence("--backend", rule, next_step="omit it"))
    alone = [[Entry(contender, None)] for contender in contenders]
    return [entry for own, plain in zip(found, alone, strict=True) for entry in own or plain]


def _entries(contender: Contender, backends: Sequence[str]) -> list[Entry]:
    """One loss with every backend; none if it has no such parameter."""
    component = find("losses", contender.component)
    if not backends:
        return []
    try:
        known = component.parameters()
    except BrokenComponent:
        return [Entry(contender, None)]
    if "backend" not in known:
        return []
    for backend in backends:
        convert({"backend": known["backend"]}, {"backend": backend}, component.title)
    both = [replace(contender, parameters={**contender.parameters, "backend": backend}) for backend in backends]
    return [Entry(own, backend) for own, backend in zip(both, backends, strict=True)]


def title(label: str, backend: str | None) -> str:
    """Name a row of the report."""
    return f"{label} by {backend}" if backend else label


def centred(address: str, role: str, size: int) -> str:
    """The address of a cube of `size` voxels from the middle of what `address` means.

    Raises InvalidShape where it does not fit.
    """
    given = io.parse_address(address)
    shape = io.shape_of(given, role)
    if min(shape) < size:
        next_step = f"the largest that fits is {min(shape)}"
        raise InvalidShape(sentence("size", f"must fit into {role} of {shape} voxels", size, next_step))
    whole = [part.start or 0 for part in given.crop or (slice(None),) * 3]
    starts = [start + (length - size) // 2 for start, length in zip(whole, shape, strict=True)]
    z, y, x = (slice(start, start + size) for start in starts)
    return str(replace(given, crop=(z, y, x)))


def compare(ours: Results, first: Results) -> dict[str, object]:
    """Compare the results of a loss with those of another: whether they agree, and how far apart they are.

    `identical`: whether each edge decides the same numbers of `positive` and `negative` pairs; None where one of both
    counts none. `agrees`: whether that is not False, and `loss` and `gradient` differ by rounding at most. `loss_apart`
    and `gradient_apart`: the largest differences, relative to the loss and to the largest gradient of the other.

    >>> first = {"loss": np.array(0.5), "gradient": np.array([0.0, -2.0]), "positive": np.array([0, 3])}
    >>> compare(first | {"gradient": np.array([0.0, -1.5])}, first)
    {'identical': True, 'agrees': False, 'loss_apart': 0.0, 'gradient_apart': 0.25}
    """
    apart = {f"{name}_apart": _apart(ours[name], first[name]) for name in ("loss", "gradient")}
    shared = [name for name in ("positive", "negative") if name in ours and name in first]
    identical = all(np.array_equal(ours[name], first[name]) for name in shared) if shared else None
    agrees = identical is not False and max(apart.values()) <= TOLERANCE
    return {"identical": identical, "agrees": agrees, **apart}


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    scale = max(float(np.abs(theirs).max(initial=0)), float(np.finfo(np.float32).tiny))
    return float(np.abs(ours.astype(np.float64) - theirs).max(initial=0)) / scale


def _check(entries: Sequence[Entry], inputs: Mapping[str, str], cubes: Cubes, repeat: int) -> None:
    from segkit.models.device import resolve_device

    if not entries or not cubes.sizes:
        raise InvalidParameter(sentence("a benchmark", "must have at least one loss and one size"))
    for name, value in (("batch", cubes.batch), ("repeat", repeat), ("size", min(cubes.sizes))):
        if value < 1:
            raise InvalidParameter(sentence(name, "must be at least 1", value))
    rows = len(entries) * len(cubes.sizes)
    if cubes.trace and rows > 1:
        rule = "must be asked of one loss, one backend and one size"
        raise InvalidParameter(sentence("trace", rule, f"{rows} of them"))
    resolve_device(cubes.device)
    for role, address in inputs.items():
        centred(address, role, max(cubes.sizes))


def _head(entry: Entry, size: int) -> dict:
    contender = entry.contender
    named = {"loss": contender.label, "backend": entry.backend, "component": contender.component}
    return named | {"parameters": dict(contender.parameters), "size": size}


def _run(options: Mapping[str, Any], limits: Limits) -> tuple[dict, Results]:
    """The columns of a row, and the results; no results if it failed."""
    with TemporaryDirectory(prefix="segkit-benchmark-") as folder:
        row = in_fresh_process("segkit.benchmark.loss_step:time_loss", {**options, "folder": folder}, limits)
        if "error" in row:
            return row, {}
        with np.load(Path(folder) / "result.npz") as stored:
            return row, dict(stored)


def _compared(first: tuple[str, float, Results], seconds: float, results: Results) -> dict:
    name, unit, theirs = first
    found = {f"{column}_to": {name: value} for column, value in compare(results, theirs).items()}
    return {"ratio": seconds / unit} | found


def _yardstick(inputs: Mapping[str, str], neighborhood: list | None) -> dict[str, object]:
    """How long this machine takes to sort the edges: the middle of three times."""
    affinities = io.read_affinities(inputs["affinities"], neighborhood=neighborhood)
    truth = io.read_labels(inputs["truth"], role="truth")
    check_aligned(affinities=affinities, truth=truth)
    values = affinities.array[edge_mask(truth.shape, affinities.neighborhood, truth.inside)]
    seconds = time_in_turn({"argsort": lambda: np.argsort(values)}, 3)["argsort"]
    return {"edges": len(values), "argsort_seconds": statistics.median(seconds)}
