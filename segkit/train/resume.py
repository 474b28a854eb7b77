"""Going on with a run that was interrupted."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from segkit.errors import CheckpointMismatch, InvalidInput, MissingFile, StorageError, sentence
from segkit.train.config import TrainConfig, ValidationConfig
from segkit.train.progress import Progress, Recovery, RunFolder
from segkit.train.save import replace_whole

VALIDATION = "Validation"
"""Under which name a checkpoint holds what validation remembers."""
FIXED = ("model", "model_parameters", "neighborhood", "voxel_size", "descriptors", "betas", "epsilon")
"""Settings that live on in the checkpoint: a resume cannot change them. It may change all others."""


LEFT_OVER = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
"""Names of files that were being written when a run was killed."""


def refuse_old_run(path: Path) -> None:
    """Raise InvalidInput if there is anything at `path`: a new run overwrites nothing.

    What a run that was killed before it had written any file has left over does not count.
    """
    if path.exists() and (not path.is_dir() or any(not LEFT_OVER.fullmatch(item.name) for item in path.iterdir())):
        rule = "must be a new or empty folder"
        raise InvalidInput(sentence("run", rule, f"{str(path)!r}", "choose another --out, or --resume to go on"))


def read_progress(folder: RunFolder, config: TrainConfig) -> Progress:
    """How far the run in `folder` has come; nowhere if it ended before its first checkpoint.

    That is the later of the last checkpoint and the last healthy one, unless a run that was killed just then would have
    ended with the latter: then it comes to its end again.

    The checkpoint is read without executing code from it. Raises MissingFile if there is no run, CheckpointMismatch
    if `config` does not fit it, InvalidInput if it has finished, StorageError if a file is damaged.
    """
    if not folder.config.exists():
        next_step = "check its path, or train without --resume"
        raise MissingFile(sentence("run", "must be the folder of an earlier run", f"{str(folder.path)!r}", next_step))
    _refuse_changes(folder.config, config)
    progress = _progress(folder.checkpoint, config) if folder.checkpoint.exists() else Progress()
    if progress.step >= config.steps:
        next_step = f"set steps above {progress.step} to train further"
        raise InvalidInput(
            sentence(f"run {str(folder.path)!r}", f"has finished its {config.steps} steps", None, next_step)
        )
    _refuse_ended(folder, progress, config.validation)
    healthy = _progress(folder.healthy, config) if folder.healthy.exists() else progress
    later = progress.checkpoint is None or progress.step < healthy.step
    unfinished = healthy.step < config.steps and not _ended_early(healthy, config.validation)
    return healthy if later and unfinished else progress


def remove_left_over(path: Path) -> None:
    """Remove the temporary files that a killed run left in its folder."""
    for item in [*path.glob("*"), *path.glob("checkpoints/*")]:
        if LEFT_OVER.fullmatch(item.name) and item.is_file():
            item.unlink(missing_ok=True)


def trim_journal(path: Path, step: int) -> None:
    """Drop the lines after `step` from a log, all if it is negative: they will be written again."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step(line) <= step]
    replace_whole(path, lambda half: half.write_text("".join(line + "\n" for line in kept)))


def _refuse_changes(path: Path, config: TrainConfig) -> None:
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise StorageError(sentence(str(path), f"is damaged ({error})", None, "start a new run")) from error
    now = json.loads(config.model_dump_json())
    for name in FIXED:
        if before.get(name) != now[name]:
            rule = f"must be that of the run that is resumed, {before.get(name)!r}"
            next_step = "use that, or start a new run with another --out"
            raise CheckpointMismatch(sentence(name, rule, repr(now[name]), next_step))


def _progress(path: Path, config: TrainConfig) -> Progress:
    checkpoint = read_checkpoint(path)
    recovery = Recovery(**checkpoint.get("recovery", {}))
    if _learning_rate(checkpoint) not in (None, config.learning_rate):  # the new one is meant as it is
        recovery = replace(recovery, factor=1.0, tries=0)
    waited = checkpoint.get("callbacks", {}).get(VALIDATION, {}).get("waited", 0)
    return Progress(checkpoint["global_step"], checkpoint["patches"], path, recovery, waited)


def _learning_rate(checkpoint: dict) -> float | None:
    """That of the settings which a checkpoint was made with; schedule and recoveries multiply it."""
    return next((scheduler["base_lrs"][0] for scheduler in checkpoint.get("lr_schedulers", ())), None)


def _refuse_ended(folder: RunFolder, progress: Progress, validation: ValidationConfig) -> None:
    if _ended_early(progress, validation):
        rule = f"has ended early, after {progress.step} steps"
        next_step = f"set validation.patience above {progress.waited}, or to 0, to train further"
        raise InvalidInput(sentence(f"run {str(folder.path)!r}", rule, None, next_step))


def _ended_early(progress: Progress, validation: ValidationConfig) -> bool:
    return validation.segmentation and 0 < validation.patience <= progress.waited


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, without executing anything from it. Raises StorageError if it is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        next_step = "restore it from a copy, or start a new run"
        raise StorageError(
            sentence(str(path), f"is no checkpoint that can be read ({error})", None, next_step)
        ) from error


def _step(line: str) -> int:
    try:
        return json.loads(line)["step"]
    except ValueError:  # a line that was cut off when the run was killed
        return 2**63
