"""Lightning's trainer for a run, and what it calls between the steps."""

from typing import Literal

import lightning as L
import torch
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from segkit.models.device import resolve_device
from segkit.train import distributed
from segkit.train.best import BestNetwork, Patience
from segkit.train.callbacks import Checkpoints, Journal, OnStep
from segkit.train.health import Health
from segkit.train.job import Job
from segkit.train.module import TrainingModule
from segkit.train.pictures import Pictures
from segkit.train.progress import Progress, RunFolder
from segkit.train.save import save_checkpoint, save_network
from segkit.train.validation import Validation

PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our names of precisions -> Lightning's."""

End = Literal["steps", "max_minutes", "patience"]
"""The setting that ended a run."""


def make_trainer(job: Job, folder: RunFolder, done: Progress, on_step: OnStep | None) -> L.Trainer:
    """What trains the network of `job` from `done` on, in this process."""
    config, device = job.config, resolve_device(job.config.device)
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=_places(device, config.devices),
        strategy=_strategy(),
        accumulate_grad_batches=config.accumulate,
        precision=PRECISION[config.precision],
        max_steps=config.steps,
        gradient_clip_val=config.gradient_clip,
        callbacks=_callbacks(job, folder, on_step),
        logger=_logger(folder, done.step) if distributed.rank() == 0 else False,
        default_root_dir=folder.path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def end_of(trainer: L.Trainer) -> End:
    """What ended the training that `trainer` has done."""
    if trainer.global_step >= trainer.max_steps:
        return "steps"
    early = any(each.ended_early() for each in trainer.callbacks if isinstance(each, Validation))
    return "patience" if early else "max_minutes"


def _callbacks(job: Job, folder: RunFolder, on_step: OnStep | None) -> list[L.Callback]:
    config = job.config
    journal = Journal(folder.journal, config.steps, config.log_every, on_step)
    callbacks: list[L.Callback] = [journal]
    if job.validation:  # before the checks of health, whose checkpoints hold how long the run has waited
        callbacks.append(_validation(job, folder, journal))
    if job.crop is not None:
        callbacks.append(Health(job.crop, config, journal, lambda trainer: save_checkpoint(folder.healthy, trainer)))
    callbacks.append(Checkpoints(lambda trainer, module: _save(folder, trainer, module), config.checkpoint_every))
    if job.clock is not None:
        callbacks.append(job.clock)
    return callbacks


def _places(device: torch.device, devices: int) -> list[int] | int:
    if device.type == "cuda":
        return list(range(devices)) if devices > 1 else [device.index or 0]
    return devices


def _logger(folder: RunFolder, step: int) -> TensorBoardLogger:
    return TensorBoardLogger(folder.path, name="logs", version="", purge_step=step + 1)


def _validation(job: Job, folder: RunFolder, journal: Journal) -> Validation:
    every, chosen, segmenter = job.config.validate_every, job.config.validation, job.segmenter
    pictures = Pictures(folder, segmenter)
    if segmenter is None:
        return Validation(job.validation, every, journal, on_validation=job.on_validation, pictures=pictures)
    best = BestNetwork(folder, segmenter.made_by, segmenter.digest)
    patience = Patience(chosen.patience, chosen.min_improvement)
    return Validation(job.validation, every, journal, segmenter, best, patience, job.on_validation, pictures)


def _save(folder: RunFolder, trainer: L.Trainer, module: TrainingModule) -> None:
    if distributed.rank() == 0:  # before the checkpoint: with that of the last step the run has finished
        save_network(folder.model, module, trainer.global_step)
    save_checkpoint(folder.checkpoint, trainer)


def _strategy() -> DDPStrategy | str:
    """What Lightning needs to know of the processes."""
    return DDPStrategy(cluster_environment=_Processes()) if distributed.world_size() > 1 else "auto"


class _Processes(ClusterEnvironment):
    """The processes as Lightning sees them: there already, and on one machine."""

    main_address, main_port = "localhost", 0
    creates_processes_externally = True

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return distributed.world_size()

    def global_rank(self) -> int:
        return distributed.rank()

    def local_rank(self) -> int:
        return distributed.rank()

    def node_rank(self) -> int:
        return 0

    def set_world_size(self, size: int) -> None:
        """Known already."""

    def set_global_rank(self, rank: int) -> None:
        """Known already."""
