"""A training run: from settings and volumes to a folder with a network in it."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, default_collate

from segkit.errors import BrokenComponent, SegkitError, StorageError, sentence
from segkit.losses.combined import parse_loss
from segkit.models.device import resolve_device
from segkit.protocols import Loss, Model
from segkit.registry import find
from segkit.train.callbacks import Checkpoints, Clock, Journal, OnStep, Validation
from segkit.train.config import TrainConfig
from segkit.train.dataset import PatchDataset, TrainingVolume
from segkit.train.finite import Collapse
from segkit.train.health import Health, choose_crop
from segkit.train.module import TrainingModule
from segkit.train.patch import fit_patch
from segkit.train.progress import Progress, RunFolder
from segkit.train.quiet import own_random_state, quiet_lightning
from segkit.train.recovery import describe, recover, with_elementwise
from segkit.train.resume import read_progress, refuse_old_run, trim_journal
from segkit.train.save import replace_whole, save_network

PRECISION = {"32": "32-true", "bf16": "bf16-mixed"}
"""Our names of precisions -> Lightning's."""


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    steps: int
    """Steps done in all, those before a resume included; fewer than asked for if the clock stopped the run."""
    first_loss: float
    """Mean over the first line of the log, that is the first `log_every` steps of the run."""
    last_loss: float
    """Mean over the last line of the log."""
    validation_loss: float | None
    """The last one, or None without validation volumes."""
    seconds: float
    """Wall time of this call."""
    model: Path
    """The network to infer with; read it by :func:`segkit.models.checkpoint.load_model`."""
    checkpoint: Path
    """What a resume reads."""
    recoveries: int = 0
    """How often the run went back to a healthy checkpoint, before a resume too."""


@dataclass(frozen=True)
class _Job:
    config: TrainConfig
    module: TrainingModule
    patches: PatchDataset
    loss: Loss
    """That of the settings, without what recoveries add."""
    crop: dict[str, torch.Tensor] | None
    """What checks of health predict; None without them."""
    clock: Clock | None
    """What ends the run in time, recoveries included; None without `max_minutes`."""
    validation: list[dict[str, torch.Tensor]] = field(default_factory=list)


def train(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    run: Path,
    *,
    validation: Sequence[TrainingVolume] = (),
    resume: bool = False,
    on_step: OnStep | None = None,
    on_recovery: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a network on `volumes` and leave it, with everything that a resume needs, in the folder `run`.

    Writes config.json, model.safetensors, checkpoints/last.ckpt, metrics.jsonl and logs/ (TensorBoard). On a CPU,
    equal settings and volumes give equal weights, resumed or not, at any number of workers and an equal number of
    threads; `max_minutes` and accelerators give that up.

    Every `health.every` steps a fixed crop is examined. If its affinities have gone uniform, or if output, loss,
    gradient or weights are not finite, the run goes back to the last healthy checkpoint (checkpoints/healthy.ckpt),
    lowers the learning rate or adds mse to the loss, and goes on with patches that it has not seen;
    `on_recovery(sentence)` is told. Where that has failed `health.retries` times in a row it ends with TrainingFailed,
    and the last healthy network is in model.safetensors. A healthy run comes out the same with and without checks.

    `on_step(step, total, loss, parts, steps_per_second)` is called after every step. Raises InvalidInput if `run`
    holds anything and `resume` is False, or if the run has already finished; CheckpointMismatch if a resume asks for
    another network or optimiser; InvalidShape if a volume is too small for the patch; StorageError if writing fails
    (what was written before stays whole).
    """
    begin = time.perf_counter()
    folder = RunFolder(Path(run))
    if not resume:
        refuse_old_run(folder.path)
    with own_random_state(config.seed, config.threads), quiet_lightning():
        job = _prepare(config, volumes, validation)
        done = read_progress(folder, job.config) if resume else Progress()
        replace_whole(folder.config, lambda half: half.write_text(job.config.model_dump_json(indent=2) + "\n"))
        steps = _fit_and_recover(job, folder, done, on_step, on_recovery)
    return _result(folder, steps, time.perf_counter() - begin, job.module.recovery.count)


def _prepare(config: TrainConfig, volumes: Sequence[TrainingVolume], validation: Sequence[TrainingVolume]) -> _Job:
    resolve_device(config.device)  # an absent one is refused before anything is written
    component = find("models", config.model)
    ndim = component.load().ndim
    neighborhood = config.offsets(ndim)
    network = component.create(channels=len(neighborhood), **config.model_parameters)
    if not isinstance(network, torch.nn.Module):
        raise BrokenComponent(sentence(f"model {config.model!r}", "must be a torch.nn.Module", type(network).__name__))
    patch = fit_patch(network, config.patch)
    loss = parse_loss(config.loss, config.loss_parameters, backend=config.loss_backend)
    config = TrainConfig(
        **{**config.model_dump(), "neighborhood": neighborhood.tolist(), "patch": patch.output[3 - ndim :]}
    )
    patches = PatchDataset(config, volumes, patch, neighborhood)
    patches[0]  # data without any usable patch are refused before anything is written
    module = TrainingModule(network, loss, neighborhood, config)
    crop = _crop(config, network, volumes, neighborhood) if config.health.every else None
    clock = Clock(config.max_minutes) if config.max_minutes is not None else None
    if not validation:
        return _Job(config, module, patches, loss, crop, clock)
    fixed = PatchDataset(config, validation, patch, neighborhood, purpose="validation")
    batches = [default_collate([fixed[k]]) for k in range(config.validation_patches)]
    return _Job(config, module, patches, loss, crop, clock, batches)


def _crop(config: TrainConfig, network: Model, volumes: Sequence[TrainingVolume], neighborhood) -> dict:
    health = config.health
    find("fragmenters", health.fragmenter).create(**health.fragmenter_parameters)  # a wrong name is refused at once
    patch = fit_patch(network, health.crop or config.patch)
    return choose_crop(PatchDataset(config, volumes, patch, neighborhood, purpose="health"))


def _fit_and_recover(
    job: _Job, folder: RunFolder, done: Progress, on_step: OnStep | None, on_recovery: Callable[[str], None] | None
) -> int:
    config, module = job.config, job.module
    trim_journal(folder.journal, -1 if done.checkpoint is None else done.step)
    while True:
        module.watch.forget()
        module.recovery = done.recovery
        module.loss = with_elementwise(job.loss, config.loss, done.recovery.elementwise)
        try:
            return _fit(job, folder, done, on_step)
        except Collapse as collapse:
            done = recover(folder, module, collapse)
            if on_recovery is not None:
                on_recovery(describe(collapse, done, config.health))


def _fit(job: _Job, folder: RunFolder, done: Progress, on_step: OnStep | None) -> int:
    config = job.config
    trainer = _trainer(job, folder, done, on_step)
    try:
        trainer.fit(
            job.module,
            train_dataloaders=patch_loader(job.patches, config, done.patches),
            ckpt_path=done.checkpoint,
            weights_only=True,
        )
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    except SegkitError as error:
        if config.workers and "DataLoader worker" in str(error):  # torch puts a traceback before the sentence
            raise type(error)(str(error).strip().splitlines()[-1].partition(": ")[2]) from None
        raise
    except OSError as error:  # of the logger, say
        next_step = "free space or check permissions, then resume"
        raise StorageError(
            sentence(f"run {str(folder.path)!r}", f"cannot be written ({error})", None, next_step)
        ) from error
    finally:
        trainer.logger.finalize("success")
    return trainer.global_step


def _trainer(job: _Job, folder: RunFolder, done: Progress, on_step: OnStep | None) -> L.Trainer:
    config, device = job.config, resolve_device(job.config.device)
    journal = Journal(folder.journal, config.steps, config.log_every, on_step)
    callbacks: list[L.Callback] = [journal]
    if job.crop is not None:
        callbacks.append(
            Health(job.crop, config, journal, lambda trainer: replace_whole(folder.healthy, trainer.save_checkpoint))
        )
    if job.validation:
        callbacks.append(Validation(job.validation, config.validate_every, journal))
    callbacks.append(Checkpoints(lambda trainer, module: _save(folder, trainer, module), config.checkpoint_every))
    if job.clock is not None:
        callbacks.append(job.clock)
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=PRECISION[config.precision],
        max_steps=config.steps,
        gradient_clip_val=config.gradient_clip,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder.path, name="logs", version="", purge_step=done.step + 1),
        default_root_dir=folder.path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


class _From:
    """The numbers from `first` on, without end: Lightning ends at `max_steps`, and takes no length into account."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self):
        return count(self.first)


def patch_loader(patches: PatchDataset, config: TrainConfig, first: int) -> DataLoader:
    """Batches of the patches from number `first` on, without end.

    It has a generator of its own, so that torch's random state is left to the network.
    """
    return DataLoader(
        patches,
        batch_size=config.batch_size,
        sampler=_From(first),
        num_workers=config.workers,
        generator=torch.Generator(),
    )


def _save(folder: RunFolder, trainer: L.Trainer, module: TrainingModule) -> None:
    replace_whole(folder.checkpoint, trainer.save_checkpoint)
    save_network(folder.model, module, trainer.global_step)


def _result(folder: RunFolder, steps: int, seconds: float, recoveries: int) -> TrainResult:
    lines = [json.loads(line) for line in folder.journal.read_text().splitlines()] if folder.journal.exists() else []
    losses = [line["loss"] for line in lines if "loss" in line] or [float("nan")]
    validated = [line["validation_loss"] for line in lines if "validation_loss" in line]
    last = validated[-1] if validated else None
    return TrainResult(steps, losses[0], losses[-1], last, seconds, folder.model, folder.checkpoint, recoveries)
