"""The folder of a run: its files, its checkpoints, and how an interrupted run goes on from them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from segkit.errors import CheckpointMismatch, InvalidInput, MissingFile, StorageError, sentence
from segkit.io.atomic import LEFT_OVER, replacing, storage_errors
from segkit.io.json_file import read_json_object
from segkit.io.lock import RUN_LOCK
from segkit.models.checkpoint import model_bytes
from segkit.train.config import HealthConfig, TrainConfig, ValidationConfig

if TYPE_CHECKING:
    from segkit.train.step import Objective, Trainable

FORMAT_VERSION = 2
"""Of checkpoints. Version 1 was written by Lightning's trainer, which says no version of ours; it is read too."""
AVERAGE, LOSS = "average.", "loss."
"""Under which names a checkpoint holds the average of the weights, and what losses have learned."""
FIXED = ("model", "model_parameters", "neighborhood", "voxel_size", "descriptors", "betas", "epsilon")
"""Settings that live on in the checkpoint: a resume cannot change them. It may change all others."""


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
        """Weights, optimiser, step, position of the sampler, random state, recoveries."""
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
    def tensorboard(self) -> Path:
        """The same for TensorBoard, if it is installed."""
        return self.path / "logs"

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
        """Return it after a check that was passed at `step`."""
        return replace(self, tries=0) if step > self.until else self

    def next(self, step: int, health: HealthConfig) -> "Recovery":
        """Return it after one more collapse, at `step`."""
        lower = health.on_collapse == "lower-learning-rate"
        return Recovery(
            self.count + 1,
            self.tries + 1,
            self.factor * (health.factor if lower else 1),
            self.elementwise + (0 if lower else health.elementwise),
            step,
        )


@dataclass(frozen=True)
class TrainingProgress:
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
    ended_by: Literal["steps", "patience"] | None = None
    """What has ended the run here; None if it can go on."""


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new file, then move it to `path`, so that no half file ever has that name."""
    with storage_errors("written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as half:
            write(half)


def save_network(path: Path, objective: "Objective", steps: int, validation: Mapping[str, Any] | None = None) -> None:
    """Write the network, as it is after `steps` steps, in the form that inference reads: the average, if there is one.

    `validation` are its scores on the validation volumes and what they were segmented by.
    """
    config = objective.config
    content = model_bytes(
        objective.module.kept_network,
        name=config.model,
        parameters=config.model_parameters,
        neighborhood=objective.neighborhood,
        extra={"steps": steps, "loss": config.loss, "patch": list(config.patch or ())}
        | objective.voxels.to_infer(config)
        | ({"validation": dict(validation)} if validation else {}),
    )
    replace_whole(path, lambda half: half.write_bytes(content))


def write_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint, which holds plain values and tensors. See :meth:`segkit.train.loop.Loop.checkpoint`."""
    replace_whole(path, lambda half: torch.save({"format_version": FORMAT_VERSION, **checkpoint}, half))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything from it. Raises StorageError if it is damaged, or of the future."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        found = found if "format_version" in found else _upgraded(found)
    except Exception as error:  # torch raises whatever comes, where a file is damaged
        next_step = "restore it from a copy, or start a new run"
        raise StorageError(
            sentence(str(path), f"is no checkpoint that can be read ({str(error).partition('.')[0]})", None, next_step)
        ) from error
    if found["format_version"] != FORMAT_VERSION:
        rule, value = f"must be a checkpoint of version {FORMAT_VERSION} or 1", found["format_version"]
        raise StorageError(sentence(str(path), rule, value, "resume with the segkit that wrote it, or a newer one"))
    return found


def _upgraded(found: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a checkpoint of version 1 into the present form."""
    states = found["callbacks"]
    kept = {name: found[name] for name in ("global_step", "patches", "state_dict", "random_state")}
    return kept | {
        "format_version": FORMAT_VERSION,
        "optimizer": found["optimizer_states"][0],
        "learning_rate": found["lr_schedulers"][0]["base_lrs"][0],
        "recovery": found.get("recovery", {}),
        "health": states.get("Health"),
        "early_stopping": states.get("Validation"),
        "scaler": found.get("MixedPrecision"),
    }


def load_weights(module: "Trainable", weights: Mapping[str, Tensor]) -> bool:
    """Load the weights of a checkpoint into `module`. Returns whether those that its losses learn were among them.

    A resume may begin or cease to average, and exchange the loss: an average begins with the weights, a loss anew.
    """
    own = module.state_dict()
    weights = dict(weights)
    if not any(name.startswith(AVERAGE) for name in weights):
        weights |= {f"{AVERAGE}{name}": value for name, value in weights.items() if name.startswith("network.")}
    if module.average is None:
        weights = {name: value for name, value in weights.items() if not name.startswith(AVERAGE)}
    before, now = (
        {name: value.shape for name, value in each.items() if name.startswith(LOSS)} for each in (weights, own)
    )
    if before != now:
        weights = {name: value for name, value in weights.items() if name not in before}
        weights |= {name: own[name] for name in now}
    module.load_state_dict(weights)
    return before == now


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any], weights: int | None = None) -> None:
    """Load what a checkpoint holds of the optimiser; of the first `weights` weights alone, if a number is given.

    The learning rate and its other settings are not taken from there.
    """
    kept = {number: each for number, each in state["state"].items() if weights is None or number < weights}
    optimiser.load_state_dict({"state": kept, "param_groups": optimiser.state_dict()["param_groups"]})


def refuse_old_run(path: Path) -> None:
    """Raise InvalidInput if there is anything at `path`: a new run overwrites nothing.

    What a run that was killed before it had written any file has left over does not count.
    """
    names = [item.name for item in path.iterdir()] if path.is_dir() else []
    occupied = any(name != RUN_LOCK and not LEFT_OVER.fullmatch(name) for name in names)
    if occupied or (path.exists() and not path.is_dir()):
        rule = "must be a new or empty folder"
        raise InvalidInput(sentence("run", rule, f"{str(path)!r}", "choose another --out, or --resume to go on"))


def read_progress(folder: RunFolder, config: TrainConfig) -> TrainingProgress:
    """Read how far the run in `folder` has come; nowhere if it ended before its first checkpoint.

    That is the later of the last checkpoint and the last healthy one, unless a run that was killed just then would have
    ended with the latter: then it comes to its end again.

    The checkpoint is read without executing code from it. Raises MissingFile if there is no run, CheckpointMismatch
    if `config` does not fit it, StorageError if a file is damaged.
    """
    if not folder.config.exists():
        next_step = "check its path, or train without --resume"
        raise MissingFile(sentence("run", "must be the folder of an earlier run", f"{str(folder.path)!r}", next_step))
    _refuse_changes(folder.config, config)
    progress = _progress(folder.checkpoint, config) if folder.checkpoint.exists() else TrainingProgress()
    if progress.step >= config.steps:
        return replace(progress, ended_by="steps")
    if _ended_early(progress, config.validation):
        return replace(progress, ended_by="patience")
    healthy = _progress(folder.healthy, config) if folder.healthy.exists() else progress
    later = progress.checkpoint is None or progress.step < healthy.step
    unfinished = healthy.step < config.steps and not _ended_early(healthy, config.validation)
    return healthy if later and unfinished else progress


def trim_journal(path: Path, step: int) -> None:
    """Drop the lines after `step` from a log, all if it is negative: they will be written again."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step(line) <= step]
    replace_whole(path, lambda half: half.write_text("".join(line + "\n" for line in kept)))


def _refuse_changes(path: Path, config: TrainConfig) -> None:
    before = read_json_object(path)
    now = json.loads(config.model_dump_json())
    for name in FIXED:
        if before.get(name) != now[name]:
            rule = f"must be that of the run that is resumed, {before.get(name)!r}"
            next_step = "use that, or start a new run with another --out"
            raise CheckpointMismatch(sentence(name, rule, repr(now[name]), next_step))


def _progress(path: Path, config: TrainConfig) -> TrainingProgress:
    checkpoint = read_checkpoint(path)
    recovery = Recovery(**checkpoint["recovery"])
    if checkpoint["learning_rate"] != config.learning_rate:  # the new one is meant as it is
        recovery = replace(recovery, factor=1.0, tries=0)
    waited = (checkpoint["early_stopping"] or {}).get("waited", 0)
    return TrainingProgress(checkpoint["global_step"], checkpoint["patches"], path, recovery, waited)


def _ended_early(progress: TrainingProgress, validation: ValidationConfig) -> bool:
    return validation.segmentation and 0 < validation.patience <= progress.waited


def _step(line: str) -> int:
    try:
        return json.loads(line)["step"]
    except (ValueError, LookupError, TypeError):  # a line that was cut off when the run was killed
        return 2**63
