"""Time a step of training on one device, from the bare network to the whole loop."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from segkit.infer.network import autocasting
from segkit.models.device import resolve_device
from segkit.timing import listening
from segkit.train.augment.finish import RawBatch
from segkit.train.config import TrainConfig
from segkit.train.data import PatchDataset, TrainingVolume
from segkit.train.feed import patch_loader
from segkit.train.isolation import isolated
from segkit.train.loop import FEED
from segkit.train.run import prepare, train
from segkit.train.step import make_optimiser

ON_DEVICE = 5
"""Steps between two looks at the clock on accelerators, which work while the next step is being prepared; 1 elsewhere.
As many steps of each part, and of the loop, go before those that count."""

OnProgress = Callable[[int, int, str], None]
"""Called with (done, total, what is being timed)."""


@dataclass
class TrainingCosts:
    """Seconds of a step, in the order in which each part is added to those before it."""

    parts: dict[str, list[float]] = field(default_factory=dict)
    """"network" is forward and backward on one batch that lies on the device; then come "optimiser", "loss", "reading"
    (patches as they are) and "augmentation"; "loop" is :func:`segkit.train.train`, its log included."""
    cpu: dict[str, list[float]] = field(default_factory=dict)
    """The same in CPU seconds, of all threads of this process; what worker processes do is not seen."""
    check: float = 0.0
    """What the examination of the network and a checkpoint add to the step after which they come."""
    check_cpu: float = 0.0
    """The same in CPU seconds."""
    check_every: int = 0
    """The settings' steps between them; 0 = never within the run."""
    waiting: float = 0.0
    """Seconds in which a step of the loop waits for its patches."""
    voxels: int = 0
    """Of the output, a step."""
    device: str = "cpu"
    utilisation: float | None = None
    """Share of the time in which the graphics card computed, during the loop, as its driver says; None elsewhere."""

    def seconds(self, part: str) -> float:
        """Return the seconds of the step in the middle."""
        return statistics.median(self.parts[part])

    @property
    def whole(self) -> float:
        """Seconds of a step of the loop, checks and checkpoints shared out."""
        return self.seconds("loop") + (self.check / self.check_every if self.check_every else 0.0)

    def cpu_seconds(self, part: str) -> float:
        """Return the CPU seconds of the step in the middle."""
        return statistics.median(self.cpu[part])

    @property
    def whole_cpu(self) -> float:
        """CPU seconds of a step of the loop, checks and checkpoints shared out."""
        return self.cpu_seconds("loop") + (self.check_cpu / self.check_every if self.check_every else 0.0)

    @property
    def feed(self) -> float:
        """What all but network and optimiser add, as a share of the bare network."""
        return (self.whole - self.seconds("optimiser")) / self.seconds("network")


def measure_training(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    *,
    repeat: int = 10,
    report: OnProgress = lambda done, total, text: None,
) -> TrainingCosts:
    """Time the parts of a step in turn, `repeat` times each, then as many steps of the loop in a temporary folder.

    In turn, so that a machine that slows down slows all of them. The network trains meanwhile, from its first weights,
    on one device, and with one batch a step, whatever `config` says of these.
    """
    config = TrainConfig(**{**config.model_dump(), "devices": 1, "accumulate": 1})
    device = resolve_device(config.device)
    costs = TrainingCosts(device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type)
    block = 1 if device.type == "cpu" else ON_DEVICE
    with isolated(config.seed, config.threads):
        parts = Parts(config, volumes, device)
        costs.voxels = parts.voxels
        for done in range(-1, repeat):
            report(max(done, 0), 2 * repeat, "parts")
            for name, step in parts.steps.items():
                seconds, cpu = _timed(step, block, device)
                if done >= 0:
                    costs.parts.setdefault(name, []).append(seconds)
                    costs.cpu.setdefault(name, []).append(cpu)
    config = config.model_copy(update={"patch": parts.config.patch})
    del parts  # its workers end, and its memory is free
    _measure_loop(config, volumes, repeat, block, costs, device, lambda text: report(repeat, 2 * repeat, text))
    report(2 * repeat, 2 * repeat, "")
    return costs


class Parts:
    """A network with its loss, optimiser and patches, and one step with more and more of them."""

    def __init__(self, config: TrainConfig, volumes: Sequence[TrainingVolume], device: torch.device) -> None:
        setup = prepare(config, volumes)
        self.config, self.device, self.objective = setup.config, device, setup.objective
        self.module = self.objective.module.to(device).train()
        self.optimiser = make_optimiser(self.module, self.config)
        self.plain = _batches(setup.patches, self.config, augmented=False)
        self.augmented = _batches(setup.patches, self.config, augmented=True)
        self.fixed = self._ready(next(self.plain))
        self.ones = torch.ones_like(self.objective.logits(self.fixed, self.module)) / self.fixed["target"].numel()
        self.voxels = self.fixed["mask"].numel()
        self.steps: Mapping[str, Callable[[], None]] = {
            "network": lambda: self._backward(self.fixed, whole=False),
            "optimiser": lambda: self._step(self.fixed, whole=False),
            "loss": lambda: self._step(self.fixed),
            "reading": lambda: self._step(self._ready(next(self.plain))),
            "augmentation": lambda: self._step(self._ready(next(self.augmented))),
        }

    def _ready(self, batch: RawBatch) -> Mapping[str, Tensor]:
        return self.objective.finish(batch.to(self.device))

    def _backward(self, batch: Mapping[str, Tensor], whole: bool = True) -> None:
        self.optimiser.zero_grad()
        with autocasting(self.device, self.config.precision):
            if whole:
                loss, _ = self.objective.evaluate(batch, self.module, 0)
            else:
                logits = self.objective.logits(batch, self.module)
        if whole:
            loss.backward()
            self.objective.watch.look(0)
        else:
            logits.backward(self.ones.to(logits.dtype))

    def _step(self, batch: Mapping[str, Tensor], whole: bool = True) -> None:
        self._backward(batch, whole)
        if self.config.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.config.gradient_clip)
        self.optimiser.step()


def _batches(patches: PatchDataset, config: TrainConfig, *, augmented: bool) -> Iterator[RawBatch]:
    own = copy(patches)
    own.augmented = augmented
    return iter(patch_loader(own, config, 0))


def _now() -> np.ndarray:
    """Read the clock: seconds, and CPU seconds of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def _timed(step: Callable[[], None], times: int, device: torch.device) -> list[float]:
    begin = _now()
    for _ in range(times):
        step()
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return ((_now() - begin) / times).tolist()


def _measure_loop(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    repeat: int,
    block: int,
    costs: TrainingCosts,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Time the loop, with one check and one checkpoint in the middle, beside those before the first and the last."""
    total = (repeat + 2) * block  # one block to warm up, one around the check
    middle = total // 2
    stamps: list[np.ndarray] = []
    busy: list[float] = []

    def on_step(step: int, *_: object) -> None:
        stamps.append(np.append(_now(), phases.get(FEED, 0.0)))
        say(f"loop, step {step}")
        if device.type == "cuda" and step % ON_DEVICE == 0:
            busy.extend(_utilisation(device))

    settings = {**config.model_dump(), "steps": total, "checkpoint_every": middle, "max_minutes": None}
    settings["health"] = {**settings["health"], "every": middle if config.health.every else 0}
    with TemporaryDirectory(prefix="segkit-benchmark-") as folder, listening() as phases:
        train(TrainConfig(**settings), volumes, Path(folder) / "run", on_step=on_step)
    gaps = [later - earlier for earlier, later in pairwise(stamps)]
    checked = gaps[middle - 1]  # from the end of step `middle`, before its checks, to that of the next
    others = [gap for number, gap in enumerate(gaps) if number >= block - 1 and number != middle - 1]
    plain = np.array(others) if device.type == "cpu" else np.mean(others, axis=0, keepdims=True)
    costs.parts["loop"], costs.cpu["loop"], _ = plain.T.tolist()
    costs.waiting = float(np.mean(others, axis=0)[2])
    costs.check, costs.check_cpu, _ = np.maximum(checked - np.median(plain, axis=0), 0.0).tolist()
    intervals = [every for every in (config.health.every, config.checkpoint_every) if every]
    costs.check_every = min(intervals, default=0)
    costs.utilisation = statistics.fmean(busy) if busy else None


def _utilisation(device: torch.device) -> list[float]:
    try:
        return [torch.cuda.utilization(device) / 100]
    except (ModuleNotFoundError, RuntimeError):  # it asks the driver by a package that need not be there
        return []
