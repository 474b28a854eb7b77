"""The oracle: agglomeration as one would write it down, in plain Python."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from segkit.agglomerate import (
    MILLION,
    LongRange,
    Score,
    check_constraints,
    check_long_range,
    check_neighborhood,
    check_parameters,
    is_far,
    millionths,
)
from segkit.data import Affinities, Labels, MergeTree, check_aligned, edge_slices
from segkit.errors import InvalidInput, sentence
from segkit.protocols import Agglomerator

Contacts = dict[tuple[int, int], tuple[list[np.float32], list[np.float32]]]
"""The affinities between direct neighbours, and those of longer edges."""


class Statistic(NamedTuple):
    """What is kept of the affinities of a contact: how it starts, how two become one, what it scores, if it merges."""

    start: Callable
    unite: Callable
    score: Callable
    touches: Callable = lambda kept: True


class Reference(Agglomerator):
    """Greedy merging of the pair of lowest score with dictionaries and a heap: slow and obvious, the oracle.

    What is merged when, and how ties are broken, is said in :mod:`segkit.agglomerate`; J. Funke et al. 2018,
    doi:10.1109/TPAMI.2018.2835450. Minutes for ten million voxels: `python` gives the same trees.

    Parameters
    ----------
    score
        The score of a contact is 1 - this statistic of its affinities. "mean": average linkage. "max": single linkage.
        "min": complete linkage. "median": the quantile 0.5. "quantile": see `quantile`.
    quantile
        Fraction 0..1 of the affinities of a contact that lie below its statistic, rounded to millionths: of n sorted
        affinities the one at position floor(quantile * n), from 0; the largest for 1. High values merge more (more
        false merges, fewer false splits).
    bins
        Quantiles are read from histograms with this many equal bins of 0..1, and the middle of the bin is taken, so
        that a score is off by at most half a bin. 0: from the affinities themselves, exactly.
    histogram_init
        "all": every affinity counts. "max": each initial contact of two fragments counts as one affinity, its largest,
        as in waterz by default; that is no quantile of the affinities.
    max_size
        Two clusters that have more voxels than this together are not merged. None: any size.
    mutex_above
        Two fragments whose contact scores above this, 0..1, are never put into one cluster, nor are clusters that
        hold such a pair: a contact keeps them apart as long as any part of it does ("cannot link" of A. Bailoni et
        al. 2019, doi:10.48550/arXiv.1906.11713). Fragments without a contact are not kept apart. None: no such rule.
    long_range
        How edges longer than one voxel count, for the score "mean". "alike": as all others. "both": for and against a
        merge, but only between clusters that touch. "against": between clusters that touch, as repulsion alone: an
        affinity a has the weight a - 1, where one of direct neighbours has 2a - 1, and the score is (1 - the mean
        weight) / 2; the signed average linkage of A. Bailoni et al. 2019. A neighborhood without long edges is refused.
    """

    def __init__(
        self,
        *,
        score: Score = "mean",
        quantile: float = 0.5,
        bins: int = 256,
        histogram_init: Literal["all", "max"] = "all",
        max_size: int | None = None,
        mutex_above: float | None = None,
        long_range: LongRange = "alike",
    ) -> None:
        check_parameters(score, quantile, bins, histogram_init)
        check_constraints(max_size, mutex_above)
        check_long_range(long_range, score)
        self.score = score
        self.quantile = quantile
        self.bins = bins
        self.histogram_init = histogram_init
        self.max_size = max_size
        self.mutex_above = mutex_above
        self.long_range = long_range

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """All merges, best first; see :class:`segkit.protocols.Agglomerator`."""
        check_aligned(affinities=affinities, fragments=fragments)
        check_neighborhood(affinities.neighborhood, self.long_range)
        ids = fragments.ids()
        position = {int(fragment): k for k, fragment in enumerate(ids)}
        contacts = sorted(_contacts(affinities, fragments, position).items())
        sizes = Counter(fragments.array.ravel().tolist())
        merges, scores = self._merge([sizes[int(fragment)] for fragment in ids], contacts)
        return MergeTree.from_merges(ids, merges, scores)

    def _statistic(self) -> Statistic:
        if self.long_range != "alike":
            return Statistic(self._start_signed, _added, _score_signed, lambda kept: kept[2] > 0)
        if self.score == "mean":
            return Statistic(_of_all(_start_mean), _added, _score_mean)
        if self.score in ("min", "max"):
            choose = min if self.score == "min" else max
            return Statistic(_of_all(choose), choose, lambda a: 1.0 - float(a))
        return Statistic(_of_all(self._start_histogram), lambda a, b: a + b, self._score_histogram)

    def _start_signed(self, near: list[np.float32], far: list[np.float32]) -> tuple[int, int, int]:
        """The sum of 1 + weight, in units of 2^-30, the number of edges, and how many of them are short."""
        (close, count), (distant, others) = _start_mean(near), _start_mean(far)
        return 2 * close + (2 if self.long_range == "both" else 1) * distant, count + others, count

    def _start_histogram(self, values: list[np.float32]) -> Counter:
        values = [max(values)] if self.histogram_init == "max" else values
        if self.bins == 0:
            return Counter(map(float, values))
        return Counter(min(int(value * np.float32(self.bins)), self.bins - 1) for value in values)

    def _score_histogram(self, histogram: Counter) -> float:
        count = histogram.total()
        pivot = min(count * millionths(self.score, self.quantile) // MILLION + 1, count)
        below = 0
        for number in sorted(histogram):
            below += histogram[number]
            if below >= pivot:
                break
        return 1.0 - (number + 0.5) / self.bins if self.bins else 1.0 - number

    def _merge(self, leaf_sizes: list[int], contacts: list) -> tuple[list[tuple[int, int]], list[float]]:
        """Merges (nodes of the tree) and scores. A contact goes by the number of its lowest edge; they are sorted.

        The heap holds (score, number); an entry is out of date if the contact of that number has another score by now.
        """
        statistic, leaves, sizes = self._statistic(), len(leaf_sizes), dict(enumerate(leaf_sizes))
        state = {number: statistic.start(*values) for number, (_, values) in enumerate(contacts)}
        score = {number: statistic.score(kept) for number, kept in state.items()}
        apart = {number for number, value in score.items() if self._keeps_apart(value)}
        neighbours: dict[int, dict[int, int]] = {node: {} for node in range(leaves)}
        ends = {}
        for number, ((u, v), _) in enumerate(contacts):
            neighbours[u][v] = neighbours[v][u] = number
            ends[number] = (u, v)
        heap = [(value, number) for number, value in score.items() if statistic.touches(state[number])]
        heapq.heapify(heap)
        merges: list[tuple[int, int]] = []
        scores: list[float] = []
        while heap:
            value, number = heapq.heappop(heap)
            if score.get(number) != value:
                continue
            u, v = ends[number]
            if number in apart or (self.max_size is not None and sizes[u] + sizes[v] > self.max_size):
                continue
            merged = leaves + len(merges)
            merges.append((u, v))
            scores.append(value)
            del score[number]
            del neighbours[u][v], neighbours[v][u]
            neighbours[merged] = {}
            sizes[merged] = sizes[u] + sizes[v]
            for other in neighbours[u].keys() | neighbours[v].keys():
                numbers = [neighbours[node][other] for node in (u, v) if other in neighbours[node]]
                kept = min(numbers)
                if len(numbers) == 2:
                    lost = max(numbers)
                    state[kept] = statistic.unite(state[kept], state.pop(lost))
                    del score[lost]
                    if lost in apart:
                        apart.add(kept)
                    score[kept] = statistic.score(state[kept])
                    if statistic.touches(state[kept]):
                        heapq.heappush(heap, (score[kept], kept))
                for node in (u, v):
                    neighbours[other].pop(node, None)
                neighbours[merged][other] = neighbours[other][merged] = kept
                ends[kept] = (merged, other)
            del neighbours[u], neighbours[v]
        return merges, scores

    def _keeps_apart(self, score: float) -> bool:
        return self.mutex_above is not None and score > self.mutex_above


def _start_mean(values: list[np.float32]) -> tuple[int, int]:
    """Sums are integers, in units of 2^-30, so that they are exact in any order."""
    return sum(round(float(value) * 2**30) for value in values), len(values)


def _score_mean(total_and_count: tuple[int, int]) -> float:
    total, count = total_and_count
    return 1.0 - total / 2**30 / count


def _score_signed(kept: tuple[int, int, int]) -> float:
    total, count, _ = kept
    return 1.0 - total / 2**31 / count


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _of_all(start: Callable) -> Callable:
    """The start of a statistic to which short and long edges are alike."""
    return lambda near, far: start(near + far)


def _contacts(affinities: Affinities, fragments: Labels, position: dict[int, int]) -> Contacts:
    """The affinities between every two fragments, by their positions, the lower first."""
    contacts: Contacts = {}
    for a, b, value, far in _affinity_edges(affinities, fragments):
        if a == b or a not in position or b not in position:
            continue
        if not 0 <= value <= 1:
            raise InvalidInput(sentence("affinities", "must lie in 0..1", f"{value} between fragments {a} and {b}"))
        low, high = sorted((position[a], position[b]))
        contacts.setdefault((low, high), ([], []))[far].append(value)
    return contacts


def _affinity_edges(affinities: Affinities, fragments: Labels) -> Iterator[tuple[int, int, np.float32, bool]]:
    """Of every edge inside the volume the ids at both ends, the affinity, and whether it is longer than one voxel."""
    far = is_far(affinities.neighborhood).tolist()
    for values, offset, longer in zip(affinities.array, affinities.neighborhood, far, strict=True):
        source, target = edge_slices(fragments.shape, offset)
        ends = fragments.array[source].ravel().tolist(), fragments.array[target].ravel().tolist()
        yield from ((*edge, longer) for edge in zip(*ends, values[source].ravel(), strict=True))
