"""A forest of decision trees as flat arrays, checked, so that a file of one can do nothing but add up numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from segkit.errors import InvalidInput, sentence
from segkit.threads import share

from segkit_learned import _kernels as kernels

MOST_NODES = 2**21
ROWS = 2**12
"""Rows that are worth a thread."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees one after the other; a row goes left where its feature is at most the threshold.

    Raises InvalidInput for arrays that are no trees: children come after their parent and lie in its tree.
    """

    roots: np.ndarray
    """The first node of each tree, int64 (T,), increasing from 0."""
    feature: np.ndarray
    """The column that a node looks at, int64 (N,); -1 at leaves."""
    threshold: np.ndarray
    """float64 (N,)."""
    left: np.ndarray
    """int64 (N,)."""
    right: np.ndarray
    """int64 (N,)."""
    value: np.ndarray
    """What a leaf adds, float64 (N,)."""

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        if not 0 < nodes <= MOST_NODES or any(len(getattr(self, each.name)) != nodes for each in fields(self)[1:]):
            raise InvalidInput(
                sentence("the trees", f"must have 1..{MOST_NODES} nodes, equally many in each list", nodes)
            )
        if not (np.isfinite(self.threshold).all() and np.isfinite(self.value).all()):
            raise InvalidInput(sentence("thresholds and values of the trees", "must be finite"))
        if not len(self.roots) or self.roots[0] != 0 or (np.diff(self.roots) <= 0).any() or self.roots[-1] >= nodes:
            raise InvalidInput(sentence("the roots of the trees", f"must increase from 0 and lie below {nodes}"))
        inner = np.flatnonzero(self.feature >= 0)
        ends = np.append(self.roots, nodes)[np.searchsorted(self.roots, inner, side="right")]
        for side in (self.left[inner], self.right[inner]):
            if ((side <= inner) | (side >= ends)).any():
                raise InvalidInput(sentence("the children of a node", "must come after it and lie in its tree"))

    def check(self, columns: int) -> None:
        """Raise InvalidInput if a node looks at a column that rows of `columns` do not have."""
        if self.feature.max() >= columns or self.feature.min() < -1:
            raise InvalidInput(sentence("the features of the trees", f"must lie in -1..{columns - 1}"))

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """Add up the leaves that each row of float64 (R, F) falls into, float64 (R,), by all threads."""
        rows, totals = np.ascontiguousarray(rows), np.empty(len(rows))
        arrays = self.roots, self.feature, self.threshold, self.left, self.right, self.value
        share(lambda a, b: kernels.add_leaves(rows[a:b], *arrays, totals[a:b]), len(rows), least=ROWS)
        return totals

    @classmethod
    def mean(cls, forests: Sequence["Forest"]) -> "Forest":
        """One whose sums are the mean of those of all."""
        begins = np.cumsum([0, *(len(each.feature) for each in forests)])
        roots, left, right = (
            np.concatenate([getattr(each, name) + begin for each, begin in zip(forests, begins, strict=False)])
            for name in ("roots", "left", "right")
        )
        feature, threshold, value = (
            np.concatenate([getattr(each, name) for each in forests]) for name in ("feature", "threshold", "value")
        )
        return cls(roots, feature, threshold, left, right, value / len(forests))

    @classmethod
    def of_booster(cls, dumped: dict[str, Any]) -> "Forest":
        """Take the trees of a LightGBM model, as its `dump_model` gives them, without missing or categorical values."""
        roots: list[int] = []
        nodes: list[list[float]] = []

        def add(tree: dict[str, Any]) -> int:
            place = len(nodes)
            if "leaf_value" in tree:
                nodes.append([-1, 0.0, 0, 0, tree["leaf_value"]])
                return place
            nodes.append([tree["split_feature"], float(tree["threshold"]), 0, 0, 0.0])
            nodes[place][2] = add(tree["left_child"])
            nodes[place][3] = add(tree["right_child"])
            return place

        for tree in dumped["tree_info"]:
            roots.append(add(tree["tree_structure"]))
        feature, threshold, left, right, value = np.array(nodes, np.float64).reshape(-1, 5).T
        whole = (np.array(roots, np.int64), feature.astype(np.int64), threshold)
        return cls(*whole, left.astype(np.int64), right.astype(np.int64), value)
