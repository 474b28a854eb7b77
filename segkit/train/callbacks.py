"""What happens between the steps: progress, log, validation, checkpoints, the clock."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from segkit.io.atomic import storage_errors
from segkit.train.finite import Collapse

OnStep = Callable[[int, int, float, Mapping[str, float], float], None]
"""Called after every step with (step, total, loss, parts, steps per second); on accelerators loss and parts are those
of the last step that was looked at, so that no step waits for the device."""


class Journal(L.Callback):
    """Writes means over `every` steps to `path`, one JSON object a line, and to the logger; calls `on_step`."""

    def __init__(self, path: Path, total: int, every: int, on_step: OnStep | None) -> None:
        self.path, self.total, self.every, self.on_step = path, total, every, on_step
        self.sums: dict[str, float | Tensor] = {}
        self.latest: dict[str, float] = {}
        self.steps, self.since = 0, time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.since = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        values = {"loss": outputs["loss"].detach(), **outputs["parts"]}
        written = step % self.every == 0 or step == self.total
        if written or not self.latest or outputs["loss"].device.type == "cpu":
            module.watch.look(step)
            values = self.latest = {name: float(value) for name, value in values.items()}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
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
        means = {name: float(value) / self.steps for name, value in self.sums.items()}
        values = {**means, "learning_rate": _learning_rate(trainer), "steps_per_second": rate}
        self.write(trainer, trainer.global_step, values)
        self.sums, self.steps, self.since = {}, 0, time.perf_counter()

    def write(self, trainer: L.Trainer, step: int, values: Mapping[str, float]) -> None:
        """Add a line of named values."""
        with storage_errors("written", self.path), self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        trainer.logger.log_metrics(dict(values), step)


class Validation(L.Callback):
    """The mean loss over fixed batches, every `every` steps and after the last."""

    def __init__(self, batches: Iterable[Mapping[str, Tensor]], every: int, journal: Journal) -> None:
        self.batches, self.every, self.journal = batches, every, journal

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        if step % self.every and step != self.journal.total:
            return
        state = torch.get_rng_state()
        module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            losses = [float(self._loss(trainer, module, item)) for item in self.batches]
        module.train()
        torch.set_rng_state(state)
        self.journal.write(trainer, step, {"validation_loss": sum(losses) / len(losses)})

    def _loss(self, trainer: L.Trainer, module: L.LightningModule, batch: Mapping[str, Tensor]) -> Tensor:
        return module.evaluate(trainer.strategy.batch_to_device(batch))[0]


class Checkpoints(L.Callback):
    """Calls `save(trainer, module)` every `every` steps and when training ends in good order."""

    def __init__(self, save: Callable[[L.Trainer, L.LightningModule], None], every: int) -> None:
        self.save, self.every, self.saved = save, every, -1

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx) -> None:
        if trainer.global_step % self.every == 0:
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
        self.seconds, self.begin = 60 * minutes, None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.begin = time.monotonic() if self.begin is None else self.begin

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx) -> None:
        if time.monotonic() - self.begin >= self.seconds:
            trainer.should_stop = True


def _learning_rate(trainer: L.Trainer) -> float:
    return trainer.optimizers[0].param_groups[0]["lr"]
