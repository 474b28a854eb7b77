"""A training run: from settings and volumes to a folder with a network in it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segkit.errors import SegkitError, StorageError, sentence
from segkit.models.device import resolve_device
from segkit.train import distributed
from segkit.train.best import Best, read_best
from segkit.train.callbacks import OnStep
from segkit.train.card import make_card
from segkit.train.config import TrainConfig
from segkit.train.data import TrainingVolume, patch_loader
from segkit.train.distributed import launched, threads_per_process
from segkit.train.finite import Collapse
from segkit.train.job import Job, prepare
from segkit.train.progress import Progress, RunFolder
from segkit.train.quiet import own_random_state, quiet_lightning
from segkit.train.recovery import describe, recover, with_elementwise
from segkit.train.resume import read_progress, refuse_old_run, remove_left_over, trim_journal
from segkit.train.save import replace_whole
from segkit.train.trainer import End, end_of, make_trainer
from segkit.train.validation import OnValidation


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    steps: int
    """Steps done in all, those before a resume included; fewer than asked for if something else `ended_by`."""
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
    best: Best | None = None
    """The network of the best CREMI score, which is in best.safetensors; None without validation by segmentation."""
    ended_by: End = "steps"
    """What ended the run: all its steps were done, the clock, or the patience of validation."""


def train(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    run: Path,
    *,
    validation: Sequence[TrainingVolume] = (),
    resume: bool = False,
    source: Mapping[str, object] | None = None,
    on_card: Callable[[Mapping[str, object]], None] | None = None,
    on_step: OnStep | None = None,
    on_recovery: Callable[[str], None] | None = None,
    on_validation: OnValidation | None = None,
) -> TrainResult:
    """Train a network on `volumes` and leave it, with everything that a resume needs, in the folder `run`.

    Writes card.json, config.json, model.safetensors, checkpoints/last.ckpt, metrics.jsonl and logs/ (TensorBoard). On a
    CPU, equal settings and volumes give equal weights, resumed or not, at any number of workers and an equal number of
    threads; `max_minutes` and accelerators give that up. With `devices` above 1 other processes train beside this one,
    each on its share of the patches of a batch; this one alone writes, validates and reports.

    Every `health.every` steps a fixed crop is examined. If its affinities have gone uniform, or if output, loss,
    gradient or weights are not finite, the run goes back to the last healthy checkpoint (checkpoints/healthy.ckpt),
    lowers the learning rate or adds mse to the loss, and goes on with patches that it has not seen;
    `on_recovery(sentence)` is told. Where that has failed `health.retries` times in a row it ends with TrainingFailed,
    and the last healthy network is in model.safetensors. A healthy run comes out the same with and without checks.

    Every `validate_every` steps the `validation` volumes are segmented: affinities, fragments, a merge tree, and the
    threshold at which the CREMI score is best. The network of the best score is kept in best.safetensors, with its
    scores and threshold, which are in best.json too; with `validation.patience` the run ends where it gains no more.
    `on_validation(step, values)` is told. Validation changes nothing in training.

    card.json says what the run was made of: settings, versions, fingerprints of the volumes, hardware, and `source`,
    where the volumes were read; `on_card(card)` is told before training begins.

    `on_step(step, total, loss, parts, steps_per_second)` is called after every step. Raises InvalidInput if `run`
    holds anything and `resume` is False, or if the run has already finished; CheckpointMismatch if a resume asks for
    another network or optimiser; InvalidShape if a volume is too small for the patch; StorageError if writing fails
    (what was written before stays whole).
    """
    begin = time.perf_counter()
    folder = RunFolder(Path(run))
    if not resume:
        refuse_old_run(folder.path)
    with own_random_state(config.seed, threads_per_process(config)), quiet_lightning():
        job = prepare(config, volumes, validation, on_validation)
        done = read_progress(folder, job.config) if resume else Progress()
        remove_left_over(folder.path)
        card = make_card(job.config, volumes, validation, source)
        replace_whole(folder.config, lambda half: half.write_text(job.config.model_dump_json(indent=2) + "\n"))
        replace_whole(folder.card, lambda half: half.write_text(json.dumps(card, indent=2) + "\n"))
        if on_card is not None:
            on_card(card)
        device = resolve_device(config.device).type
        with launched(config.devices, device, _train_on_rank, job.config, volumes, validation, folder, done):
            steps, end = _fit_and_recover(job, folder, done, on_step, on_recovery)
    return _result(folder, steps, end, time.perf_counter() - begin, job.module.recovery.count)


def _train_on_rank(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
    folder: RunFolder,
    done: Progress,
) -> None:
    """What each process beside the first does."""
    with own_random_state(config.seed, threads_per_process(config)), quiet_lightning():
        _fit_and_recover(prepare(config, volumes, validation), folder, done, None, None)


def _fit_and_recover(
    job: Job, folder: RunFolder, done: Progress, on_step: OnStep | None, on_recovery: Callable[[str], None] | None
) -> tuple[int, End]:
    config, module = job.config, job.module
    distributed.on_rank_zero(lambda: trim_journal(folder.journal, -1 if done.checkpoint is None else done.step))
    while True:
        module.watch.forget()
        module.recovery = done.recovery
        module.loss = with_elementwise(job.loss, config.loss, done.recovery.elementwise)
        try:
            return _fit(job, folder, done, on_step)
        except Collapse as collapse:
            done = distributed.on_rank_zero(partial(recover, folder, module, collapse))
            if on_recovery is not None:
                on_recovery(describe(collapse, done, config.health))


def _fit(job: Job, folder: RunFolder, done: Progress, on_step: OnStep | None) -> tuple[int, End]:
    config = job.config
    trainer = make_trainer(job, folder, done, on_step)
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
        for logger in trainer.loggers:
            logger.finalize("success")
    return trainer.global_step, end_of(trainer)


def _result(folder: RunFolder, steps: int, end: End, seconds: float, recoveries: int) -> TrainResult:
    lines = [json.loads(line) for line in folder.journal.read_text().splitlines()] if folder.journal.exists() else []
    losses = [line["loss"] for line in lines if "loss" in line] or [float("nan")]
    validated = [line["validation_loss"] for line in lines if "validation_loss" in line]
    last = validated[-1] if validated else None
    paths = (folder.model, folder.checkpoint)
    return TrainResult(steps, losses[0], losses[-1], last, seconds, *paths, recoveries, read_best(folder), end)
