"""The places at which a patch holds enough labelled voxels, of volumes that are read box by box.

They are the same as those of :class:`segkit.train.places.Places`, and drawn alike, but a place is looked at when it is
drawn: of a volume that hardly lacks labels, no more is read than what is trained on. Where so few places hold enough
that all tries fail, the labels are read once, and a number kept for each row of voxels.
"""

from collections.abc import Callable, Sequence
from itertools import product
from threading import Lock

import numpy as np

from segkit.train.places import TRIES, LabelledPlaces, box_sums

Labelled = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Says which voxels of a box, from its first on and one past the last, are labelled: bool (Z, Y, X)."""

SIDE = 64
"""Voxels along each axis whose labels are counted together, at most; of a thin patch four times its own."""
TILE = (64, 128, 128)
"""Places that are looked at together where all are."""
UNKNOWN = -1


class BoxCounts:
    """Says which boxes of one volume hold enough labelled voxels, exactly, by counts of small boxes that are kept.

    From any thread.
    """

    def __init__(self, labelled: Labelled, places: Sequence[int], output: Sequence[int], least: float) -> None:
        """Look at boxes of shape `output` that begin at so many `places` along z, y, x, for `least` labelled voxels."""
        self.labelled, self.least = labelled, least
        self.places, self.output = np.array(places), np.array(output)
        self.shape = self.places + self.output - 1
        self.sides = np.minimum(SIDE, 4 * self.output)
        self.counts = np.full(-(-self.shape // self.sides), UNKNOWN, np.int32)
        self._rows: np.ndarray | None = None
        self._most = 0
        self._lock = Lock()

    def any(self) -> bool:
        """Say whether a place holds enough: a few are drawn, and all looked at if none of these does."""
        rng = np.random.default_rng(0)
        tried = zip(*(rng.integers(size, size=TRIES) for size in self.places), strict=True)
        return any(self.has_enough(np.array(place)) for place in tried) or self.count() > 0

    def has_enough(self, place: np.ndarray) -> bool:
        """Say whether the box at a place holds enough; it is read only where counts of small boxes leave that open."""
        low, high = place, place + self.output
        surely = at_most = 0
        for number in product(*map(range, low // self.sides, -(-high // self.sides))):
            start = np.array(number) * self.sides
            end = np.minimum(start + self.sides, self.shape)
            common = int(np.prod(np.minimum(high, end) - np.maximum(low, start)))
            count = self._count_of(number, start, end)
            surely += max(count - (int(np.prod(end - start)) - common), 0)
            at_most += min(count, common)
        if surely >= self.least or at_most < self.least:
            return surely >= self.least
        return bool(np.count_nonzero(self.labelled(low, high)) >= self.least)

    def count(self) -> int:
        """Count the places that hold enough; the labels are read for that, once."""
        return int(self._table().sum(dtype=np.int64))

    @property
    def most(self) -> int:
        """The most labelled voxels that a box holds."""
        self._table()
        return self._most

    def number(self, rank: int) -> int:
        """Find the place before which `rank` others hold enough, counted along x, then y, then z."""
        ends = np.cumsum(self._table(), dtype=np.int64)
        row = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[row - 1]) if row else 0
        low = np.array([*divmod(row, int(self.places[1])), 0])
        sums = self._sums(low, np.array([low[0] + 1, low[1] + 1, self.places[2]]))
        return row * int(self.places[2]) + int(np.flatnonzero(sums >= self.least)[rank])

    def _count_of(self, number: tuple[int, ...], start: np.ndarray, end: np.ndarray) -> int:
        """Count the labelled voxels of a small box, once."""
        if self.counts[number] == UNKNOWN:
            self.counts[number] = np.count_nonzero(self.labelled(start, end))
        return int(self.counts[number])

    def _table(self) -> np.ndarray:
        """How many places of each row along x hold enough, int32 (Z, Y)."""
        with self._lock:
            if self._rows is None:
                rows = np.zeros(self.places[:2], np.int32)
                for corner in product(*map(range, [0, 0, 0], self.places, TILE)):
                    low = np.array(corner)
                    high = np.minimum(low + TILE, self.places)
                    sums = self._sums(low, high)
                    self._most = max(self._most, int(sums.max()))
                    rows[low[0] : high[0], low[1] : high[1]] += (sums >= self.least).sum(axis=2, dtype=np.int32)
                self._rows = rows
            return self._rows

    def _sums(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Count the labelled voxels of the boxes at the places from `low` to `high`, int32."""
        return box_sums(self.labelled(low, high + self.output - 1), self.output.tolist())


class CountedPlaces(LabelledPlaces):
    """The places of several volumes one after the other, each looked at when it is drawn."""

    def __init__(self, volumes: Sequence[BoxCounts]) -> None:
        self._volumes = volumes
        self._ends = np.cumsum([int(np.prod(volume.places)) for volume in volumes])
        super().__init__(int(self._ends[-1]))

    def _first(self, places: np.ndarray) -> int | None:
        return next((number for number, place in enumerate(places) if self._has_enough(int(place))), None)

    def _has_enough(self, place: int) -> bool:
        number = int(np.searchsorted(self._ends, place, side="right"))
        volume, within = self._volumes[number], place - self._before(number)
        return volume.has_enough(np.array(np.unravel_index(within, volume.places)))

    def _before(self, number: int) -> int:
        return int(self._ends[number - 1]) if number else 0

    def _count(self) -> int:
        return sum(volume.count() for volume in self._volumes)

    def _number(self, rank: int) -> int:
        for number, volume in enumerate(self._volumes):
            if rank < volume.count():
                return self._before(number) + volume.number(rank)
            rank -= volume.count()
        raise IndexError(rank)
