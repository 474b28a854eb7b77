"""The training loop: what happens in a step, and between two steps."""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from segkit.errors import SegkitError
from segkit.protocols import Loss
from segkit.timing import phase
from segkit.train import distributed
from segkit.train.augment.finish import RawBatch
from segkit.train.checkpoint import (
    RunFolder,
    TrainingProgress,
    load_optimiser,
    load_weights,
    read_checkpoint,
    save_network,
    write_checkpoint,
)
from segkit.train.config import TrainConfig
from segkit.train.data import PatchDataset
from segkit.train.feed import patch_loader
from segkit.train.health import Health, check_weights
from segkit.train.journal import Journal, OnStep
from segkit.train.recovery import with_elementwise
from segkit.train.step import Batch, Objective, learning_rate_factor, make_optimiser
from segkit.train.validate import OnValidation, Validation, ValidationData

FEED = "waiting for patches"
"""The phase in which a step waits for what it trains on."""
End = Literal["steps", "max_minutes", "patience"]
"""The setting that ended a run."""


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything that a run trains with."""

    config: TrainConfig
    """The settings, what follows from the volumes filled in."""
    objective: Objective
    """The network and its loss."""
    patches: PatchDataset
    """What it trains on."""
    loss: Loss
    """That of the settings, without what recoveries add."""
    crop: Batch | None = None
    """What checks of health predict; None without them."""
    validation: ValidationData | None = None
    """What the network is validated on; None without validation volumes."""


class Clock:
    """Says when the minutes of a run are over, without a limit never; what a recovery takes counts."""

    def __init__(self, minutes: float | None) -> None:
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.begin: float | None = None

    def start(self) -> None:
        """Start the clock, unless it runs already."""
        self.begin = time.monotonic() if self.begin is None else self.begin

    def is_over(self) -> bool:
        """Say whether the time has passed; rank 0 decides for all."""
        return self.seconds < math.inf and distributed.on_rank_zero(self._has_passed)

    def _has_passed(self) -> bool:
        return self.begin is not None and time.monotonic() - self.begin >= self.seconds


class Loop:
    """Trains the network of `setup` in this process, once from each place that :meth:`run` is told to begin at."""

    def __init__(
        self,
        setup: Setup,
        folder: RunFolder,
        on_step: OnStep | None = None,
        on_validation: OnValidation | None = None,
    ) -> None:
        from segkit.train.fabric import make_fabric  # slow to import

        self.setup, self.folder, self.on_step, self.on_validation = setup, folder, on_step, on_validation
        self.config, self.objective = setup.config, setup.objective
        self.module = self.objective.module
        self.adam = make_optimiser(self.module, self.config)
        self.fabric = make_fabric(self.config)
        self.network, self.optimiser = self.fabric.setup(self.module, self.adam)
        self.clock = Clock(self.config.max_minutes)

    def run(self, start: TrainingProgress) -> End:
        """Train from `start` to the end, and say what ended it. Raises Collapse where training cannot go on."""
        self.journal = Journal(self.folder, self.config, start.step, self.on_step)
        try:
            self._begin(start)
            with closing(patch_loader(self.setup.patches, self.config, start.patches)) as batches:
                end = None
                while end is None:
                    self._train_step(batches)
                    end = self._after_step()
            return self._finish(end)
        finally:
            self.journal.close()

    def progress(self) -> TrainingProgress:
        """Say how far it has come."""
        return TrainingProgress(self.step, self.patches, None, self.recovery)

    def _begin(self, start: TrainingProgress) -> None:
        """Make what watches the steps, and take everything from the checkpoint of `start`, if there is one."""
        config, setup = self.config, self.setup
        self.step, self.patches, self.recovery, self.saved = start.step, start.patches, start.recovery, -1
        self.rate = learning_rate_factor(config, self.recovery.factor)
        self.objective.watch.forget()
        self.objective.loss = with_elementwise(setup.loss, config.loss, self.recovery.elementwise)
        shared = (self.objective, self.fabric, self.journal)
        self.health = None if setup.crop is None else Health(setup.crop, config, *shared)
        self.validation = None
        if setup.validation is not None:
            self.validation = Validation(setup.validation, self.folder, *shared, self.on_validation)
        if start.checkpoint is not None:
            self._restore(read_checkpoint(start.checkpoint))
        self.module.train()
        if self.health is not None and self.health.begin(self.step):
            self._write_checkpoint(self.folder.healthy)
        self.clock.start()

    def _train_step(self, batches: Iterator[RawBatch]) -> None:
        """Update the weights once, by the mean gradient of `accumulate` batches."""
        config, objective, step = self.config, self.objective, self.step + 1
        self.optimiser.zero_grad()
        for number in range(config.accumulate):
            with phase(FEED):
                read = _next(batches, config)
            batch = objective.finish(read.to(self.fabric.device))
            more = number + 1 < config.accumulate
            with self.fabric.no_backward_sync(self.network, enabled=more), self.fabric.autocast():
                loss, parts = objective.evaluate(batch, self.network, step)
                self.patches += config.batch_size
                self.fabric.backward(loss / config.accumulate)
            self.journal.add(loss, parts)
            if self.health is not None:
                self.health.add(parts)
        longest = math.inf if config.gradient_clip is None else config.gradient_clip
        norm = self.fabric.clip_gradients(self.network, self.optimiser, max_norm=longest, error_if_nonfinite=False)
        if self.health is not None:
            self.health.end_step(norm, step)
        for group in self.adam.param_groups:
            group["lr"] = config.learning_rate * self.rate(self.step)
        self.optimiser.step()
        if self.module.average is not None:
            self.module.average.update(self.module.network, step)
        self.step = step

    def _after_step(self) -> End | None:
        """Log, validate, check and save as far as it is time, and say what ends training now, if anything does."""
        config, step = self.config, self.step
        last, stops = step == config.steps, False
        self.journal.end_step(step, self._learning_rate(), self.objective.watch)
        if self.validation is not None and (last or step % config.validate_every == 0):
            stops = self.validation.run(step)
        if self.health is not None and (last or step % config.health.every == 0):
            self._check_health()
        if step % config.checkpoint_every == 0:
            self._save()
        over = self.clock.is_over()
        return "steps" if last else "patience" if stops else "max_minutes" if over else None

    def _finish(self, end: End) -> End:
        """Do what is still to be done after the last step."""
        self.journal.flush(self.step, self._learning_rate())
        if end == "max_minutes" and self.validation is not None and self.validation.run(self.step):
            end = "patience"
        if self.health is not None and self.health.steps:
            self._check_health(last=True)
        self._save()
        return end

    def _check_health(self, last: bool = False) -> None:
        assert self.health is not None
        if self.health.check(self.step, last):
            self.recovery = self.recovery.passed(self.step)
            self._write_checkpoint(self.folder.healthy)

    def _save(self) -> None:
        """Write network and checkpoint, once a step; the network first: with its last checkpoint a run has finished."""
        if self.saved == self.step:
            return
        check_weights(self.module.network, self.step)
        if distributed.rank() == 0:
            save_network(self.folder.model, self.objective, self.step)
        self._write_checkpoint(self.folder.checkpoint)
        self.saved = self.step

    def _write_checkpoint(self, path: Path) -> None:
        checkpoint = self.checkpoint()  # by all ranks: they put together what the journal holds
        if distributed.rank() == 0:
            write_checkpoint(path, checkpoint)

    def checkpoint(self) -> dict[str, Any]:
        """Return all that a resume needs, as plain values and tensors."""
        device = self.fabric.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return {
            "global_step": self.step,
            "patches": self.patches,
            "state_dict": self.module.state_dict(),
            "optimizer": self.adam.state_dict(),
            "learning_rate": self.config.learning_rate,
            "recovery": asdict(self.recovery),
            "random_state": {"cpu": torch.get_rng_state(), "cuda": cuda},
            "health": None if self.health is None else self.health.state(),
            "early_stopping": None if self.validation is None else self.validation.state(),
            "scaler": self.fabric.strategy.precision.state_dict() or None,
            "journal": self.journal.state(),
        }

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        """Take what :meth:`checkpoint` has kept."""
        same_loss = load_weights(self.module, checkpoint["state_dict"])
        weights = None if same_loss else len(list(self.module.network.parameters()))
        load_optimiser(self.adam, checkpoint["optimizer"], weights)
        if checkpoint["scaler"]:
            self.fabric.strategy.precision.load_state_dict(checkpoint["scaler"])
        if self.health is not None and checkpoint["health"]:
            self.health.load(checkpoint["health"])
        if self.validation is not None and checkpoint["early_stopping"]:
            self.validation.load(checkpoint["early_stopping"])
        if checkpoint.get("journal"):  # earlier versions kept none
            self.journal.load(checkpoint["journal"])
        random_state = checkpoint["random_state"]
        torch.set_rng_state(random_state["cpu"])
        if random_state["cuda"] is not None and self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(random_state["cuda"], self.fabric.device)

    def _learning_rate(self) -> float:
        """Return that of the next step."""
        return self.config.learning_rate * self.rate(self.step)


def _next(batches: Iterator[RawBatch], config: TrainConfig) -> RawBatch:
    """Fetch a batch. Of an error in a worker process the sentence is kept, without the traceback that torch adds."""
    try:
        return next(batches)
    except SegkitError as error:
        if config.workers and "DataLoader worker" in str(error):
            raise type(error)(str(error).strip().splitlines()[-1].partition(": ")[2]) from None
        raise
