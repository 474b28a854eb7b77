"""The places at which a patch holds enough labelled voxels: found once, and drawn from."""

from collections.abc import Callable, Sequence

import numpy as np

TRIES = 500
"""Places drawn among all before one is drawn among those with enough labels. What is drawn hangs on it."""
CHUNK = 2**12
"""Places between two sums of the table."""


class Places:
    """All places of a patch in a row, those of several volumes one after the other, and which hold enough labels.

    A place takes a bit.
    """

    def __init__(self, enough: Sequence[np.ndarray]) -> None:
        """Keep, for each volume, a bool for every place."""
        flat = np.concatenate([each.ravel() for each in enough])
        self._size, self._bits = flat.size, np.packbits(flat)
        self._ends = np.cumsum(np.add.reduceat(flat, np.arange(0, flat.size, CHUNK), dtype=np.int64))

    def draw(self, rng: np.random.Generator) -> int:
        """Draw one that holds enough, each as likely; at least one must.

        It is the first such of TRIES drawn among all places, and if none is, one drawn among those with enough.
        """
        first = int(rng.integers(self._size))
        if self._have(first):
            return first
        state = rng.bit_generator.state
        ahead = np.flatnonzero(self._have(rng.integers(self._size, size=TRIES - 1)))
        if not ahead.size:
            return self._number(int(rng.integers(self._ends[-1])))
        rng.bit_generator.state = state  # takes no more numbers than drawing one by one
        return int(rng.integers(self._size, size=int(ahead[0]) + 1)[-1])

    def _have(self, places: int | np.ndarray) -> np.ndarray:
        byte, bit = np.divmod(places, 8)
        return self._bits[byte] >> (7 - bit) & 1

    def _number(self, rank: int) -> int:
        """Find the place before which `rank` others hold enough."""
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
        oldest[...] = _windows(section(z), height, width)
        total += oldest
        if z >= depth - 1:
            np.greater_equal(total, least, out=enough[z - depth + 1])
            most = max(most, int(total.max()))
    return enough, most


def _windows(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum up every box of a section, int32."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int32)
    np.cumsum(np.cumsum(values, axis=1, dtype=np.int32), axis=0, out=sums[1:, 1:])
    return sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
