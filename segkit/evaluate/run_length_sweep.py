"""Expected run lengths of a merge tree at all thresholds, with one look at the nodes and one pass over the merges."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from segkit.data import MergeTree
from segkit.data.labels import FIRST_OUTSIDE
from segkit.data.skeletons import Skeletons
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.evaluate._kernels_joins import joins
from segkit.evaluate._kernels_sweep import children_of
from segkit.evaluate.run_length import Runs, Scale
from segkit.evaluate.sweep import rows_at, shortest_at, thresholds_of


@dataclass(frozen=True, eq=False)
class RunLengthSweep:
    """Scores after all merges of altitude < threshold, for every threshold that makes a difference."""

    thresholds: np.ndarray
    """float64 (A + 1,), increasing, as of :class:`segkit.evaluate.Sweep`."""
    scores: dict[str, np.ndarray]
    """float64 (A + 1,) by name: those of :func:`segkit.evaluate.run_length.run_length_scores`."""
    fragments: dict[str, float] = field(default_factory=dict)
    """Scores of the fragments."""
    oracle: dict[str, float] = field(default_factory=dict)
    """Scores if every fragment were merged with those that hold most nodes of the same skeleton (ties: the first)."""

    def at(self, thresholds: Iterable[float]) -> list[dict[str, float]]:
        """The scores at any thresholds: one dictionary each, `threshold` first. Raises InvalidInput for NaN."""
        return [{"threshold": t} | self._row(row) for t, row in rows_at(self.thresholds, thresholds)]

    def best(self, score: str | None = None) -> dict[str, float]:
        """The scores at the threshold at which `score` is highest; ties: least merged.

        Without a `score` by NERL at the largest tolerance. The threshold is given with as few decimals as lead to the
        same segmentation.
        """
        usual = max((name for name in self.scores if name.startswith("nerl_")), key=lambda name: int(name[5:]))
        score = score or usual
        if score not in self.scores:
            raise InvalidParameter(sentence("score", f"must be one of {', '.join(self.scores)}", repr(score)))
        row = int(np.argmax(self.scores[score]))
        return {"threshold": shortest_at(self.thresholds, row)} | self._row(row)

    def _row(self, row: int) -> dict[str, float]:
        return {name: float(values[row]) for name, values in self.scores.items()}


class _Segment:
    """Skeletons in a segment while it grows. Sums of squares are integers of Python, and exact."""

    def __init__(self, tolerances: Sequence[int]) -> None:
        self.nodes: dict[int, int] = {}
        """Of each skeleton."""
        self.runs: dict[int, int] = {}
        """Length of the edges inside, of each skeleton."""
        self.open: set[int] = set()
        """Edges of which one end is inside."""
        self.squares = 0
        """The sum of the squares of `runs`."""
        self.large = [0] * len(tolerances)
        """How many skeletons have more nodes here than each tolerance."""
        self._tolerances = tolerances

    def add_nodes(self, skeleton: int, count: int) -> None:
        before = self.nodes.get(skeleton, 0)
        self.nodes[skeleton] = before + count
        for k, tolerance in enumerate(self._tolerances):
            self.large[k] += before <= tolerance < before + count

    def add_run(self, skeleton: int, steps: int) -> None:
        before = self.runs.get(skeleton, 0)
        self.runs[skeleton] = before + steps
        self.squares += steps * (2 * before + steps)

    def counted(self) -> list[int]:
        """What it adds to the sum of squares at each tolerance: nothing where it is merging."""
        return [0 if large > 1 else self.squares for large in self.large]

    def size(self) -> int:
        return len(self.nodes) + len(self.open)


def joined(one: _Segment, other: _Segment, owners: Sequence[int], steps: Sequence[int]) -> _Segment:
    """Both as one segment: the smaller goes into the larger. Of each edge its skeleton, and its length, are given."""
    large, small = (one, other) if one.size() >= other.size() else (other, one)
    for edge in small.open & large.open:
        large.add_run(owners[edge], steps[edge])
    large.open ^= small.open
    for skeleton, run in small.runs.items():
        large.add_run(skeleton, run)
    for skeleton, count in small.nodes.items():
        large.add_nodes(skeleton, count)
    return large


def sweep_run_lengths(
    tree: MergeTree, skeletons: Skeletons, fragments: np.ndarray, tolerances: Sequence[int]
) -> RunLengthSweep:
    """Compute the expected run lengths of the segmentations of a merge tree, at all thresholds at once.

    Each equals, to the last bit, what :func:`segkit.evaluate.run_length.run_length_scores` gives for the segmentation
    at that threshold. Raises InvalidInput if a fragment is no leaf of the tree, or no skeleton has an edge.

    Parameters
    ----------
    tree
        Its leaves are the fragments.
    skeletons
        The truth.
    fragments
        The fragment that each node lies in, uint64 (N,); 0 is none.
    tolerances
        Nodes of another skeleton that are no merger, each.

    Examples
    --------
    >>> line = Skeletons([[0, 0, 0], [0, 0, 10], [0, 0, 20], [0, 0, 30]], [[0, 1], [1, 2], [2, 3]], [7, 7, 7, 7])
    >>> tree = MergeTree.from_merges([1, 2], [[0, 1]], [0.25])
    >>> found = sweep_run_lengths(tree, line, np.array([1, 1, 2, 2], np.uint64), [0])
    >>> found.thresholds.tolist(), found.scores["erl_um_0"].round(6).tolist()
    ([0.25, 1.0], [0.006667, 0.03])
    """
    runs = Runs.of(skeletons, fragments)
    scale = Scale.of(runs.whole)
    segments = _segments(skeletons, fragments, runs, tolerances)
    groups = _leaf_groups(tree, runs.segments)
    owners, steps = skeletons.rows[skeletons.edges[:, 0]].tolist(), skeletons.steps.tolist()
    sums = [runs.squares(tolerance) for tolerance in tolerances]
    found = [(0, sums)]
    thresholds = thresholds_of(tree)
    merges = joins(children_of(tree.parents, len(tree.leaf_ids)), groups)
    rows = np.searchsorted(thresholds[:-1], tree.altitudes[merges[:, 0]]) + 1
    for row, (one, other) in zip(rows.tolist(), merges[:, 1:].tolist(), strict=True):
        apart = zip(segments[one].counted(), segments[other].counted(), strict=True)
        segments[one] = joined(segments[one], segments[other], owners, steps)
        together = segments[one].counted()
        sums = [total + new - a - b for total, new, (a, b) in zip(sums, together, apart, strict=True)]
        if row == found[-1][0]:
            found.pop()
        found.append((row, sums))
    lasting = np.diff([row for row, _ in found], append=len(thresholds))
    scored = [scale.scores(tolerances, sums) for _, sums in found]
    scores = {name: np.repeat([each[name] for each in scored], lasting) for name in scored[0]}
    return RunLengthSweep(thresholds, scores, scored[0], oracle_of(skeletons, runs, fragments).scores(tolerances))


def oracle_of(skeletons: Skeletons, runs: Runs, fragments: np.ndarray) -> Runs:
    """The runs after every fragment but 0 was merged with those that hold most nodes of the same skeleton."""
    order = np.lexsort((runs.rows, -runs.nodes, runs.cols))
    first = order[np.append(True, np.diff(runs.cols[order]) > 0)]
    owners = runs.rows[first].astype(np.uint64) + np.uint64(1)  # every segment holds a node, so there is one for each
    owners[runs.segments == 0] = 0
    named = np.where(fragments < FIRST_OUTSIDE, fragments, np.uint64(0))
    return Runs.of(skeletons, owners[np.searchsorted(runs.segments, named)])


def _segments(skeletons: Skeletons, fragments: np.ndarray, runs: Runs, tolerances: Sequence[int]) -> list[_Segment]:
    """One of each fragment; edges that end in 0 are in none."""
    found = [_Segment(tolerances) for _ in runs.segments]
    entries = zip(runs.cols.tolist(), runs.rows.tolist(), runs.nodes.tolist(), runs.steps.tolist(), strict=True)
    for col, row, nodes, steps in entries:
        found[col].add_nodes(row, nodes)
        found[col].add_run(row, steps)
    named = np.where(fragments < FIRST_OUTSIDE, fragments, np.uint64(0))
    ends = np.searchsorted(runs.segments, named)[skeletons.edges]
    crossing = (ends[:, 0] != ends[:, 1]) & (named[skeletons.edges] != 0).all(axis=1)
    for edge in np.flatnonzero(crossing).tolist():
        for col in ends[edge].tolist():
            found[col].open.add(edge)
    return found


def _leaf_groups(tree: MergeTree, segments: np.ndarray) -> np.ndarray:
    """Where in `segments` each leaf is, int64 (L,), or -1. Raises InvalidInput if one, but 0, is no leaf."""
    groups = np.full(len(tree.leaf_ids), -1)
    leaves = np.searchsorted(tree.leaf_ids, segments)
    known = leaves < len(tree.leaf_ids)
    known[known] = tree.leaf_ids[leaves[known]] == segments[known]
    lost = segments[~known & (segments != 0)]
    if len(lost):
        rule, next_step = "must be leaves of the merge tree", "use the fragments that were agglomerated"
        raise InvalidInput(sentence("fragments", rule, int(lost[0]), next_step))
    groups[leaves[known]] = np.flatnonzero(known)
    return groups
