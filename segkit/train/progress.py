"""Where a run keeps its files, how far it has come, and what recoveries have changed in it."""

from dataclasses import dataclass, replace
from pathlib import Path

from segkit.train.config import HealthConfig


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings, defaults filled in."""
        return self.path / "config.json"

    @property
    def card(self) -> Path:
        """Settings, versions, data and hardware, so that the run can be repeated."""
        return self.path / "card.json"

    @property
    def model(self) -> Path:
        """The network after the latest checkpoint."""
        return self.path / "model.safetensors"

    @property
    def best(self) -> Path:
        """The network of the best CREMI score on the validation volumes."""
        return self.path / "best.safetensors"

    @property
    def best_scores(self) -> Path:
        """Its step, scores, threshold and what segmented it."""
        return self.path / "best.json"

    @property
    def checkpoint(self) -> Path:
        """Weights, optimiser, schedule, step, position of the sampler, random state, recoveries."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def healthy(self) -> Path:
        """The same after the last check of health that was passed."""
        return self.path / "checkpoints" / "healthy.ckpt"

    @property
    def picture(self) -> Path:
        """Curves of the run, and what the last validation saw."""
        return self.path / "progress.png"

    @property
    def validation(self) -> Path:
        """Affinities, fragments and segmentation of the last validation."""
        return self.path / "validation.h5"

    @property
    def journal(self) -> Path:
        """Losses, figures of health and recoveries, one JSON object a line."""
        return self.path / "metrics.jsonl"


@dataclass(frozen=True)
class Recovery:
    """What recoveries have changed in a run; every checkpoint holds it."""

    count: int = 0
    """Recoveries in all."""
    tries: int = 0
    """Recoveries since a check was last passed beyond the step of the last collapse."""
    factor: float = 1.0
    """What they made of the learning rate."""
    elementwise: float = 0.0
    """The mse that they added to the loss."""
    until: int = 0
    """Step of the last collapse."""

    def passed(self, step: int) -> "Recovery":
        """After a check that was passed at `step`."""
        return replace(self, tries=0) if step > self.until else self

    def next(self, step: int, health: HealthConfig) -> "Recovery":
        """After one more collapse, at `step`."""
        lower = health.on_collapse == "lower-learning-rate"
        return Recovery(
            self.count + 1,
            self.tries + 1,
            self.factor * (health.factor if lower else 1),
            self.elementwise + (0 if lower else health.elementwise),
            step,
        )


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    """Steps done."""
    patches: int = 0
    """Patches seen; the sampler goes on with the next."""
    checkpoint: Path | None = None
    """What to go on from; None begins anew."""
    recovery: Recovery = Recovery()
    """What recoveries have changed so far."""
    waited: int = 0
    """Validations in a row, up to here, without a better score."""
