"""Reads damaged files: ``python -m tests.fuzz.fuzzer --trials 2000``; ``make fuzz`` does so for minutes.

A trial copies a small valid file, damages it (truncates it, flips bytes, puts values of the wrong type or absurd sizes
into its metadata, takes a part away) and gives it to all that reads such a file. What holds: it is read, or refused by
an error of segkit, which is one sentence; within seconds; without taking much memory; and nothing is written. A trial
is its seed and its number, so that each can be repeated with ``--only NUMBER``.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np

SECONDS = 20
"""A trial that takes longer hangs."""
ROOM = 2**31
"""Bytes that a trial may take beyond what the process has."""
BATCH = 50
"""Trials of one process."""
WRONG = [
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**40,
    2**63,
    -(2**70),
    1e308,
    -0.5,
    float("nan"),
    float("inf"),
    "",
    "zyx",
    "../../etc",
    "\u0000",
    "x" * 5000,
    [],
    [[]],
    [1, 2, 3],
    [2**40] * 3,
    ["a", None],
    {},
    {"a": 1},
    [[[[[[1]]]]]],
]
"""What stands in the place of a value."""


@dataclass(frozen=True)
class Finding:
    """A trial that did not hold."""

    number: int
    what: str
    about: str


# The files ------------------------------------------------------------------------------------------------------------


def make_files(folder: Path) -> None:
    """One valid file of each kind that is read."""
    import tifffile
    import zarr

    from segkit import io
    from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
    from segkit.io.shard_target import ShardTarget
    from segkit.io.writer import Form

    rng, grid = np.random.default_rng(0), Grid((40, 4, 4), (80, 8, 8))
    labels = Labels.convert(rng.integers(1, 6, (4, 5, 6)), grid)
    raw = Volume(rng.integers(0, 256, (4, 5, 6)).astype(np.uint8), grid)
    affinities = Affinities.from_labels(labels)
    tree = MergeTree(np.array([1, 2, 3], np.uint64), np.array([3, 3, 4, 4, 4]), np.array([0.1, 0.2]))
    things = {"raw": raw, "truth": labels, "affinities": affinities, "fragments": labels, "merge_tree": tree}
    for suffix in ("h5", "zarr"):
        (folder / f"own-{suffix}").mkdir(parents=True)
        io.write_all(folder / f"own-{suffix}" / f"a.{suffix}", things | {"mask": Volume(raw.array > 99, grid)})
    shards = folder / "shards"
    shards.mkdir()
    target = ShardTarget.create(shards / "a.zarr", Form("fragments", (4, 5, 6), grid), (4, 4, 4), key="k")
    target.write((slice(0, 4), slice(0, 5), slice(0, 6)), labels.array)
    target.finish()
    foreign = folder / "foreign"
    foreign.mkdir()
    shutil.copytree(Path(__file__).parent.parent / "io" / "golden" / "dialects", foreign / "dialects")
    tiff = folder / "tiff"
    (tiff / "sections").mkdir(parents=True)
    tifffile.imwrite(tiff / "plain.tif", raw.array, photometric="minisblack")
    tifffile.imwrite(tiff / "packed.tif", raw.array, photometric="minisblack", compression="zlib")
    for number in range(3):
        tifffile.imwrite(tiff / "sections" / f"z{number}.tif", raw.array[number], photometric="minisblack")
    group = zarr.open_group(str(folder / "v2" / "a.zarr"), mode="w", zarr_format=2)
    group.create_array("raw", data=raw.array, chunks=(2, 5, 6)).attrs.update({"resolution": [4, 4, 4], "axes": "zyx"})
    (folder / "zipped").mkdir()
    shutil.make_archive(str(folder / "zipped" / "a.zarr"), "zip", folder / "own-zarr" / "a.zarr")
    _make_precomputed(folder / "precomputed", raw)
    _make_n5(folder / "n5", raw)
    _make_webknossos(folder / "webknossos")
    _make_single(folder / "single", raw)
    _make_run(folder / "run")
    recipes = folder / "recipe"
    recipes.mkdir()
    (recipes / "recipe.toml").write_text(
        'description = "d"\n[data]\nraw = "a.h5"\n[[stages]]\nname = "f"\nverb = "fragment"\n'
        'arguments = { affinities = "{data.raw}", out = "f.h5", method = "watershed" }\n'
    )
    (recipes / "stages.json").write_text(
        json.dumps({"f": {"inputs": "i", "outputs": "o", "result": {"out": "a"}, "seconds": 1.0, "command": ["a"]}})
    )


def _make_precomputed(folder: Path, raw: Any) -> None:
    folder.mkdir()
    try:
        import tensorstore  # noqa: F401  # what reads and writes the format
    except ImportError:
        return
    from segkit import io

    attributes = {"kind": "volume", "resolution": [40, 4, 4], "offset": [80, 8, 8], "unit": "nm"}
    whole = (slice(0, 4), slice(0, 5), slice(0, 6))
    blocks = io.Blocks(raw.shape, raw.array.dtype, [(whole, raw.array)])
    io.write_blocks(folder / "a.precomputed", "raw", blocks, attributes)


def _make_n5(folder: Path, raw: Any) -> None:
    folder.mkdir()
    try:
        import tensorstore
    except ImportError:
        return
    metadata = {
        "dimensions": raw.shape[::-1],
        "dataType": "uint8",
        "blockSize": [3] * 3,
        "compression": {"type": "gzip"},
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/a.n5/em/s0/"}, "metadata": metadata}
    tensorstore.open(spec, create=True).result().T[...] = raw.array
    attributes = folder / "a.n5" / "em" / "s0" / "attributes.json"
    transform = {"axes": ["z", "y", "x"], "scale": [40, 4, 4], "translate": [80, 8, 8], "units": ["nm"] * 3}
    pixel = {"dimensions": [4, 4, 40], "unit": "nm"}
    more = {"transform": transform, "pixelResolution": pixel, "downsamplingFactors": [1, 1, 1]}
    attributes.write_text(json.dumps(json.loads(attributes.read_text()) | more))


def _make_webknossos(folder: Path) -> None:
    shutil.copytree(Path(__file__).parent.parent / "io" / "golden" / "wkw", folder / "a")
    box = {"topLeft": [2, 10, 10], "width": 7, "height": 6, "depth": 5}
    mags = {"raw": [{"mag": [1, 1, 1], "path": "raw"}], "lz4": [{"mag": 1, "path": "lz4"}]}
    layers = [{"name": name, "boundingBox": box, "dataFormat": "wkw", "mags": mags[name]} for name in mags]
    layers[0]["category"] = "segmentation"
    content = {"dataLayers": layers, "voxelSize": {"factor": [4, 4, 40], "unit": "nanometer"}}
    (folder / "a" / "datasource-properties.json").write_text(json.dumps(content))


def _make_single(folder: Path, raw: Any) -> None:
    """Formats of one volume a file."""
    from PIL import Image

    (folder / "sections").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(raw.array[number]).save(folder / "sections" / f"z{number}.png")
    Image.fromarray(raw.array[0]).save(folder / "d.jpg")
    np.save(folder / "a.npy", raw.array)
    np.savez(folder / "b.npz", raw=raw.array)
    np.savez_compressed(folder / "c.npz", raw=raw.array)
    with suppress(ImportError):
        import mrcfile

        mrcfile.write(folder / "e.mrc", raw.array.astype(np.int16), voxel_size=40)
    with suppress(ImportError):
        import nibabel

        for name in ("f.nii", "f.nii.gz"):
            nibabel.save(nibabel.Nifti1Image(raw.array.T, np.eye(4)), folder / name)
    with suppress(ImportError):
        import nrrd

        for encoding in ("raw", "gzip"):
            header = {"spacings": [4, 4, 40], "units": ["nm"] * 3, "encoding": encoding}
            nrrd.write(str(folder / f"{encoding}.nrrd"), raw.array, header, index_order="C")


def _make_run(folder: Path) -> None:
    import torch

    from segkit import load
    from segkit.data import NEAREST
    from segkit.models.checkpoint import save_model

    folder.mkdir()
    module = load("models", "fcn", channels=3)
    about = {"name": "fcn", "parameters": {"channels": 3}, "neighborhood": NEAREST, "extra": {"voxel_size": [4] * 3}}
    save_model(folder / "model.safetensors", module, **about)
    card = {"settings": {"model": "fcn", "steps": 3}, "data": [{"raw": "a", "sha256": "b"}], "seed": 1, "versions": {}}
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "config.json").write_text(json.dumps({"model": "fcn", "steps": 3, "patch": [1, 8, 8]}))
    torch.save({"progress": {"step": 3}, "weights": {"a": torch.zeros(2)}}, folder / "last.ckpt")


# The damages ----------------------------------------------------------------------------------------------------------


def damage(folder: Path, rng: np.random.Generator) -> str:
    """Damage one file of a folder, in some way that suits it; what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    metadata = [path for path in files if path.suffix in (".json", ".toml", ".xml") or path.name in TEXTS]
    path = metadata[rng.integers(len(metadata))] if metadata and rng.random() < 0.7 else files[rng.integers(len(files))]
    ways: list[Callable[[Path, np.random.Generator], str]] = [truncate, flip, flip]
    if path.suffix == ".json" or path.name in TEXTS:
        ways = [truncate, flip, replace_value, replace_value, replace_value, drop_value, nest]
    elif h5py.is_hdf5(path):
        ways = [truncate, flip, replace_attribute, replace_attribute, replace_dataset, replace_dataset]
    way = ways[rng.integers(len(ways))]
    return f"{path.relative_to(folder)}: {way.__name__} {way(path, rng)}"


TEXTS = (".zarray", ".zgroup", ".zattrs", "info")


def truncate(path: Path, rng: np.random.Generator) -> str:
    """Cut the file at some byte."""
    at = int(rng.integers(0, path.stat().st_size + 1))
    os.truncate(path, at)
    return f"at {at}"


def flip(path: Path, rng: np.random.Generator) -> str:
    """Change some bytes."""
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 5)) if content else 0):
        content[rng.integers(min(len(content), 4096) if rng.random() < 0.5 else len(content))] = rng.integers(256)
    path.write_bytes(content)
    return "bytes"


def replace_value(path: Path, rng: np.random.Generator) -> str:
    """Put something of another type or size into JSON."""
    content = json.loads(path.read_text())
    places = list(_places(content))
    if not places:
        return "nothing"
    holder, key = places[rng.integers(len(places))]
    holder[key] = WRONG[rng.integers(len(WRONG))]
    path.write_text(json.dumps(content))
    return f"{key} = {str(holder[key])[:40]}"


def drop_value(path: Path, rng: np.random.Generator) -> str:
    """Take something out of JSON."""
    content = json.loads(path.read_text())
    places = list(_places(content))
    if not places:
        return "nothing"
    holder, key = places[rng.integers(len(places))]
    del holder[key]
    path.write_text(json.dumps(content))
    return f"{key}"


def nest(path: Path, rng: np.random.Generator) -> str:
    """Write JSON that is nested without end."""
    depth = int(rng.choice([500, 100_000]))
    path.write_text("[" * depth + "]" * depth)
    return f"{depth} deep"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: list[Any] = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


def replace_attribute(path: Path, rng: np.random.Generator) -> str:
    """Put something of another type or size into an attribute of HDF5."""
    with h5py.File(path, "r+") as file:
        items: list[Any] = []
        file.visititems(lambda name, item: items.append(item))
        item = items[rng.integers(len(items))]
        known = ["resolution", "offset", "unit", "axes", "kind", "format_version", "neighborhood", "polarity"]
        known += ["voxel_size", "axis_names", "axistags", "transform", "element_size_um", "notes", "convention"]
        key = known[rng.integers(len(known))]
        values: list[Any] = [None, -1, 2**40, float("nan"), "", "x", [1], [2**40] * 3, [float("inf")] * 3, [0, 0, 0]]
        values += [np.bytes_(b"\xff\xfe"), ["a", "b", "c"], np.zeros((3, 3)), h5py.Empty("f"), np.zeros(0), 1 + 2j]
        value = values[rng.integers(len(values))]
        try:
            item.attrs[key] = h5py.Empty("f") if value is None else value
        except (TypeError, ValueError, OSError):
            return "nothing"
        return f"{item.name}.{key} = {str(value)[:40]}"


def replace_dataset(path: Path, rng: np.random.Generator) -> str:
    """Put another dataset into HDF5: of another type, of no voxels, of more than there can be."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = names[rng.integers(len(names))]
        attributes = dict(file[name].attrs)
        del file[name]
        way = int(rng.integers(7))
        if way == 0:
            file.create_dataset(name, (2**20, 2**20, 2**20), "u1", chunks=(64, 64, 64))
        elif way == 1:
            file.create_dataset(name, (2**16, 2**16, 2**16), "f8", chunks=(4096, 1024, 256))
        elif way == 2:
            file.create_dataset(name, data=np.array([b"a", b"bc"]))
        elif way == 3:
            file.create_dataset(name, data=np.zeros((0, 2, 3)))
        elif way == 4:
            file.create_dataset(name, data=np.full((2, 2, 2), np.nan))
        elif way == 5:
            file[name] = h5py.SoftLink(f"/{name}")
        else:
            file[name] = h5py.ExternalLink("/etc/hostname", "a")
        if way < 5:
            file[name].attrs.update(attributes)
        return f"{name} {way}"


# The readers ----------------------------------------------------------------------------------------------------------


def read_everything(kind: str, folder: Path) -> None:
    """Give what lies in a folder to all that reads files of that kind; errors of segkit are what may be expected."""
    for read in readers(kind, folder):
        attempt(read)


def readers(kind: str, folder: Path) -> Iterator[Callable[[], object]]:
    """All that reads files of a kind."""
    from segkit import io
    from segkit.convert.kinds import identify
    from segkit.io.address import Address

    if kind == "run":
        yield from _readers_of_runs(folder)
        return
    if kind == "recipe":
        yield from _readers_of_recipes(folder)
        return
    roles = {"raw": io.read_volume, "truth": io.read_labels, "mask": io.read_mask, "affinities": io.read_affinities}
    roles |= {"fragments": lambda address: io.read_labels(address, "fragments"), "merge_tree": io.read_merge_tree}
    stated = folder / "dialects" / "addresses.json"
    if stated.exists():
        addresses = _golden_addresses(stated)
        for address in addresses:
            yield lambda address=address: io.read_volume(f"{folder}/dialects/{address}")
            yield lambda address=address: io.shape_of(f"{folder}/dialects/{address}", "raw")
        return
    for path in sorted(folder.iterdir()):
        yield lambda path=path: io.datasets(path)
        yield lambda path=path: identify(Address(path), None)
        yield lambda path=path: _by_name(path)
        for role, read in roles.items():
            yield lambda read=read, path=path: read(Address(path))
            yield lambda role=role, path=path: io.exists(Address(path), role)
            yield lambda role=role, path=path: io.read_notes(Address(path), role)
            if role != "merge_tree":
                yield lambda role=role, path=path: io.shape_of(Address(path), role)
                yield lambda role=role, path=path: _box(Address(path), role)


def _by_name(path: Path) -> None:
    from segkit import io
    from segkit.io.address import Address

    for name in io.datasets(path):
        attempt(lambda name=name: io.read_volume(Address(path, name)))
        attempt(lambda name=name: io.read_labels(Address(path, name)))


def _golden_addresses(path: Path) -> list[str]:
    golden = Path(__file__).parent.parent / "io" / "golden" / "dialects" / path.name
    return list(json.loads(golden.read_text()).values())


def _box(address: Any, role: str) -> object:
    from segkit import io

    with io.open_volume(address, role) as volume:
        return volume.read(tuple(slice(0, min(2, size)) for size in volume.shape))


def _readers_of_runs(folder: Path) -> Iterator[Callable[[], object]]:
    from segkit.cli.runs import model_file, read_settings
    from segkit.models.checkpoint import load_model
    from segkit.train.card import read_card
    from segkit.train.checkpoint import read_checkpoint

    yield lambda: load_model(model_file(folder))
    yield lambda: read_settings(folder)
    yield lambda: read_card(folder)
    yield lambda: read_checkpoint(folder / "last.ckpt")


def _readers_of_recipes(folder: Path) -> Iterator[Callable[[], object]]:
    from segkit.run import load_recipe
    from segkit.run.record import Record, read_stages

    yield lambda: load_recipe(str(folder / "recipe.toml"), folder / "out")
    yield lambda: Record(folder).result("f", "i", [])
    yield lambda: read_stages(folder)


def attempt(read: Callable[[], object]) -> None:
    """Let an error of segkit be, whose message is one sentence; every other one is a finding."""
    from segkit.errors import SegkitError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except SegkitError as error:
            message = str(error)
            if not message.strip() or message.count("\n") > 1 or "Traceback" in message:
                raise AssertionError(f"no sentence: {message!r}") from error


# The trials -----------------------------------------------------------------------------------------------------------


def fuzz(files: Path, seed: int, numbers: range, until: float = float("inf")) -> tuple[int, list[Finding]]:
    """Try damaged copies of what lies in `files`, in processes of their own; how many were tried, and what failed."""
    findings: list[Finding] = []
    tried, first = 0, numbers.start
    while first < numbers.stop and time.monotonic() < until:
        last = min(first + BATCH, numbers.stop)
        ended, found = _batch(files, seed, first, last)
        findings += found
        tried += ended - first
        first = ended
    return tried, findings


def _batch(files: Path, seed: int, first: int, last: int) -> tuple[int, list[Finding]]:
    """The trials `first` to `last`, or to the one that ended its process; the number after it, and what failed."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        child = os.fork()
        if not child:
            _run(files, Path(scratch), log, seed, first, last)
        status = os.waitpid(child, 0)[1]
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    found, begun = [], first
    about = ""
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "begin":
            number, _, about = rest.partition(" ")
            begun = int(number)
        elif word == "failed":
            found.append(Finding(begun, rest, about))
    if status == 0:
        return last, found
    ended_by = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    what = f"no end after {SECONDS} s" if ended_by == "SIGALRM" else f"the process ended by {ended_by}"
    return begun + 1, [*found, Finding(begun, what, about)]


def _run(files: Path, scratch: Path, log: Path, seed: int, first: int, last: int) -> None:
    """The trials, in the child; it never returns."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with open(log, "w", buffering=1) as output:
            for number in range(first, last):
                _trial(files, scratch / f"{number}", output, seed, number)
        code = 0
    finally:
        os._exit(code)


def _trial(files: Path, place: Path, log: Any, seed: int, number: int) -> None:
    rng = np.random.default_rng([seed, number])
    kinds = sorted(path.name for path in files.iterdir() if any(path.iterdir()))
    kind = kinds[rng.integers(len(kinds))]
    shutil.copytree(files / kind, place)
    about = damage(place, rng)
    log.write(f"begin {number} {kind}: {about!a}\n")
    before = _listing(place)
    signal.alarm(SECONDS)
    try:
        read_everything(kind, place)
    except BaseException as error:  # whatever a reader lets through
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        log.write(f"failed {' '.join(what.split())}\n")
    signal.alarm(0)
    if _listing(place) != before:
        log.write("failed something was written\n")
    shutil.rmtree(place)


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """All files with their sizes and times."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path)] = (status.st_size if path.is_file() else 0, status.st_mtime_ns)
    return found


def prepare(files: Path) -> None:
    """Make the files in a process of its own, and import what reads them, so that each child finds it.

    TensorStore has threads, which a fork does not survive: it is left to children.
    """
    subprocess.run([sys.executable, "-m", "tests.fuzz.fuzzer", "--make", str(files)], check=True)
    with patch("segkit.io.zarr._by_tensorstore", return_value=None):
        for kind in sorted(path.name for path in files.iterdir()):
            if kind not in ("precomputed", "n5"):
                read_everything(kind, files / kind)


def main() -> int:
    """Fuzz, print each finding and a summary; 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="make the valid files, and nothing else")
    parser.add_argument("--only", type=int, help="one trial, by its number")
    asked = parser.parse_args()
    if asked.make:
        make_files(asked.make)
        return 0
    numbers = range(asked.trials) if asked.only is None else range(asked.only, asked.only + 1)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch)
        prepare(files)
        tried, findings = fuzz(files, asked.seed, numbers, time.monotonic() + 60 * asked.minutes)
    for finding in findings:
        print(f"{finding.number}: {finding.what}\n    {finding.about}")
    for what, count in Counter(finding.what.split("(")[-1] for finding in findings).most_common(20):
        print(f"{count:6} {what}")
    print(f"{tried} damaged files tried (seed {asked.seed}), {tried - len({f.number for f in findings})} held")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
