"""A training run: from settings and volumes to a folder with a network in it."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
import torch

from segkit.errors import BrokenComponent, SegkitWarning, sentence
from segkit.io.atomic import tidy
from segkit.io.lock import locked_run
from segkit.losses.combined import parse_loss
from segkit.models.device import resolve_device, resolve_precision
from segkit.models.size import TRAINED, check_size
from segkit.parameters import convert
from segkit.protocols import Model
from segkit.registry import find
from segkit.train import distributed
from segkit.train.card import make_card
from segkit.train.checkpoint import (
    RunFolder,
    TrainingProgress,
    read_progress,
    refuse_old_run,
    replace_whole,
    trim_journal,
)
from segkit.train.config import TrainConfig
from segkit.train.data import PatchDataset, TrainingVolume
from segkit.train.distributed import check_devices, launched, threads_per_process
from segkit.train.health import Collapse, choose_crop
from segkit.train.isolation import isolated
from segkit.train.journal import OnStep
from segkit.train.loop import End, Loop, Setup
from segkit.train.patch import check_reach, fit_patch, name_of, resolve_patch
from segkit.train.recovery import describe, recover
from segkit.train.scoring import Segmenter
from segkit.train.step import Batch, Objective, Trainable
from segkit.train.validate import Best, OnValidation, ValidationData, read_best
from segkit.train.voxels import Voxels, brightest_of, hollow, ranged, resampled, unlike_values, voxels_of


@dataclass(frozen=True)
class Listeners:
    """Functions that are told how a run goes on; each may be missing."""

    on_card: Callable[[Mapping[str, object]], None] | None = None
    """Called with the card of the run before training begins."""
    on_step: OnStep | None = None
    """Called with (step, total, loss, parts, steps per second) after every step."""
    on_recovery: Callable[[str], None] | None = None
    """Called with a sentence after every recovery from a collapse."""
    on_validation: OnValidation | None = None
    """Called with (step, values) after every validation."""


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
    already: bool = False
    """Whether it had ended before this call, which did nothing."""


def train(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    run: Path,
    *,
    validation: Sequence[TrainingVolume] = (),
    resume: bool = False,
    source: Mapping[str, object] | None = None,
    **listeners: Any,
) -> TrainResult:
    """Train a network on `volumes` and leave it, with everything that a resume needs, in the folder `run`.

    Writes card.json, config.json, model.safetensors, checkpoints/last.ckpt, metrics.jsonl and, if TensorBoard is
    installed, logs/. On a CPU, equal settings and volumes give equal weights, resumed or not, at any number of workers
    and an equal number of threads; `max_minutes` and accelerators give that up. With `devices` above 1 other processes
    train beside this one, each on its share of the patches of a batch; this one alone writes, validates and reports.

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
    where the volumes were read; `on_card(card)` is told before training begins. `listeners` are the
    functions of :class:`Listeners`, by name.

    `on_step(step, total, loss, parts, steps_per_second)` is called after every step. A resumed run that has ended, as
    its settings say, is left alone, and the result says so. Raises InUse if another process trains in `run`;
    InvalidInput if `run` holds anything and `resume` is False; CheckpointMismatch if a resume asks for another network
    or optimiser; InvalidShape if a volume is too small for the patch; StorageError if writing fails (what was written
    before stays whole).
    """
    begin, told = time.perf_counter(), Listeners(**listeners)
    folder = RunFolder(Path(run))
    if not folder.path.is_dir() and not resume:
        refuse_old_run(folder.path)
    with locked_run(folder.path), isolated(config.seed, threads_per_process(config)):
        if not resume:
            refuse_old_run(folder.path)
        setup = prepare(config, volumes, validation)
        done = read_progress(folder, setup.config) if resume else TrainingProgress()
        tidy(folder.path)
        if done.ended_by is not None:
            result = _result(folder, done, done.ended_by, time.perf_counter() - begin)
            return replace(result, already=True)
        card = make_card(setup.config, volumes, validation, source)
        replace_whole(folder.config, lambda half: half.write_text(setup.config.model_dump_json(indent=2) + "\n"))
        replace_whole(folder.card, lambda half: half.write_text(json.dumps(card, indent=2) + "\n"))
        if told.on_card is not None:
            told.on_card(card)
        device = resolve_device(config.device).type
        with launched(config.devices, device, _train_on_rank, setup.config, volumes, validation, folder, done):
            reached, end = _train(setup, folder, done, told)
    return _result(folder, reached, end, time.perf_counter() - begin)


def _train_on_rank(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
    folder: RunFolder,
    done: TrainingProgress,
) -> None:
    """Train as one of the other processes: what each of them calls."""
    with isolated(config.seed, threads_per_process(config)):
        _train(prepare(config, volumes, validation), folder, done, Listeners())


def _train(setup: Setup, folder: RunFolder, start: TrainingProgress, told: Listeners) -> tuple[TrainingProgress, End]:
    """Train to the end, and from the last healthy checkpoint again whenever training collapses."""
    distributed.on_rank_zero(lambda: trim_journal(folder.journal, -1 if start.checkpoint is None else start.step))
    loop = Loop(setup, folder, told.on_step, told.on_validation)
    while True:
        try:
            end = loop.run(start)
            return loop.progress(), end
        except Collapse as collapse:
            start = distributed.on_rank_zero(partial(recover, folder, setup.objective, loop.progress(), collapse))
            if told.on_recovery is not None:
                told.on_recovery(describe(collapse, start, setup.config.health))


def check_settings(config: TrainConfig) -> None:
    """Refuse what of the settings can be refused without volumes: components, their parameters, the device."""
    check_devices(config)
    resolve_precision(config.precision, resolve_device(config.device))
    model = find("models", config.model)
    convert(model.parameters(), {**config.model_parameters, "channels": 1}, model.title)
    parse_loss(config.loss, config.loss_parameters, backend=config.loss_backend)
    chosen, health = config.validation, config.health
    if health.every:
        find("fragmenters", health.fragmenter).create(**health.fragmenter_parameters)
    find("fragmenters", chosen.fragmenter).create(**chosen.fragmenter_parameters)
    find("agglomerators", chosen.agglomerator).create(**chosen.agglomerator_parameters)


def rehearse(config: TrainConfig, volumes: Sequence[TrainingVolume], validation: Sequence[TrainingVolume] = ()) -> None:
    """Refuse what :func:`train` would refuse of settings and of the sizes of volumes, whose voxels are not looked at.

    `volumes` may be those of :func:`segkit.train.voxels.hollow`.
    """
    check_settings(config)
    given: dict[str, Any] = {"min_labelled": 0.0, "validation_patches": 1, "batch_size": config.devices}
    given |= {"voxel_size": None, "intensity_range": None}
    volumes, validation = hollow(volumes, config), hollow(validation, config)
    with isolated(config.seed, config.threads):
        prepare(TrainConfig(**{**config.model_dump(), **given}), volumes, validation)


def prepare(config: TrainConfig, volumes: Sequence[TrainingVolume], validation: Sequence[TrainingVolume] = ()) -> Setup:
    """Make all of a run but its folder; the settings of the result are `config` with what follows from the volumes.

    torch's random state decides the first weights. Raises as :func:`train` does: what is wrong with settings or
    volumes is said here, before anything is written.
    """
    check_devices(config)
    share = brightest_of(volumes, config.intensity_range)
    _warn_of(_unlike_values(config, volumes, validation, share))
    volumes, validation = (
        ranged(resampled(each, config.voxel_size), config.intensity_range) for each in (volumes, validation)
    )
    voxels = replace(voxels_of(volumes), brightest=share)
    config = voxels.fill_in(config)
    neighborhood = config.offsets(find("models", config.model).load().ndim, voxels.size)
    network = _network(config, voxels, len(neighborhood))
    loss = parse_loss(config.loss, config.loss_parameters, backend=config.loss_backend)
    config = resolve_patch(config, network, [*volumes, *validation])
    patch = fit_patch(network, _sizes(config))
    check_reach(patch, neighborhood)
    found = {"neighborhood": neighborhood.tolist(), "patch": patch.output[3 - network.ndim :]}
    found["precision"] = resolve_precision(config.precision, resolve_device(config.device))
    config = TrainConfig(**{**config.model_dump(), **found})
    patches = PatchDataset(config, volumes, patch, neighborhood)
    _warn_of(patches.sampler.never_drawn)
    patches.batch(range(config.batch_size))  # what is wrong with the data is said before the first step
    objective = Objective(Trainable(network, loss, config), loss, neighborhood, config, voxels)
    crop = _crop(config, network, volumes, neighborhood) if config.health.every else None
    if not validation:
        return Setup(config, objective, patches, loss, crop)
    fixed = PatchDataset(config, validation, patch, neighborhood, purpose="validation")
    batches = [fixed.batch([k]) for k in range(config.validation_patches)]
    segmenter = Segmenter(config, validation, network, neighborhood) if config.validation.segmentation else None
    _warn_of(fixed.sampler.never_drawn)
    return Setup(config, objective, patches, loss, crop, ValidationData(batches, segmenter))


def _unlike_values(
    config: TrainConfig, volumes: Sequence[TrainingVolume], validation: Sequence[TrainingVolume], share: float
) -> list[str]:
    """Name the volumes whose raw values are a small part of black to white, or unlike those that are trained on."""
    found = [(name_of(each, k), unlike_values(each, config.intensity_range)) for k, each in enumerate(volumes)]
    found += [
        (name_of(each, k, "validation volume"), unlike_values(each, config.intensity_range, share))
        for k, each in enumerate(validation)
    ]
    return [f"{name}: {problem}" for name, problem in found if problem]


def _warn_of(problems: Iterable[str]) -> None:
    if distributed.rank() == 0:
        for problem in problems:
            warn(SegkitWarning(problem), stacklevel=4)


def _network(config: TrainConfig, voxels: Voxels, channels: int) -> Model:
    """Make the network with its first weights, for `channels` affinities and what it learns beside them."""
    component = find("models", config.model)
    auxiliary = voxels.auxiliary(config, component.load().ndim)
    parameters = {"channels": channels + auxiliary, **config.model_parameters}
    check_size(component, parameters, TRAINED)
    network = component.create(**parameters)
    if not isinstance(network, torch.nn.Module):
        raise BrokenComponent(sentence(f"model {config.model!r}", "must be a torch.nn.Module", type(network).__name__))
    network.auxiliary = auxiliary
    return network


def patches_of(config: TrainConfig, volumes: Sequence[TrainingVolume]) -> PatchDataset:
    """Make the patches that :func:`train` would draw, in their order. Raises as it does."""
    unwatched = TrainConfig(**{**config.model_dump(), "health": {"every": 0}})
    with isolated(config.seed, config.threads):
        return prepare(unwatched, volumes).patches


def _sizes(config: TrainConfig) -> list[int] | None:
    """The patch of settings in which "auto" has been replaced."""
    return None if isinstance(config.patch, str) else config.patch


def _crop(config: TrainConfig, network: Model, volumes: Sequence[TrainingVolume], neighborhood: np.ndarray) -> Batch:
    health = config.health
    find("fragmenters", health.fragmenter).create(**health.fragmenter_parameters)  # a wrong name is refused at once
    patch = fit_patch(network, health.crop or _sizes(config))
    return choose_crop(PatchDataset(config, volumes, patch, neighborhood, purpose="health"))


def _result(folder: RunFolder, reached: TrainingProgress, end: End, seconds: float) -> TrainResult:
    lines = [json.loads(line) for line in folder.journal.read_text().splitlines()] if folder.journal.exists() else []
    losses = [line["loss"] for line in lines if "loss" in line] or [float("nan")]
    validated = [line["validation_loss"] for line in lines if "validation_loss" in line]
    last = validated[-1] if validated else None
    paths, recoveries = (folder.model, folder.checkpoint), reached.recovery.count
    return TrainResult(reached.step, losses[0], losses[-1], last, seconds, *paths, recoveries, read_best(folder), end)
