"""The places at which a patch holds enough labelled voxels: found once, and drawn from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

TRIES = 500
"""Places drawn among all before one is drawn among those with enough labels. What is drawn hangs on it."""
CHUNK = 2**12
"""Places between two sums of the table."""


class AllPlaces:
    """All places of a patch in a row, whatever they hold."""

    def __init__(self, size: int) -> None:
        self._size = size

    def draw(self, rng: np.random.Generator) -> int:
        """Draw one, each as likely."""
        return int(rng.integers(self._size))


class LabelledPlaces(ABC):
    """All places of a patch in a row, those of several volumes one after the other, and which hold enough labels."""

    def __init__(self, size: int) -> None:
        self._size = size

    def draw(self, rng: np.random.Generator) -> int:
        """Draw one that holds enough, each as likely; at least one must.

        It is the first such of TRIES drawn among all places, and if none is, one drawn among those with enough.
        """
        place = int(rng.integers(self._size))
        if self._first(np.array([place])) is not None:
            return place
        state = rng.bit_generator.state
        ahead = self._first(rng.integers(self._size, size=TRIES - 1))
        if ahead is None:
            return self._number(int(rng.integers(self._count())))
        rng.bit_generator.state = state  # takes no more numbers than drawing one by one
        return int(rng.integers(self._size, size=ahead + 1)[-1])

    @abstractmethod
    def _first(self, places: np.ndarray) -> int | None:
        """Say which of some places is the first that holds enough."""

    @abstractmethod
    def _count(self) -> int:
        """Count the places that hold enough."""

    @abstractmethod
    def _number(self, rank: int) -> int:
        """Find the place before which `rank` others hold enough."""


class Places(LabelledPlaces):
    """Those of volumes in memory, in a table: a place takes a bit."""

    def __init__(self, enough: Sequence[np.ndarray]) -> None:
        """Keep, for each volume, a bool for every place."""
        flat = np.concatenate([each.ravel() for each in enough])
        super().__init__(flat.size)
        self._bits = np.packbits(flat)
        self._ends = np.cumsum(np.add.reduceat(flat, np.arange(0, flat.size, CHUNK), dtype=np.int64))

    def _first(self, places: np.ndarray) -> int | None:
        byte, bit = np.divmod(places, 8)
        found = np.flatnonzero(self._bits[byte] >> (7 - bit) & 1)
        return int(found[0]) if found.size else None

    def _count(self) -> int:
        return int(self._ends[-1])

    def _number(self, rank: int) -> int:
        chunk = int(np.searchsorted(self._ends, rank, side="right"))
        rank -= int(self._ends[chunk - 1]) if chunk else 0
        bits = np.unpackbits(self._bits[chunk * CHUNK // 8 : (chunk + 1) * CHUNK // 8])
        return chunk * CHUNK + int(np.flatnonzero(bits)[rank])


def count_labelled(
    section: Callable[[int], np.ndarray], places: Sequence[int], output: Sequence[int], least: float
) -> tuple[np.ndarray, int]:
    """Find the places (z, y, x) whose box of shape `output` holds at least `least` labelled voxels, bool, exactly.

    Beside them, the most that a box holds. ``section(z)`` says which voxels are labelled, bool, of a section of the
    part in which the boxes lie. Sections are summed up along y and x, and added to those before them: in memory are,
    beside the result, an int32 a place for as many sections as `output` has.
    """
    depth, height, width = output
    enough = np.zeros(places, bool)
    sums = np.zeros((depth, *places[1:]), np.int32)
    total, most = np.zeros(places[1:], np.int64), 0
    for z in range(places[0] + depth - 1):
        oldest = sums[z % depth]
        total -= oldest
        oldest[...] = box_sums(section(z), (height, width))
        total += oldest
        if z >= depth - 1:
            np.greater_equal(total, least, out=enough[z - depth + 1])
            most = max(most, int(total.max()))
    return enough, most


def box_sums(values: np.ndarray, box: Sequence[int]) -> np.ndarray:
    """Sum up every box of these sides in an array of bool, int32.

    >>> box_sums(np.array([[True, True, False], [False, True, False]]), (2, 2)).tolist()
    [[3, 2]]
    """
    sums = values.astype(np.int32)
    for axis, side in enumerate(box):
        before = np.zeros([size + (at == axis) for at, size in enumerate(sums.shape)], np.int32)
        np.cumsum(sums, axis=axis, out=before[(slice(None),) * axis + (slice(1, None),)])
        sums = before[(slice(None),) * axis + (slice(side, None),)]
        sums = sums - before[(slice(None),) * axis + (slice(None, -side),)]
    return sums
