"""What happens between the steps: progress, log, checkpoints, the clock."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from segkit.io.atomic import storage_errors
from segkit.train import distributed
from segkit.train.finite import Collapse

OnStep = Callable[[int, int, float, Mapping[str, float], float], None]
"""Called after every step with (step, total, loss, parts, steps per second); on accelerators loss and parts are those
of the last step that was looked at, so that no step waits for the device."""


def ends_step(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the weights were updated after this batch: with `accumulate`, the gradients of several are awaited."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class Journal(L.Callback):
    """Writes means over `every` steps to `path`, one JSON object a line, and to the logger; calls `on_step`.

    Of several processes the first one writes, means over all.
    """

    def __init__(self, path: Path, total: int, every: int, on_step: OnStep | None) -> None:
        self.path, self.total, self.every, self.on_step = path, total, every, on_step
        self.sums: dict[str, float | Tensor] = {}
        self.latest: dict[str, float] = {}
        self.batches, self.steps, self.since = 0, 0, time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.since = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx) -> None:
        step, ended = trainer.global_step, ends_step(trainer, batch_idx)
        values = {"loss": outputs["value"], **outputs["parts"]}
        written = ended and (step % self.every == 0 or step == self.total)
        if written or not self.latest or outputs["value"].device.type == "cpu":
            if ended:
                module.watch.look(step)
            values = self.latest = {name: float(value) for name, value in values.items()}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.batches += 1
        if ended:
            self._end_step(trainer, step, written)

    def _end_step(self, trainer: L.Trainer, step: int, written: bool) -> None:
        self.steps += 1
        rate = self.steps / max(time.perf_counter() - self.since, 1e-9)
        if written:
            self._flush(trainer, rate)
        if self.on_step is not None:
            parts = dict(self.latest)
            self.on_step(step, self.total, parts.pop("loss"), parts, rate)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.steps:  # the clock stopped the run between two lines
            self._flush(trainer, self.steps / max(time.perf_counter() - self.since, 1e-9))

    def _flush(self, trainer: L.Trainer, rate: float) -> None:
        means = {name: float(value) / self.batches for name, value in self.sums.items()}
        means = distributed.mean_over_ranks(means)
        values = {**means, "learning_rate": _learning_rate(trainer), "steps_per_second": rate}
        self.write(trainer, trainer.global_step, values)
        self.sums, self.batches, self.steps, self.since = {}, 0, 0, time.perf_counter()

    def write(self, trainer: L.Trainer, step: int, values: Mapping[str, float | str]) -> None:
        """Add a line of named values; texts go into the file alone."""
        if distributed.rank():
            return
        with storage_errors("written", self.path), self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        trainer.logger.log_metrics({name: value for name, value in values.items() if not isinstance(value, str)}, step)


class Checkpoints(L.Callback):
    """Calls `save(trainer, module)` every `every` steps and when training ends in good order."""

    def __init__(self, save: Callable[[L.Trainer, L.LightningModule], None], every: int) -> None:
        self.save, self.every, self.saved = save, every, -1

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx) -> None:
        if trainer.global_step % self.every == 0 and ends_step(trainer, batch_idx):
            self._save(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._save(trainer, module)

    def _save(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.saved == trainer.global_step:
            return
        if not all(torch.isfinite(weights).all() for weights in module.network.parameters()):
            step = trainer.global_step
            raise Collapse("the weights", f"are not finite after step {step}", step)
        self.save(trainer, module)
        self.saved = trainer.global_step


class Clock(L.Callback):
    """Asks the trainer to stop once `minutes` have passed since training began; going back does not set it back."""

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.begin: float | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.begin = time.monotonic() if self.begin is None else self.begin

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx) -> None:
        if ends_step(trainer, batch_idx) and distributed.on_rank_zero(self._is_over):
            trainer.should_stop = True

    def _is_over(self) -> bool:
        return self.begin is not None and time.monotonic() - self.begin >= self.seconds


def _learning_rate(trainer: L.Trainer) -> float:
    return trainer.optimizers[0].param_groups[0]["lr"]
