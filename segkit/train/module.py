"""One step of training, for Lightning: patch in, loss out."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from segkit.errors import BrokenComponent, InvalidInput, sentence
from segkit.losses.descriptors import ShapeDescriptors, descriptor_error
from segkit.protocols import Loss
from segkit.train import distributed
from segkit.train.augment.finish import RawBatch, finish
from segkit.train.averaging import Average, adapt
from segkit.train.config import TrainConfig
from segkit.train.finite import FiniteWatch
from segkit.train.progress import Recovery
from segkit.train.quiet import kept_threads
from segkit.train.targets import prediction, with_sections
from segkit.train.voxels import UNKNOWN, Voxels

LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Order in memory that convolutions are fastest with; it changes no result but the last bits."""


class TrainingModule(L.LightningModule):
    """A network, its loss and its optimiser."""

    def __init__(
        self,
        network: torch.nn.Module,
        loss: Loss,
        neighborhood: np.ndarray,
        config: TrainConfig,
        voxels: Voxels = UNKNOWN,
    ) -> None:
        super().__init__()
        self.voxels = voxels
        self.descriptors = voxels.descriptors(config, network.ndim)
        self.layout = LAYOUT[network.ndim]
        self.network = network.to(memory_format=self.layout)
        averaging = config.averaging
        self.average = Average(self.network, averaging.decay, averaging.start) if averaging else None
        self.loss, self.neighborhood, self.config = loss, neighborhood, config
        self.random_state: dict[str, Any] | None = None
        self.patches = 0
        self.watch = FiniteWatch()
        self.recovery = Recovery()

    def on_after_batch_transfer(self, batch: RawBatch | dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Augmentation and targets, on the device; batches that are finished pass."""
        if not isinstance(batch, RawBatch):
            return batch
        return finish(batch, self.neighborhood, components=self.config.components)

    @property
    def kept_network(self) -> torch.nn.Module:
        """What is saved and validated: the network of averaged weights, if they are averaged."""
        return self.network if self.average is None else self.average.network

    def predict(self, batch: dict[str, Tensor], network: torch.nn.Module | None = None) -> Tensor:
        """The logits of a batch; of the network in training if no other is given."""
        return (network or self.network)(batch["raw"].contiguous(memory_format=self.layout))

    def evaluate(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its parts, else of the kept network; `watch` sees whether all is finite."""
        step = self.global_step + self.training
        logits = self.predict(batch, self.network if self.training else self.kept_network)
        seen = prediction(batch, logits, self.neighborhood)
        self._check_shape(with_sections(logits), seen.target)
        self.watch.see("the output of the network", logits, step)
        try:
            with kept_threads():
                loss, parts = self.loss(seen)
        except InvalidInput:  # of affinities that are NaN, say, which on an accelerator nobody has looked at yet
            if distributed.world_size() > 1 and self.watch.suspects():  # the others will see it when all look
                loss = logits.sum() * float("nan")
                self.watch.see("the loss", loss, step)  # all have flags of the same names
                return loss, {}
            self.watch.look(step)
            raise
        if self.descriptors is not None and self.config.descriptors is not None:
            error = _descriptor_error(self.descriptors, batch, logits)
            loss, parts = loss + self.config.descriptors.weight * error, parts | {"descriptors": error.detach()}
        self.watch.see("the loss", loss, step)
        return loss, parts

    def _check_shape(self, logits: Tensor, target: Tensor) -> None:
        expected = list(target.shape)
        expected[1] += getattr(self.network, "auxiliary", 0)
        if list(logits.shape) != expected:
            rule = f"must give the output it promised, of shape {tuple(expected)}"
            raise BrokenComponent(sentence(f"model {self.config.model!r}", rule, tuple(logits.shape)))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, object]:
        loss, parts = self.evaluate(batch)
        self.patches += len(batch["raw"]) * distributed.world_size()
        return {"loss": loss, "value": loss.detach(), "parts": parts}  # Lightning divides the first by `accumulate`

    def optimizer_step(self, *arguments, **named) -> None:
        super().optimizer_step(*arguments, **named)
        if self.average is not None:
            self.average.update(self.network, self.global_step + 1)

    def configure_optimizers(self) -> dict[str, object]:
        config = self.config
        adam = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, betas=config.betas, eps=config.epsilon
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(adam, learning_rate_factor(config, self.recovery.factor))
        return {"optimizer": adam, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), "cuda": cuda}
        checkpoint["patches"] = self.patches
        checkpoint["recovery"] = asdict(self.recovery)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.random_state, self.patches = checkpoint["random_state"], checkpoint["patches"]
        adapt(checkpoint["state_dict"], self.average is not None)
        set_learning_rate(checkpoint, self.config, self.recovery.factor)  # a resume may change what it follows from

    def on_fit_start(self) -> None:  # before callbacks begin to train: one of them may save a checkpoint then
        if self.random_state is None:
            return
        torch.set_rng_state(self.random_state["cpu"].cpu())
        if self.random_state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(self.random_state["cuda"].cpu(), self.device)


def set_learning_rate(checkpoint: dict, config: TrainConfig, lowered: float) -> None:
    """Make the learning rate of a checkpoint that of the settings, times what recoveries make of it."""
    rate = config.learning_rate * learning_rate_factor(config, lowered)(checkpoint["global_step"])
    for scheduler in checkpoint["lr_schedulers"]:
        scheduler |= {"base_lrs": [config.learning_rate], "_last_lr": [rate]}
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        group |= {"lr": rate, "initial_lr": config.learning_rate}


def learning_rate_factor(config: TrainConfig, lowered: float = 1.0) -> Callable[[int], float]:
    """By what the learning rate is multiplied in step n, counted from 0; `lowered` is what recoveries make of it."""

    def factor(step: int) -> float:
        warm = lowered * (min((step + 1) / config.warmup_steps, 1) if config.warmup_steps else 1)
        if config.schedule == "constant":
            return warm
        done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
        return warm * (1 + math.cos(math.pi * min(max(done, 0), 1))) / 2

    return factor


def _descriptor_error(descriptors: ShapeDescriptors, batch: dict[str, Tensor], logits: Tensor) -> Tensor:
    predicted = with_sections(logits)[:, -descriptors.channels :]
    return descriptor_error(predicted, descriptors(batch["labels"]), batch["labels"], batch["mask"])
