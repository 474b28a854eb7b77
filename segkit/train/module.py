"""One step of training, for Lightning: patch in, loss out."""

import math
from collections.abc import Callable
from dataclasses import asdict

import lightning as L
import numpy as np
import torch
from torch import Tensor

from segkit.errors import BrokenComponent, InvalidInput, sentence
from segkit.protocols import Loss
from segkit.train.config import TrainConfig
from segkit.train.finite import FiniteWatch
from segkit.train.progress import Recovery
from segkit.train.quiet import kept_threads
from segkit.train.targets import prediction

LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Order in memory that convolutions are fastest with; it changes no result but the last bits."""


class TrainingModule(L.LightningModule):
    """A network, its loss and its optimiser."""

    def __init__(self, network: torch.nn.Module, loss: Loss, neighborhood: np.ndarray, config: TrainConfig) -> None:
        super().__init__()
        self.layout = LAYOUT[network.ndim]
        self.network = network.to(memory_format=self.layout)
        self.loss, self.neighborhood, self.config = loss, neighborhood, config
        self.random_state: dict[str, object] | None = None
        self.patches = 0
        self.watch = FiniteWatch()
        self.recovery = Recovery()

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """The logits of a batch."""
        return self.network(batch["raw"].contiguous(memory_format=self.layout))

    def evaluate(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its parts; `watch` sees whether they are finite."""
        step = self.global_step + self.training
        logits = self.predict(batch)
        seen = prediction(batch, logits, self.neighborhood)
        if seen.logits.shape != seen.target.shape:
            rule = f"must give the output it promised, of shape {tuple(seen.target.shape)}"
            raise BrokenComponent(sentence(f"model {self.config.model!r}", rule, tuple(seen.logits.shape)))
        self.watch.see("the output of the network", logits, step)
        try:
            with kept_threads():
                loss, parts = self.loss(seen)
        except InvalidInput:  # of affinities that are NaN, say, which on an accelerator nobody has looked at yet
            self.watch.look(step)
            raise
        self.watch.see("the loss", loss, step)
        return loss, parts

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, object]:
        loss, parts = self.evaluate(batch)
        self.patches += len(batch["raw"])
        return {"loss": loss, "parts": parts}

    def configure_optimizers(self) -> dict[str, object]:
        config = self.config
        adam = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, betas=config.betas, eps=config.epsilon
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(adam, learning_rate_factor(config, self.recovery.factor))
        return {"optimizer": adam, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), "cuda": cuda}
        checkpoint["patches"] = self.patches
        checkpoint["recovery"] = asdict(self.recovery)

    def on_load_checkpoint(self, checkpoint: dict[str, object]) -> None:
        self.random_state, self.patches = checkpoint["random_state"], checkpoint["patches"]

    def on_train_start(self) -> None:
        if self.random_state is None:
            return
        torch.set_rng_state(self.random_state["cpu"].cpu())
        if self.random_state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(self.random_state["cuda"].cpu(), self.device)


def learning_rate_factor(config: TrainConfig, lowered: float = 1.0) -> Callable[[int], float]:
    """By what the learning rate is multiplied in step n, counted from 0; `lowered` is what recoveries make of it."""

    def factor(step: int) -> float:
        warm = lowered * (min((step + 1) / config.warmup_steps, 1) if config.warmup_steps else 1)
        if config.schedule == "constant":
            return warm
        done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
        return warm * (1 + math.cos(math.pi * min(max(done, 0), 1))) / 2

    return factor
