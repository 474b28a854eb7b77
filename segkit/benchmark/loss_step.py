"""A step of a loss, forward and backward on given affinities: timed in a fresh process, traced and compared."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
import torch
from torch import Tensor

from segkit.benchmark.contenders import Measurement
from segkit.benchmark.measure import Row, measure
from segkit.data import Affinities, Labels, check_aligned, edge_mask
from segkit.errors import BrokenComponent, sentence
from segkit.losses import malis
from segkit.models.device import resolve_device
from segkit.protocols import Loss, Prediction

Counts = tuple[np.ndarray, np.ndarray]

EPSILON = 1e-6
"""Affinities are taken as this far from 0 and 1 at least, for their logits to be finite."""


@dataclass(frozen=True, eq=False)
class LossStep:
    """A loss, and what it sees of a batch whose items are all alike, on one device."""

    loss: Loss
    logits: Tensor
    target: Tensor
    labels: Tensor
    mask: Tensor
    edges: Tensor
    neighborhood: np.ndarray

    @classmethod
    def of(
        cls, loss: Loss, affinities: Affinities, truth: Labels, *, batch: int = 1, device: torch.device | str = "cpu"
    ) -> "LossStep":
        """`batch` copies of one volume, predicted as `affinities`; voxels outside the annotation of `truth` are masked.

        Raises InvalidShape or InvalidInput unless both inputs are aligned.
        """
        check_aligned(affinities=affinities, truth=truth)
        objects = np.ascontiguousarray(np.where(truth.inside, truth.array, np.uint64(0)))
        numbered, _ = fastremap.renumber(objects, preserve_zero=True)
        arrays = {
            "target": Affinities.from_labels(truth, affinities.neighborhood).array,
            "labels": numbered.astype(np.int64),
            "mask": truth.inside,
            "edges": edge_mask(truth.shape, affinities.neighborhood, truth.inside),
        }
        logits = torch.logit(torch.tensor(affinities.array), eps=EPSILON)
        tensors = {name: _batch(torch.tensor(array), batch, device) for name, array in arrays.items()}
        leaf = _batch(logits, batch, device).requires_grad_()
        return cls(loss=loss, logits=leaf, **tensors, neighborhood=affinities.neighborhood)

    def run(self) -> tuple[Tensor, Tensor]:
        """The loss and its gradient to the logits, once the device is done with them.

        Raises BrokenComponent where the loss does not return what :class:`segkit.protocols.Loss` promises.
        """
        self.logits.grad = None
        result = self.loss(self._prediction())
        value = result[0] if isinstance(result, tuple) and len(result) == 2 else result
        if not isinstance(value, Tensor) or value is result or value.shape != ():
            rule, found = "must return a scalar tensor and a dict of parts", type(result).__name__
            raise BrokenComponent(sentence(f"the loss {type(self.loss).__name__}", rule, found))
        value.backward()
        self.synchronize()
        return value.detach(), self.logits.grad

    def _prediction(self) -> Prediction:
        """A new one each time: it keeps its affinities, whose computation belongs to the step."""
        return Prediction(self.logits, self.target, self.labels, self.mask, self.edges, self.neighborhood)

    def synchronize(self) -> None:
        """Wait until the device is done with all that it was given."""
        if self.logits.device.type != "cpu":
            getattr(torch, self.logits.device.type).synchronize()

    @property
    def device_name(self) -> str:
        """The model of the graphics card, or the type of the device."""
        device = self.logits.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def device_peak(self) -> int | None:
        """The most bytes that one step holds on the device beyond its inputs; None where torch does not count them."""
        device = self.logits.device
        if device.type != "cuda":
            return None
        self.logits.grad = None
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        self.run()
        return torch.cuda.max_memory_allocated(device) - before

    def trace(self, path: Path) -> int | None:
        """Write a profiler trace of one step, for chrome://tracing; return the bytes that it copied to the host.

        None on a CPU, where there is nothing to copy.
        """
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.logits.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as profiler:
            self.run()
        profiler.export_chrome_trace(str(path))
        return None if self.logits.device.type == "cpu" else copied_to_host(path)

    def pair_counts(self) -> Counts | None:
        """How many positive and negative pairs each edge decides, int64 (B, C, Z, Y, X), counted as the loss counts.

        None for a loss that is no MALIS.
        """
        if not isinstance(self.loss, malis.PairLoss):
            return None
        backend = self.loss.backend
        if backend == "auto":
            backend = "cpu" if self.logits.device.type == "cpu" else "gpu"
        affinities = self._prediction().affinities.detach()
        count = _counted_on_device if backend == "gpu" else _counted_on_host
        return count(self, affinities, backend, self.loss.constrained)


def time_loss(*, batch: int, device: str, trace: str | None, **asked: Any) -> Row:
    """Time a loss with its gradient; leaves both, and counts of pairs, as results for the comparison."""
    wanted = Measurement(**asked)
    loss, affinities, truth = wanted.load("losses"), wanted.affinities(), wanted.labels("truth")
    step = LossStep.of(loss, affinities, truth, batch=batch, device=resolve_device(device))
    costs, result = measure(step.run, wanted.repeat)
    value, gradient = (tensor.float().cpu().numpy() for tensor in result)
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        rule = "must be finite, with a finite gradient"
        raise BrokenComponent(sentence(f"what {wanted.component!r} returns", rule, f"a loss of {value}"))
    columns: Row = {"device": step.device_name, "loss_value": float(value), "device_peak_bytes": step.device_peak()}
    if trace:
        columns["bytes_to_host"] = step.trace(Path(trace))
    counts = step.pair_counts()
    named: dict[str, Any] = {} if counts is None else {"positive": counts[0], "negative": counts[1]}
    np.savez(wanted.result("result.npz"), loss=value, gradient=gradient, **named)
    return columns | costs


def copied_to_host(path: Path) -> int:
    """The bytes that a trace, as torch's profiler writes it, saw copied from a device to the host."""
    events = json.loads(path.read_text())["traceEvents"]
    copies = (event for event in events if event.get("cat") == "gpu_memcpy" and "DtoH" in event["name"])
    return sum(int(event["args"]["bytes"]) for event in copies)


def _batch(item: Tensor, batch: int, device: torch.device | str) -> Tensor:
    return torch.stack([item] * batch).to(device)


def _counted_on_device(step: LossStep, affinities: Tensor, _: str, constrained: bool) -> Counts:
    from segkit.losses.malis_device import pair_counts

    arrays = (affinities, step.labels, step.edges, step.neighborhood)
    positive, negative = pair_counts(*arrays, constrained=constrained)
    return positive.cpu().numpy(), negative.cpu().numpy()


def _counted_on_host(step: LossStep, affinities: Tensor, backend: str, constrained: bool) -> Counts:
    from segkit.losses import malis_higra

    count = (malis_higra if backend == "higra" else malis).decided_pairs
    items = [
        (tensor.cpu().numpy() for tensor in item) for item in zip(affinities, step.labels, step.edges, strict=True)
    ]
    pairs = [count(*item, step.neighborhood, constrained=constrained) for item in items]
    positive, negative = zip(*(malis.dense(found, affinities.shape[1:]) for found in pairs), strict=True)
    return np.stack(positive), np.stack(negative)
