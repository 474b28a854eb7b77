"""The patches that a network trains on: how large, and how the input lies around the output."""

from collections.abc import Sequence
from dataclasses import dataclass

from segkit.errors import InvalidParameter, InvalidShape, sentence
from segkit.protocols import Model

Shape = tuple[int, int, int]

DEFAULT = {2: (256, 256), 3: (56, 56, 56)}
"""Output wanted where the user states none, by dimensions of the network; the next larger valid one is taken."""
SEARCHED = 128
"""How far below an invalid size the nearest valid one is looked for."""


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
        return tuple((i - o) // 2 for i, o in zip(self.input, self.output, strict=True))


def fit_patch(model: Model, wanted: Sequence[int] | None) -> Patch:
    """The patch whose output is `wanted`. Raises InvalidShape, naming the nearest, if no input gives that output."""
    output = DEFAULT[model.ndim] if wanted is None else _of_dimensions(wanted, model.ndim)
    given = reached(model, output)
    if wanted is not None and given != output:
        smaller = _smaller(model, output)
        nearest = f"{list(smaller)} or {list(given)}" if smaller else f"{list(given)}"
        rule = "must be an output that the model can give"
        raise InvalidShape(sentence("patch", rule, list(output), f"the nearest it can give is {nearest}"))
    return patch_of(model, given)


def patch_of(model: Model, output: tuple[int, ...]) -> Patch:
    """The patch whose output is `output`, a shape of `model.ndim` sizes that the model can give."""
    needed = tuple(model.input_shape(output))
    if model.ndim == 3:
        return Patch(output, needed, 3)
    return Patch((1, *output), (model.sections, *needed), 2)


def reached(model: Model, output: Sequence[int]) -> tuple[int, ...]:
    """The smallest output of the model that is at least `output`."""
    return tuple(model.output_shape(model.input_shape(output)))


def check_reach(patch: Patch, neighborhood) -> None:
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
        given = reached(model, [max(size - less, 1) for size in output])
        if all(g <= o for g, o in zip(given, output, strict=True)):
            return given
    return None
