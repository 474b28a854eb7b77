"""The patches that a network trains on: how large, how the input lies around the output, and where they fit.

The size is given, the default, or with ``patch=auto`` the largest that network, data and memory allow.
"""

import copy
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from segkit.errors import InvalidParameter, InvalidShape, sentence
from segkit.memory import available
from segkit.models.device import resolve_device
from segkit.protocols import Model
from segkit.train.config import TrainConfig

if TYPE_CHECKING:
    from segkit.train.data import TrainingVolume

Shape = tuple[int, int, int]

DEFAULT = {2: (256, 256), 3: (56, 56, 56)}
"""Output wanted where the user states none, by dimensions of the network; the next larger valid one is taken."""
SEARCHED = 128
"""How far below an invalid size the nearest valid one is looked for."""
LARGEST = {2: (512, 512), 3: (128, 128, 128)}
"""Output that no chosen patch exceeds, by dimensions of the network; on a CPU, where time is short before memory is,
:data:`DEFAULT`."""
BUDGET = 0.5
"""Share of the memory of the device that is free when training begins, which a step may take by the estimate."""
BYTES_A_WEIGHT = 16
"""Weight, gradient and Adam's two means, float32."""
BYTES_AN_EDGE = 128
"""Of an edge of the output, for loss and targets."""
BYTES_A_VOXEL = 32
"""Of a voxel of the input: intensity and label, before and after augmentation."""
OVERHEAD = 1.5
"""What backward and the libraries' workspaces take, beside what forward keeps, as a factor of that."""


@dataclass(frozen=True)
class Patch:
    """One patch, in voxels, z, y, x. 2-D networks have an output of one section."""

    output: Shape
    """Shape of the network's output, and so of labels, mask and targets."""
    input: Shape
    """Shape of the raw data that it needs; of a 2-D network, z counts its sections."""
    ndim: int
    """2 or 3, the dimensions of the network."""

    @property
    def before(self) -> Shape:
        """How many voxels earlier than the output the input begins."""
        z, y, x = ((i - o) // 2 for i, o in zip(self.input, self.output, strict=True))
        return z, y, x


def fit_patch(model: Model, wanted: Sequence[int] | None) -> Patch:
    """Return the patch whose output is `wanted`. Raises InvalidShape, naming the nearest, if no input gives it."""
    output = DEFAULT[model.ndim] if wanted is None else _of_dimensions(wanted, model.ndim)
    given = next_output(model, output)
    if wanted is not None and given != output:
        smaller = _smaller(model, output)
        nearest = f"{list(smaller)} or {list(given)}" if smaller else f"{list(given)}"
        rule = "must be an output that the model can give"
        raise InvalidShape(sentence("patch", rule, list(output), f"the nearest it can give is {nearest}"))
    return patch_of(model, given)


def patch_of(model: Model, output: tuple[int, ...]) -> Patch:
    """Return the patch whose output is `output`, a shape of `model.ndim` sizes that the model can give."""
    needed = model.input_shape(output)
    if model.ndim == 3:
        (z, y, x), (depth, height, width) = output, needed
        return Patch((z, y, x), (depth, height, width), 3)
    (y, x), (height, width) = output, needed
    return Patch((1, y, x), (model.sections, height, width), 2)


def next_output(model: Model, output: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest output of the model that is at least `output`."""
    return tuple(model.output_shape(model.input_shape(output)))


def check_reach(patch: Patch, neighborhood: np.ndarray) -> None:
    """Raise InvalidShape if there are offsets whose edges do not fit into the patch: nothing would teach them."""
    for offset in neighborhood.tolist():
        if any(abs(step) >= size for step, size in zip(offset, patch.output, strict=True)):
            rule = f"must be longer than every edge of the neighborhood, {offset} among them"
            next_step = "choose a larger patch, or a neighborhood of shorter edges"
            raise InvalidShape(sentence("patch", rule, list(patch.output), next_step))


def _of_dimensions(wanted: Sequence[int], ndim: int) -> tuple[int, ...]:
    wanted = tuple(int(size) for size in wanted)
    if ndim == 2 and len(wanted) == 3 and wanted[0] == 1:
        return wanted[1:]
    if len(wanted) != ndim:
        rule = "must have three sizes, z, y, x" if ndim == 3 else "of a 2-D network must be y, x or 1, y, x"
        raise InvalidParameter(sentence("patch", rule, list(wanted)))
    return wanted


def _smaller(model: Model, output: tuple[int, ...]) -> tuple[int, ...] | None:
    for less in range(1, SEARCHED):
        given = next_output(model, [max(size - less, 1) for size in output])
        if all(g <= o for g, o in zip(given, output, strict=True)):
            return given
    return None


def name_of(volume: "TrainingVolume", number: int, purpose: str = "training volume") -> str:
    """Name a volume for messages: what it is for, and its name, or else its number among those."""
    return f"{purpose} {number if volume.name is None else volume.name}"


def origins(volume: "TrainingVolume", patch: Patch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Find the first and one past the last voxel of the labels at which the output of a patch may begin, int64 (3,).

    Raises InvalidShape, in which the volume is called `name`, if there is none.
    """
    before, position = np.array(patch.before), np.array(volume.position)
    output, needed = np.array(patch.output), np.array(patch.input)
    low = np.maximum(0, before - position)
    high = np.minimum(np.array(volume.labels.shape) - output, volume.raw.shape - needed + before - position) + 1
    if (high <= low).any():
        rule = f"must hold raw data of {patch.input} voxels (z, y, x) around labels of {patch.output}"
        value = f"raw of {volume.raw.shape} with labels of {volume.labels.shape} beginning at {volume.position}"
        next_step = "choose a smaller patch (patch=auto finds one), a network with less context (model.padding=same has"
        next_step += " none, where the network takes it), or a larger volume"
        raise InvalidShape(sentence(name, rule, value, next_step))
    return low, high


def resolve_patch(config: TrainConfig, model: Model, volumes: Sequence["TrainingVolume"]) -> TrainConfig:
    """Return `config` with the patch as numbers, if it is "auto", or none is given and the default exceeds a volume."""
    default = patch_of(model, next_output(model, DEFAULT[model.ndim]))
    if config.patch != "auto" and (config.patch is not None or _fits(default, volumes)):
        return config
    patch = choose_patch(config, model, volumes)
    return config.model_copy(update={"patch": list(patch.output[3 - model.ndim :])})


def choose_patch(config: TrainConfig, model: Model, volumes: Sequence["TrainingVolume"]) -> Patch:
    """Choose the patch of `model` that is as large as data and memory of the device of `config` allow.

    Its output has one size along all axes, made valid for the network; along z less, where the volumes are thinner. It
    grows until the smallest of `volumes` holds no larger one, a step would exceed :data:`BUDGET` by
    :func:`step_bytes`, or :data:`LARGEST` is reached; the smallest of all is taken whatever memory there is. Raises
    InvalidShape if a volume does not hold it.
    """
    device = resolve_device(config.device)
    budget = _budget(config, device)
    limit = (DEFAULT if device.type == "cpu" else LARGEST)[model.ndim][0]
    patches = _growing(model, volumes, limit)
    hollow = _hollow(model)
    if step_bytes(hollow, patches[-1]) <= budget:
        return patches[-1]
    enough = bisect_right(patches, budget, key=lambda patch: step_bytes(hollow, patch))
    return patches[max(enough - 1, 0)]


def _growing(model: Model, volumes: Sequence["TrainingVolume"], limit: int) -> list[Patch]:
    """List the patches that all volumes hold, from the smallest on, up to `limit` voxels an axis of the output."""
    smallest = patch_of(model, next_output(model, (1,) * model.ndim))
    for number, volume in enumerate(volumes):
        if not _fits(smallest, [volume]):
            rule = f"must hold raw data of {smallest.input} voxels (z, y, x) around labels of {smallest.output}"
            value = f"raw of {volume.raw.shape} with labels of {volume.labels.shape}"
            next_step = "that is the smallest patch of this network: choose one with less context, or a larger volume"
            raise InvalidShape(sentence(name_of(volume, number), rule, value, next_step))
    patches = [smallest]
    depth = None
    for size in range(2, limit + 1):
        patch = patch_of(model, next_output(model, (depth or size, size, size)[-model.ndim :]))
        if depth is None and model.ndim == 3 and not _fits(patch, volumes):
            depth = patches[-1].output[0]
            patch = patch_of(model, next_output(model, (depth, size, size)))
        if not _fits(patch, volumes):
            break
        if patch != patches[-1]:
            patches.append(patch)
    return patches


def _hollow(model: Model) -> torch.nn.Module:
    """Copy the network without values, on torch's device "meta"."""
    module: torch.nn.Module = copy.deepcopy(model)
    return module.to("meta").train()


def step_bytes(hollow: torch.nn.Module, patch: Patch) -> int:
    """Estimate the bytes that a step of training with one patch takes on its device, in float32.

    `hollow` is the network on torch's device "meta": it runs without values, and what autograd keeps of it is added up,
    which takes no memory. Factors above say what else is counted.
    """
    try:
        kept, channels = _kept(hollow, patch)
    except (NotImplementedError, RuntimeError, ValueError, TypeError) as error:
        name, why = type(hollow).__name__, str(error).splitlines()[0]
        rule = f"cannot be chosen for the network {name}, which does not run on torch's device meta ({why})"
        raise InvalidParameter(sentence("patch", rule, None, "give its sizes, such as patch=56,56,56")) from error
    weights = sum(parameter.numel() for parameter in hollow.parameters())
    edges, voxels = channels * _product(patch.output), _product(patch.input)
    return int(BYTES_A_WEIGHT * weights + OVERHEAD * kept + BYTES_AN_EDGE * edges + BYTES_A_VOXEL * voxels)


def _kept(hollow: torch.nn.Module, patch: Patch) -> tuple[int, int]:
    """Count bytes that autograd keeps from forward to backward, each storage once, no weights; and output channels."""
    weights = {parameter.untyped_storage()._cdata for parameter in hollow.parameters()}
    tensors: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        tensors.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    raw = torch.empty((1, 1, *patch.input) if patch.ndim == 3 else (1, *patch.input), device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = hollow(raw)
    tensors.setdefault(logits.untyped_storage()._cdata, logits)
    kept = [tensor.untyped_storage().nbytes() for storage, tensor in tensors.items() if storage not in weights]
    return sum(kept), logits.shape[1]


def _budget(config: TrainConfig, device: torch.device) -> float:
    """Count the bytes for one patch of a batch; unlimited where the system does not say how many are free."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        free = available()
    together = config.batch_size if device.type == "cpu" else config.batch_size // config.devices
    return float("inf") if free is None else BUDGET * free / together


def _fits(patch: Patch, volumes: Sequence["TrainingVolume"]) -> bool:
    try:
        for volume in volumes:
            origins(volume, patch, "volume")
    except InvalidShape:
        return False
    return True


def _product(sizes: Sequence[int]) -> int:
    return int(torch.Size(sizes).numel())
