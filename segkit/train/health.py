"""Watches training for a collapse: numbers that are not finite, affinities of a fixed crop that have gone uniform."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from segkit.data import Affinities, Grid, Labels, edge_mask
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import TrainingFailed, sentence
from segkit.health import Channel, HealthFigures, examine
from segkit.health.findings import is_uniform
from segkit.train import distributed
from segkit.train.config import TrainConfig
from segkit.train.data import PatchDataset
from segkit.train.isolation import kept_random_state, kept_threads

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from segkit.train.journal import Journal
    from segkit.train.step import Objective

ADVICE = "lower learning_rate, set gradient_clip, or add '+0.1*mse' to the loss"
DRAWN = 8
"""Patches among which the crop is chosen."""
EXAMINED = 96
"""Voxels of the crop along each axis that are examined at most: figures of more cost seconds and say no more."""
UNIFORM = 1e-7
"""Largest variance of a channel of a collapsed network: a standard deviation of 0.0003. Dead and saturated networks
have 0 to 5e-8; some that are about to learn pass through 1e-5."""
SMALLEST_SCALE = 1e-3
"""Factor of the loss in fp16 below which gradients vanish; it begins at 65,536 and is halved where they overflow."""
CHECKS_IN_A_ROW = 2
"""Checks with uniform affinities before a network that never passed one in training has collapsed: one that
learns slowly looks alike for a while."""


class Collapse(TrainingFailed):
    """Training cannot go on from here: it goes back to where it was healthy, or ends with this error."""

    def __init__(self, what: str, rule: str, step: int) -> None:
        super().__init__(sentence(what, rule, None, ADVICE))
        self.what, self.rule, self.seen, self.step = what, rule, f"{what} {rule}", step

    def __reduce__(self) -> tuple[type["Collapse"], tuple[str, str, int]]:
        return type(self), (self.what, self.rule, self.step)


class FiniteWatch:
    """Remembers what was not finite since it last looked.

    On a CPU it looks at once, unless `deferred`. On accelerators that would make the host wait for the device in every
    step, so it collects flags there until :meth:`look` is called. So it does in each of several processes, all of
    which must look together: what one has seen is seen by all.
    """

    def __init__(self, deferred: bool = False) -> None:
        self.deferred = deferred
        self.forget()

    def forget(self) -> None:
        """Forget what was seen: it was of a network that is no more."""
        self.flags: dict[str, Tensor] = {}
        self.since: int | None = None

    def see(self, what: str, values: Tensor, step: int) -> None:
        """Take note of `values` of step `step`, counted from 1."""
        bad = ~torch.isfinite(values.detach()).all()
        self.flags[what] = self.flags[what] | bad if what in self.flags else bad
        self.since = step if self.since is None else self.since
        if values.device.type == "cpu" and not self.deferred and distributed.world_size() == 1:
            self.look(step)

    def suspects(self) -> bool:
        """Say whether this process has seen anything since it last looked."""
        return any(map(bool, self.flags.values()))

    def look(self, step: int) -> None:
        """Raise Collapse if anything up to step `step` was not finite; what came first in a step is named."""
        flags, since = distributed.any_over_ranks(self.flags), self.since
        self.forget()
        for what, bad in flags.items():
            if bad:
                raise Collapse(f"{what} {_range(since or step, step)}", "is not finite", step)


class Health:
    """Checks the network before the first step, every `health.every` steps and after the last, or when training ends.

    Figures go into one line of the log. A check raises Collapse if weights or output are not finite, if the gradient
    overflows fp16 however it is scaled, or if the affinities of a channel have gone uniform: they were not when
    training began, the truth is not, the warm-up is over, and the check before this one was passed during training
    (then once is enough) or failed too. At the end once is enough as well. It is the network in training that is
    examined, for an average of weights shows a collapse late.
    """

    norms: float | Tensor
    norm: float | Tensor
    steps: int

    def __init__(
        self,
        crop: Mapping[str, Tensor],
        config: TrainConfig,
        objective: "Objective",
        fabric: "Fabric",
        journal: "Journal",
    ) -> None:
        self.crop, self.config, self.objective, self.fabric, self.journal = crop, config, objective, fabric, journal
        self.alive: list[str] | None = None
        self.failed = self.passed = 0
        self._forget()

    def state(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {"alive": self.alive, "failed": self.failed, "passed": self.passed}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on as if never interrupted."""
        self.alive, self.failed, self.passed = state["alive"], state["failed"], state["passed"]

    def begin(self, step: int) -> bool:
        """Examine a network that was never checked, to know which channels are alive. Returns whether that was so."""
        if self.alive is not None:
            return False
        report = self._check(step)
        self.alive = [channel.name for channel in report.channels if not is_uniform(channel, UNIFORM)]
        return True

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Take note of the parts of the loss of a batch."""
        for name, part in parts.items():
            if name.rpartition("/")[2] in ("positive", "negative"):
                self.parts[name] = self.parts.get(name, 0.0) + part

    def end_step(self, norm: Tensor, step: int) -> None:
        """Take note of the norm of the gradient of step `step`, counted from 1, before the weights change by it."""
        if self._scaler is None:
            self.objective.watch.see("the gradient", norm, step)
        else:  # one that does not fit is nothing unusual: the step is passed over
            norm = torch.where(norm.isfinite(), norm, 0)
        self.norms = self.norms + norm
        self.norm = torch.maximum(self.norm, norm) if isinstance(self.norm, Tensor) else norm
        self.steps += 1

    def check(self, step: int, last: bool = False) -> bool:
        """Check the network after `step` steps; `last` if training ends here. Returns whether it is well."""
        self.objective.watch.look(step)
        if self._scaler is not None and self._scaler.get_scale() < SMALLEST_SCALE:
            raise Collapse("the gradient", f"overflows fp16 however it is scaled, after step {step}", step)
        self._judge(self._check(step).channels, step, last)
        return not self.failed

    def _judge(self, channels: Sequence[Channel], step: int, last: bool = False) -> None:
        uniform = [channel for channel in channels if is_uniform(channel, UNIFORM)]
        alive = self.alive or []
        lost = [channel for channel in uniform if channel.name in alive]
        self.alive = alive + [c.name for c in channels if c.name not in alive and c not in uniform]
        self.failed = self.failed + 1 if lost else 0
        enough = self.passed or self.failed >= CHECKS_IN_A_ROW or last or step == self.config.steps
        if not lost:
            self.passed += 1
        elif enough and step > self.config.warmup_steps:
            raise _uniform(lost, step)

    def _check(self, step: int) -> HealthFigures:
        """Examine the crop, and write the figures and those collected since the last check into the log.

        Rank 0 does; what it finds, or raises, is what all of them find.
        """
        report = distributed.on_rank_zero(lambda: self._examine(step))
        self._forget()
        return report

    def _examine(self, step: int) -> HealthFigures:
        network, health = self.objective.module.network, self.config.health
        check_weights(network, step)
        stride = (1,) * (3 - network.ndim) + tuple(network.stride)
        affinities, labels = self._predict(step)
        with kept_threads():
            report = examine(
                affinities,
                labels,
                stride=stride,
                fragmenter=health.fragmenter,
                parameters=health.fragmenter_parameters,
            )
        figures = {f"health/{name}": value for name, value in {**report.flat(), **self._collected()}.items()}
        self.journal.write(step, figures)
        return report

    def _predict(self, step: int) -> tuple[Affinities, Labels]:
        objective = self.objective
        batch = self.fabric.to_device(dict(self.crop))
        objective.module.eval()
        with kept_random_state(torch.device("cpu")), torch.no_grad(), self.fabric.autocast():
            seen = objective.prediction(batch, objective.module.network)
        objective.module.train()
        window = _central(seen.labels.shape[1:])
        values = torch.where(seen.edges, seen.affinities, 0.0)[0, :, *window].cpu().numpy()
        values = np.where(edge_mask(values.shape[1:], objective.neighborhood), values, np.float32(0))
        if not np.isfinite(values).all():
            raise Collapse("the output of the network", f"is not finite after step {step}", step)
        ids, mask = (each[0, *window].cpu().numpy() for each in (seen.labels, seen.mask))
        labels = Labels(np.where(mask, ids.astype(np.uint64), FIRST_OUTSIDE), Grid())
        return Affinities(values, objective.neighborhood, Grid()), labels

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
        self.norms = self.norm = 0.0
        self.steps = 0

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return getattr(self.fabric.strategy.precision, "scaler", None)


def check_weights(network: torch.nn.Module, step: int) -> None:
    """Raise Collapse if weights of the network are not finite after `step` steps."""
    if not all(torch.isfinite(weights).all() for weights in network.parameters()):
        raise Collapse("the weights", f"are not finite after step {step}", step)


def _central(shape: Sequence[int]) -> tuple[slice, ...]:
    """Find the middle of a volume, with at most EXAMINED voxels along each axis."""
    starts = [max(size - EXAMINED, 0) // 2 for size in shape]
    return tuple(slice(start, start + min(size, EXAMINED)) for start, size in zip(starts, shape, strict=True))


def choose_crop(patches: PatchDataset) -> dict[str, Tensor]:
    """Choose of the first few patches the one whose true affinities vary most, in the channel where they vary least."""
    return max((patches.batch([k]) for k in range(DRAWN)), key=_least_variance)


def _least_variance(batch: Mapping[str, Tensor]) -> float:
    pairs = zip(batch["target"][0], batch["edges"][0], strict=True)
    return min((float(target[edges].var(correction=0)) for target, edges in pairs if edges.any()), default=0.0)


def _uniform(channels: list[Channel], step: int) -> Collapse:
    figures = ", ".join(f"{c.name} has variance {c.variance:.1g} around {c.mean:.3g}" for c in channels)
    return Collapse("the affinities", f"are uniform after step {step} ({figures})", step)


def _range(first: int, last: int) -> str:
    """Put the steps into words.

    >>> _range(3, 3), _range(11, 20)
    ('at step 3', 'in one of the steps 11 to 20')
    """
    return f"at step {first}" if first >= last else f"in one of the steps {first} to {last}"
