"""Flips and transposes of a volume, and where the affinities that a network gives to the changed volume belong."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal, get_args

import numpy as np

from segkit.data import Grid
from segkit.errors import InvalidInput, sentence
from segkit.protocols import Model

Augment = Literal["none", "flips", "all"]
AUGMENTS: tuple[str, ...] = get_args(Augment)
NAMES = "zyx"

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Symmetry:
    """A permutation of the axes after mirrorings."""

    order: tuple[int, ...] = (0, 1, 2)
    """Axis i of the changed volume is axis order[i] of the original."""
    mirrored: tuple[int, ...] = ()
    """Axes of the original that run backwards in the changed volume."""

    def __str__(self) -> str:
        flips = "".join(NAMES[axis] for axis in self.mirrored)
        order = "".join(NAMES[axis] for axis in self.order)
        words = ([f"flip {flips}"] if flips else []) + ([f"order {order}"] if order != NAMES else [])
        return ", ".join(words) or "none"

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The changed volume, as a view of `array` (Z, Y, X)."""
        return np.flip(array, self.mirrored).transpose(self.order)

    def undo(self, array: np.ndarray) -> np.ndarray:
        """The original of a changed `array` (C, Z, Y, X), as a view; channels stay where they are."""
        back = [1 + self.order.index(axis) for axis in range(3)]
        return np.flip(array.transpose(0, *back), tuple(1 + axis for axis in self.mirrored))

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the changed volume of an original of `shape`."""
        return tuple(shape[axis] for axis in self.order)

    def box(self, part: Slices, shape: Sequence[int]) -> Slices:
        """The box of the original, of `shape`, that is the box `part` of the changed volume."""
        back = [part[self.order.index(axis)] for axis in range(3)]
        return tuple(
            slice(size - along.stop, size - along.start) if axis in self.mirrored else along
            for axis, (along, size) in enumerate(zip(back, shape, strict=True))
        )

    def changed(self, part: Slices, shape: Sequence[int]) -> Slices:
        """The box of the changed volume that is the box `part` of the original, of `shape`.

        >>> Symmetry(order=(0, 2, 1), mirrored=(2,)).changed((slice(0, 1), slice(2, 3), slice(4, 6)), (9, 9, 9))
        (slice(0, 1, None), slice(3, 5, None), slice(2, 3, None))
        """
        turned = [
            slice(size - along.stop, size - along.start) if axis in self.mirrored else along
            for axis, (along, size) in enumerate(zip(part, shape, strict=True))
        ]
        return tuple(turned[axis] for axis in self.order)

    def offset(self, offset: Sequence[int]) -> tuple[int, ...]:
        """The offset in the original of what is `offset` in the changed volume.

        >>> Symmetry(order=(0, 2, 1), mirrored=(2,)).offset((-1, -2, -3))
        (-1, -3, 2)
        """
        back = [int(offset[self.order.index(axis)]) for axis in range(3)]
        return tuple(-step if axis in self.mirrored else step for axis, step in enumerate(back))

    def destinations(self, neighborhood: np.ndarray) -> list[tuple[int, tuple[int, ...]]]:
        """For each channel of the changed volume the channel of the original, and by what its voxels are shifted.

        An edge belongs to one of its ends. Where the change turns it round, the original keeps it at the other end: the
        value goes one offset further. Raises InvalidInput where the neighborhood has no such edge either way.

        >>> Symmetry(mirrored=(2,)).destinations(np.array([[0, -1, 0], [0, 0, -1]]))
        [(0, (0, 0, 0)), (1, (0, 0, 1))]
        """
        channels = {tuple(map(int, offset)): channel for channel, offset in enumerate(neighborhood)}
        found: list[tuple[int, tuple[int, ...]]] = []
        for offset in channels:
            changed = self.offset(offset)
            opposite = tuple(-step for step in changed)
            if changed in channels:
                found.append((channels[changed], (0, 0, 0)))
            elif opposite in channels:
                found.append((channels[opposite], changed))
            else:
                rule = f"must have, for the augmentation ({self}), the offset {list(changed)} or its negative"
                next_step = "choose augment 'none', 'flips' where only the transposes lack it"
                raise InvalidInput(sentence("neighborhood", rule, [list(o) for o in channels], next_step))
        return found


def symmetries(augment: str, model: Model, neighborhood: np.ndarray, grid: Grid) -> list[Symmetry]:
    """The variants of a volume that `augment` names, the volume as it is first.

    "flips" mirrors any of the axes z, y, x: 8 variants, 4 for 2-D models that see one section. "all" exchanges as well
    all axes along which voxels are as long and the model has the same stride and context: y and x, 16 variants, or of
    isotropic volumes z, y and x, 48.
    """
    if augment not in AUGMENTS:
        raise InvalidInput(sentence("augment", f"must be {', '.join(AUGMENTS)}", repr(augment)))
    if augment == "none":
        return [Symmetry()]
    axes = range(3) if model.ndim == 3 or model.sections > 1 else (1, 2)
    flips = [chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count)]
    orders = _orders(model, grid) if augment == "all" else [(0, 1, 2)]
    variants = [Symmetry(order, mirrored) for order in orders for mirrored in flips]
    for variant in variants:
        variant.destinations(neighborhood)
    return variants


def _orders(model: Model, grid: Grid) -> list[tuple[int, ...]]:
    """The permutations of axes that are alike; the identity first."""
    network: list[tuple[int, int] | None] = [] if model.ndim == 3 else [None]  # sections are no axis of a 2-D network
    network += zip(model.stride, model.context, strict=True)

    def alike(a: int, b: int) -> bool:
        return network[a] == network[b] and grid.alike(a, b)

    return [order for order in permutations(range(3)) if all(map(alike, order, range(3)))]
