"""Watches training: a fixed crop is predicted and examined now and then, and a collapsed network is reported."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from segkit.data import Affinities, Grid, Labels, edge_mask
from segkit.data.labels import FIRST_OUTSIDE
from segkit.health import Channel, Report, examine
from segkit.health.findings import is_uniform
from segkit.train import distributed
from segkit.train.callbacks import Journal, ends_step
from segkit.train.config import TrainConfig
from segkit.train.data import PatchDataset
from segkit.train.finite import Collapse
from segkit.train.quiet import kept_threads
from segkit.train.targets import prediction

DRAWN = 8
"""Patches among which the crop is chosen."""
EXAMINED = 96
"""Voxels of the crop along each axis that are examined at most: figures of more cost seconds and say no more."""
UNIFORM = 1e-7
"""Largest variance of a channel of a collapsed network: a standard deviation of 0.0003. Dead and saturated networks
have 0 to 5e-8; some that are about to learn pass through 1e-5."""
SMALLEST_SCALE = 1e-3
"""Factor of the loss in fp16 below which gradients vanish; it begins at 65,536 and is halved where they overflow."""
PATIENCE = 2
"""Checks in a row with uniform affinities before a network that never passed one in training has collapsed: one that
learns slowly looks alike for a while."""

Save = Callable[[L.Trainer], None]


class Health(L.Callback):
    """Checks the network before the first step, every `health.every` steps and after the last, or when training ends.

    Figures go into one line of the log; `save` is called after each check that is passed. Raises Collapse if weights
    or output are not finite, if the gradient overflows fp16 however it is scaled, or if the affinities of a channel
    have gone uniform: they were not when training began, the truth is not, the warm-up is over, and the check before
    this one was passed during training (then once is enough) or failed too. At the end once is enough as well. It is
    the network in training that is examined, for an average of weights shows a collapse late.
    """

    norms: float | Tensor
    norm: float | Tensor

    def __init__(self, crop: Mapping[str, Tensor], config: TrainConfig, journal: Journal, save: Save) -> None:
        self.crop, self.config, self.journal, self.save = crop, config, journal, save
        self.alive: list[str] | None = None
        self.failed = self.passed = 0
        self._forget()

    def state_dict(self) -> dict[str, object]:
        """What a resume needs."""
        return {"alive": self.alive, "failed": self.failed, "passed": self.passed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as if never interrupted."""
        self.alive, self.failed, self.passed = state["alive"], state["failed"], state["passed"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.alive is None:
            report = self._check(trainer, module)
            self.alive = [channel.name for channel in report.channels if not is_uniform(channel, UNIFORM)]
            self.save(trainer)

    def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, optimizer) -> None:
        gradients = [weights.grad for weights in module.network.parameters() if weights.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
        if scaler_of(trainer) is None:
            module.watch.see("the gradient", norm, trainer.global_step + 1)
        else:  # one that does not fit is nothing unusual: the step is passed over
            norm = torch.where(norm.isfinite(), norm, 0)
        self.norms = self.norms + norm
        self.norm = torch.maximum(self.norm, norm) if isinstance(self.norm, Tensor) else norm

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs, batch, batch_idx) -> None:
        self.batches += 1
        for name, part in outputs["parts"].items():
            if name.rpartition("/")[2] in ("positive", "negative"):
                self.parts[name] = self.parts.get(name, 0.0) + part
        if not ends_step(trainer, batch_idx):
            return
        self.steps += 1
        step = trainer.global_step
        if step % self.config.health.every == 0 or step == self.config.steps:
            self._check_and_save(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.steps:  # training ended between two checks
            self._check_and_save(trainer, module, last=True)

    def _check_and_save(self, trainer: L.Trainer, module: L.LightningModule, last: bool = False) -> None:
        step = trainer.global_step
        module.watch.look(step)
        _look_at_scale(trainer, step)
        self._judge(self._check(trainer, module).channels, step, last)
        if not self.failed:
            module.recovery = module.recovery.passed(step)
            self.save(trainer)

    def _judge(self, channels: tuple[Channel, ...], step: int, last: bool = False) -> None:
        uniform = [channel for channel in channels if is_uniform(channel, UNIFORM)]
        alive = self.alive or []
        lost = [channel for channel in uniform if channel.name in alive]
        self.alive = alive + [c.name for c in channels if c.name not in alive and c not in uniform]
        self.failed = self.failed + 1 if lost else 0
        enough = self.passed or self.failed >= PATIENCE or last or step == self.config.steps
        if not lost:
            self.passed += 1
        elif enough and step > self.config.warmup_steps:
            raise _uniform(lost, step)

    def _check(self, trainer: L.Trainer, module: L.LightningModule) -> Report:
        """Examine the crop, and write the figures and those collected since the last check into the log.

        The first process does; what it finds, or raises, is what all of them find.
        """
        report = distributed.on_rank_zero(lambda: self._examine(trainer, module))
        self._forget()
        return report

    def _examine(self, trainer: L.Trainer, module: L.LightningModule) -> Report:
        step = trainer.global_step
        if not all(torch.isfinite(weights).all() for weights in module.network.parameters()):
            raise Collapse("the weights", f"are not finite after step {step}", step)
        health = self.config.health
        stride = (1,) * (3 - module.network.ndim) + tuple(module.network.stride)
        affinities, labels = self._predict(trainer, module)
        with kept_threads():
            report = examine(
                affinities,
                labels,
                stride=stride,
                fragmenter=health.fragmenter,
                parameters=health.fragmenter_parameters,
            )
        figures = {f"health/{name}": value for name, value in {**report.flat(), **self._collected()}.items()}
        self.journal.write(trainer, step, figures)
        return report

    def _predict(self, trainer: L.Trainer, module: L.LightningModule) -> tuple[Affinities, Labels]:
        batch = trainer.strategy.batch_to_device(dict(self.crop))
        state = torch.get_rng_state()
        module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            seen = prediction(batch, module.predict(batch), module.neighborhood)
        module.train()
        torch.set_rng_state(state)
        window = _central(seen.labels.shape[1:])
        values = torch.where(seen.edges, seen.affinities, 0.0)[0, :, *window].cpu().numpy()
        values = np.where(edge_mask(values.shape[1:], module.neighborhood), values, np.float32(0))
        if not np.isfinite(values).all():
            step = trainer.global_step
            raise Collapse("the output of the network", f"is not finite after step {step}", step)
        ids, mask = (each[0, *window].cpu().numpy() for each in (seen.labels, seen.mask))
        labels = Labels(np.where(mask, ids.astype(np.uint64), FIRST_OUTSIDE), Grid())
        return Affinities(values, module.neighborhood, Grid()), labels

    def _collected(self) -> dict[str, float]:
        """Means since the last check: gradient norm, and the share of wrong splits in the loss (0.5 = balanced)."""
        if not self.steps:
            return {}
        figures = {"gradient_norm": float(self.norms) / self.steps, "gradient_norm_max": float(self.norm)}
        for name, positive in self.parts.items():
            head = name.removesuffix("positive")
            negative = self.parts.get(f"{head}negative")
            if name != head and negative is not None:
                total = float(positive) + float(negative)
                figures[f"{head}balance"] = float(positive) / total if total else 0.5
        return figures

    def _forget(self) -> None:
        self.parts: dict[str, float | Tensor] = {}
        self.norms = 0.0
        self.norm = 0.0
        self.steps = self.batches = 0


def scaler_of(trainer: L.Trainer) -> torch.amp.GradScaler | None:
    """What scales the gradients of fp16; None in other precisions."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _look_at_scale(trainer: L.Trainer, step: int) -> None:
    scaler = scaler_of(trainer)
    if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
        raise Collapse("the gradient", f"overflows fp16 however it is scaled, after step {step}", step)


def _central(shape: Sequence[int]) -> tuple[slice, ...]:
    """The middle of a volume, with at most EXAMINED voxels along each axis."""
    starts = [max(size - EXAMINED, 0) // 2 for size in shape]
    return tuple(slice(start, start + min(size, EXAMINED)) for start, size in zip(starts, shape, strict=True))


def choose_crop(patches: PatchDataset) -> dict[str, Tensor]:
    """Of the first few patches the one whose true affinities vary most, in the channel where they vary least."""
    return max((patches.batch([k]) for k in range(DRAWN)), key=_least_variance)


def _least_variance(batch: Mapping[str, Tensor]) -> float:
    pairs = zip(batch["target"][0], batch["edges"][0], strict=True)
    return min((float(target[edges].var(correction=0)) for target, edges in pairs if edges.any()), default=0.0)


def _uniform(channels: list[Channel], step: int) -> Collapse:
    figures = ", ".join(f"{c.name} has variance {c.variance:.1g} around {c.mean:.3g}" for c in channels)
    return Collapse("the affinities", f"are uniform after step {step} ({figures})", step)
