"""The settings of training: checked, printable, and described in words. Imports no torch."""

import json
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from segkit.data import NEAREST
from segkit.data.affinities import as_neighborhood
from segkit.data.neighborhoods import long_range
from segkit.errors import InvalidInput, InvalidParameter, SegkitError, sentence
from segkit.memory import parse_bytes
from segkit.parameters import nearest, type_name
from segkit.train.augment.config import AugmentationSettings, StrictSettings, setting_names

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class HealthConfig(StrictSettings):
    """How training is watched, and what happens when the network collapses; given as health.NAME."""

    every: Annotated[int, Field(ge=0)] = 250
    """Steps between checks of a fixed crop; there is one before the first step and one after the last. 0 = none."""
    on_collapse: Literal["lower-learning-rate", "add-elementwise", "stop"] = "lower-learning-rate"
    """What changes when training goes back to the last healthy checkpoint; "stop" ends it instead."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """By what the learning rate is multiplied after a collapse."""
    elementwise: Positive = 0.1
    """Weight of the mse that is added to the loss after a collapse; each time anew."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Collapses in a row that training goes back from; a check passed beyond the last collapse ends the row."""
    crop: list[Count] | None = None
    """Shape of the crop, z, y, x, as `patch`, which is the default; at most 96 voxels an axis are examined."""
    fragmenter: str = "watershed"
    """What cuts the crop into fragments."""
    fragmenter_parameters: dict[str, object] = Field(default_factory=dict)
    """Parameters of the fragmenter."""


class ValidationConfig(StrictSettings):
    """How validation volumes are segmented and scored, and when training ends early; given as validation.NAME."""

    segmentation: bool = True
    """Segment the volumes and keep the network with the best CREMI score; False computes the loss alone."""
    fragmenter: str = "watershed"
    """What cuts the affinities into fragments."""
    fragmenter_parameters: dict[str, object] = Field(default_factory=dict)
    """Parameters of the fragmenter. Without edges along z, `per_section` is true unless it is set here."""
    agglomerator: str = "python"
    """What merges the fragments; the threshold is the best of all."""
    agglomerator_parameters: dict[str, object] = Field(default_factory=dict)
    """Parameters of the agglomerator."""
    crop: list[Count] | None = None
    """Shape of the part in the middle of each volume that is segmented, z, y, x. Default: all of it, but at most
    16,777,216 voxels (256 cubed)."""
    tile: list[Count] | None = None
    """Tile of the network's output, as --tile of `segkit infer`; a fitting one if not given."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Training ends after so many validations in a row without a better score; 0 = never."""
    min_improvement: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """By how much the CREMI score must fall to count as better for `patience`."""


class DescriptorConfig(StrictSettings):
    """Local shape descriptors that the network learns beside affinities; given as descriptors.NAME."""

    sigma: Positive = 80.0
    """Standard deviation, nm, of the Gaussian window around each voxel."""
    weight: Positive = 1.0
    """Factor of the mean squared error of the descriptors, which is added to the loss."""


class AveragingConfig(StrictSettings):
    """Averaged weights, which are then those that are validated and saved; given as averaging.NAME."""

    decay: Decay = 0.999
    """Share of the average that stays in a step; less in the first ones, (1 + n) / (10 + n) in the n-th."""
    start: Annotated[int, Field(ge=0)] = 0
    """Step after which the average begins; up to it, the average is the network itself."""


class TrainConfig(StrictSettings):
    """The settings of a training run; an unknown or unfit one raises InvalidParameter.

    >>> TrainConfig(steps=10, loss="mse").learning_rate
    0.0001
    """

    model_config = ConfigDict(protected_namespaces=())

    model: str = "unet3d"
    """Name of the architecture; see `segkit plugins list`."""
    model_parameters: dict[str, object] = Field(default_factory=dict)
    """Parameters of the network, see `segkit plugins show model NAME`; not `channels`, which follows from the
    neighborhood."""
    loss: str = "constrained-malis"
    """One loss or a weighted sum such as "constrained-malis+0.1*mse"."""
    loss_parameters: dict[str, object] = Field(default_factory=dict)
    """Parameters of the loss, see `segkit plugins show loss NAME`; of a sum, a table for each term: loss.mse.NAME."""
    loss_backend: str | None = None
    """Which code computes the loss, "cpu", "gpu" or "higra", for every term that lets one choose; None leaves it to
    the loss, which goes by the device."""
    neighborhood: list[list[int]] | Literal["nearest", "long-range"] | None = None
    """Offsets of the channels, z, y, x, in voxels, or the name of some: "nearest" along z, y, x (y, x for 2-D networks;
    the default), or "long-range", these and three longer ones an axis. All channels count alike in all losses."""
    voxel_size: tuple[Positive, Positive, Positive] | None = None
    """nm, z, y, x. Raw data, labels and masks are resampled to it; inference does so as well, and brings affinities
    back to the voxels of its data. Default: voxels as they are."""
    intensity_range: tuple[float, float] | None = None
    """Raw values that are black and white, cut off beyond; inference goes by it too. Default: 0..255 for uint8,
    0..65535 for uint16, 0..1 for floats."""
    descriptors: DescriptorConfig | None = None
    """Learn local shape descriptors as well; none unless one of their settings is given."""
    patch: list[Count] | Literal["auto"] | None = None
    """Shape of the network's output in training, z, y, x (y, x or 1, y, x for 2-D networks); the input follows. "auto"
    takes the largest that network, smallest volume and half of the free memory of the device allow, at most 128 voxels
    an axis (2-D: 512), on a CPU 56 (256). Default: 56 voxels an axis (2-D: 256), or "auto" where a volume is smaller.
    config.json has the sizes that were chosen."""
    batch_size: Count = 1
    """Patches that go through the network at once, all devices together."""
    accumulate: Count = 1
    """Batches a step, which takes the mean of their gradients: a larger batch in the memory of a smaller one. (Of mse
    and bce, which are means over the edges of a batch, only where all batches have as many inside their masks.)"""
    steps: Count = 10_000
    """Updates of the weights, all in all."""
    learning_rate: Positive = 1e-4
    """Step size of Adam (doi:10.48550/arXiv.1412.6980)."""
    betas: tuple[Decay, Decay] = (0.95, 0.99)
    """Decay of Adam's two running means."""
    epsilon: Positive = 1e-8
    """Adam's guard against division by zero."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over time: "cosine" falls to 0 at the last of `steps`."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """First steps, over which the learning rate grows linearly."""
    averaging: AveragingConfig | None = None
    """Average the weights over the steps; not unless one of the settings of it is given."""
    gradient_clip: Positive | None = None
    """Longest gradient (Euclidean norm over all weights); longer ones are scaled down."""
    precision: Literal["auto", "32", "bf16", "fp16"] = "32"
    """"bf16" multiplies in bfloat16 and keeps the weights in float32; "auto" is "bf16" where the device has
    instructions for it, and "32" elsewhere. "fp16" multiplies in float16, for GPUs without bfloat16: gradients are
    scaled to fit, and a step in which they do not is passed over. Not on a CPU."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the first weights, every patch and every augmentation."""
    device: str = "auto"
    """"auto", "cpu", "cuda", "cuda:1", "mps"."""
    devices: Count = 1
    """How many of them train together, a process each, on equal shares of each batch. Any number gives the same run,
    but for the last bits, for batch normalisation, whose batch is the share, and for mse and bce where masks differ, as
    with `accumulate`. On a CPU, processes on its cores."""
    threads: Count | None = None
    """CPU threads of the network; None leaves torch's own choice."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare patches; 0 prepares them between the steps. Patches of volumes that do not fit into
    `cache` are read by threads beside the steps instead, by so many, or four. Any number gives the same patches."""
    cache: Count | None = None
    """Bytes of raw data, labels and masks in memory, as 4GB. Volumes that fit in are read whole, once; of others, boxes
    are read, and the chunks that were used last kept. The patches are the same. Default: half of the memory that is
    free."""
    weights: Annotated[list[Positive], Field(min_length=1)] | None = None
    """How often each training volume is drawn from, relative to the others, in the order of DATA. Default: each place
    is as likely, so that a volume counts by its size."""
    checkpoint_every: Count = 500
    """Steps between checkpoints; there is always one after the last step."""
    log_every: Count = 10
    """Steps between lines of the log, which hold means over them."""
    validate_every: Count = 500
    """Steps between validations, if there are validation volumes."""
    validation_patches: Count = 8
    """Patches of the loss of a validation, the same ones each time, not augmented."""
    validation: ValidationConfig = ValidationConfig()
    """How validation volumes are segmented and scored."""
    augmentation: AugmentationSettings = AugmentationSettings()
    """Random changes of the patches."""
    grow_boundary: Annotated[int, Field(ge=0)] = 0
    """Voxels taken off the rim of every object, so that objects that touch get background between them; within
    sections only if voxels are anisotropic or the network is 2-D."""
    components: bool = False
    """Give pieces of an object that a patch severs ids of their own. Off: they are one neuron all the same."""
    min_labelled: Share = 0.05
    """Patches with less than this share of annotated voxels in objects are not drawn; a volume without any other is
    named, and refused where it is the only one."""
    health: HealthConfig = HealthConfig()
    """How training is watched."""
    max_minutes: Positive | None = None
    """Stop after this time, counted anew after a resume. The clock then decides the number of steps, so that two
    such runs differ."""

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidParameter(_explain(error.errors()[0], type(self), values)) from None

    @field_validator("precision", mode="before")
    @classmethod
    def _precision_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    @field_validator("cache", mode="before")
    @classmethod
    def _bytes(cls, value: object) -> object:
        try:
            return parse_bytes(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError("it must be a number of bytes above 0, as 4GB, 500MB or 2GiB") from None

    @field_validator("intensity_range")
    @classmethod
    def _ascending(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not -math.inf < value[0] < value[1] < math.inf:
            raise ValueError("it must be two finite numbers, the lower first")
        return value

    @field_validator("model_parameters")
    @classmethod
    def _no_channels(cls, value: dict[str, object]) -> dict[str, object]:
        if "channels" in value:
            raise InvalidParameter("model_parameters must not hold 'channels'; set neighborhood, which decides it")
        return value

    def offsets(self, ndim: int, voxel_size: Sequence[float] | None = None) -> np.ndarray:
        """Return the offsets for a network of `ndim` dimensions, int64 (C, 3), z, y, x; "long-range" needs voxels."""
        if self.neighborhood == "long-range":
            return long_range(check_voxel_size(voxel_size, "neighborhood=long-range"), ndim)
        given = NEAREST[3 - ndim :] if self.neighborhood in (None, "nearest") else self.neighborhood
        offsets = as_neighborhood(given)
        if ndim == 2 and offsets[:, 0].any():
            rule = "of a 2-D network must not leave the section"
            raise InvalidParameter(sentence("neighborhood", rule, offsets.tolist(), "use offsets [0, y, x]"))
        return offsets


def check_voxel_size(voxel_size: Sequence[float] | None, what: str) -> Sequence[float]:
    """Return `voxel_size`. Raises InvalidInput if there is none, for what is asked needs it."""
    if voxel_size is None:
        rule, next_step = f"must have one voxel size for {what}", "give --voxel-size, to which all are resampled"
        raise InvalidInput(sentence("the training volumes", rule, next_step=next_step))
    return voxel_size


def _parameter_called(name: str, values: Mapping[str, object]) -> str | None:
    """Find a parameter of the network or loss in `values` that has this name: "features" is "model.features"."""
    from segkit.registry import find

    for table, kind in (("model", "models"), ("loss", "losses")):
        with suppress(SegkitError):  # such as of a sum of losses
            chosen = values.get(table, TrainConfig.model_fields[table].default)
            if name in find(kind, str(chosen)).parameters():
                return f"{table}.{name}"
    return None


def _explain(problem: Mapping[str, Any], config: type[BaseModel], values: Mapping[str, object]) -> str:
    if problem["type"] == "extra_forbidden":
        name = ".".join(map(str, problem["loc"]))
        known_names = list(config.model_fields)
        known_names += [f"health.{inner}" for inner in HealthConfig.model_fields]
        known_names += setting_names(AugmentationSettings)
        known_names += [f"validation.{inner}" for inner in ValidationConfig.model_fields]
        known_names += [f"averaging.{inner}" for inner in AveragingConfig.model_fields]
        known_names += [f"descriptors.{inner}" for inner in DescriptorConfig.model_fields]
        guess = _parameter_called(name, values) or nearest(name, known_names)
        listed = "`segkit train --settings` lists all; parameters of the network are model.NAME, of the loss loss.NAME"
        return sentence(
            "training", f"has no setting {name!r}", next_step=f"did you mean {guess!r}?" if guess else listed
        )
    name = ".".join(str(part) for part in problem["loc"] if str(part).isalnum() or str(part).isidentifier())
    said = problem["msg"].removeprefix("Value error, ")
    reason = said[0].lower() + said[1:]
    return sentence(f"setting {name!r}", "does not fit", repr(problem["input"]), f"the reason given is: {reason}")


TABLES = {"model_parameters": "model", "loss_parameters": "loss"}
"""Settings that are tables of parameters, and how `--set` calls them."""


@dataclass(frozen=True)
class DescribedSetting:
    """One setting of training, all in plain text."""

    name: str
    """As `--set` takes it: ``steps``, ``augmentation.elastic.sigma``, ``model.NAME``."""
    type: str
    """What values it takes, such as ``int >= 1``."""
    default: str
    """As `--set` takes it; "None" where it is not set, "" for tables of parameters."""
    description: str
    """What it does, in a sentence or a few."""


def described_settings() -> list[DescribedSetting]:
    """List every setting of training, those of nested tables included, in the order of :class:`TrainConfig`."""
    return list(_described(TrainConfig, ""))


def _described(settings: type[BaseModel], prefix: str) -> Iterator[DescribedSetting]:
    for name, field in settings.model_fields.items():
        table = _table(field.annotation)
        description = " ".join((field.description or "").split())
        if table is not None:
            yield from _described(table, f"{prefix}{name}.")
        elif typing.get_origin(field.annotation) is dict:
            yield DescribedSetting(f"{prefix}{TABLES.get(name, name)}.NAME", "any", "", description)
        else:
            yield DescribedSetting(prefix + name, _type(field), _as_value(field.default), description)


def _table(annotation: object) -> type[BaseModel] | None:
    """Find the model of a nested table, also of one that may be None."""
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _type(field: FieldInfo) -> str:
    """Name its type with its bounds; without None, which `--set` cannot say."""
    annotation = typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return type_name(annotation).removesuffix(" | None")


def _as_value(value: object) -> str:
    return value if isinstance(value, str) else "None" if value is None else json.dumps(value)
