"""The order in which fragments were merged: the result of every agglomeration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segkit.data.rag import frozen
from segkit.errors import InvalidInput, sentence


@dataclass(frozen=True, eq=False)
class MergeTree:
    """A forest of merges over L leaves (fragments): merge k joins two nodes into node L + k.

    Altitudes are the running maximum of the scores at which the merges happened. So a cut "altitude < t" equals
    replaying the merges until the first score >= t, and cutting at any threshold is a look-up table.

    >>> tree = MergeTree.from_merges([2, 5, 9], [[0, 1], [2, 3]], [0.1, 0.6])
    >>> tree.parents.tolist()
    [3, 3, 4, 4, 4]
    >>> tree.cut(0.5).tolist()
    [2, 2, 9]
    """

    leaf_ids: NDArray[np.uint64]
    """Ids of the fragments, uint64 (L,), strictly increasing, without 0."""
    parents: NDArray[np.int64]
    """Parent of every node, int64 (L + M,): leaves first, then merges in order; a root is its own parent."""
    altitudes: NDArray[np.float64]
    """Altitude of every merge, float64 (M,), never decreasing; 0 = merged first, no doubt; 1 = merged last."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "leaf_ids", frozen(self.leaf_ids, np.uint64))
        object.__setattr__(self, "parents", frozen(self.parents, np.int64))
        object.__setattr__(self, "altitudes", frozen(self.altitudes, np.float64))
        for name in ("leaf_ids", "altitudes"):
            if getattr(self, name).ndim != 1:
                raise InvalidInput(sentence(name, "must have one dimension", getattr(self, name).ndim))
        expected = len(self.leaf_ids) + len(self.altitudes)
        if self.parents.ndim != 1 or len(self.parents) != expected:
            rule = f"must have one entry a leaf and one a merge, {expected}"
            raise InvalidInput(sentence("parents", rule, self.parents.shape))

    @classmethod
    def from_merges(cls, leaf_ids: ArrayLike, merges: ArrayLike, scores: ArrayLike) -> "MergeTree":
        """A tree from merges in order: `merges` int64 (M, 2) holds node numbers, `scores` (M,) may decrease."""
        leaves = frozen(leaf_ids, np.uint64)
        joined = frozen(merges, np.int64).reshape(-1, 2)
        parents = np.arange(len(leaves) + len(joined))
        parents[joined] = (len(leaves) + np.arange(len(joined)))[:, None]
        altitudes = np.asarray(scores, np.float64)
        return cls(leaves, parents, np.maximum.accumulate(altitudes) if len(altitudes) else altitudes)

    @property
    def merges(self) -> NDArray[np.int64]:
        """The two nodes that each merge joined, int64 (M, 2), the smaller first."""
        children = np.argsort(self.parents, kind="stable")
        joined: NDArray[np.bool_] = self.parents[children] != children
        return children[joined].reshape(-1, 2)

    def roots(self, threshold: float) -> NDArray[np.int64]:
        """The node that each leaf belongs to once all merges of altitude < `threshold` are done, int64 (L,)."""
        if np.isnan(threshold):
            raise InvalidInput(sentence("threshold", "must be a number", threshold))
        nodes = len(self.leaf_ids) + int(np.searchsorted(self.altitudes, threshold, side="left"))
        above = self.parents[:nodes].copy()
        cut = above >= nodes
        above[cut] = np.flatnonzero(cut)
        while True:  # doubles the length of the paths each time
            further = above[above]
            if np.array_equal(further, above):
                return above[: len(self.leaf_ids)]
            above = further

    def cut(self, threshold: float) -> NDArray[np.uint64]:
        """The id of the segment of each leaf, uint64 (L,): the smallest fragment id in it."""
        roots = self.roots(threshold)
        first = np.full(len(self.parents), len(self.leaf_ids), np.int64)
        np.minimum.at(first, roots, np.arange(len(roots)))
        return self.leaf_ids[first[roots]]

    def check(self) -> None:
        """Raise InvalidInput unless ids increase, altitudes never decrease and every merge has two children. O(n)."""
        leaves, nodes = len(self.leaf_ids), len(self.parents)
        if (self.leaf_ids[1:] <= self.leaf_ids[:-1]).any() or (leaves and self.leaf_ids[0] == 0):
            raise InvalidInput(sentence("leaf_ids", "must be positive and strictly increasing"))
        if not np.isfinite(self.altitudes).all() or (np.diff(self.altitudes) < 0).any():
            raise InvalidInput(sentence("altitudes", "must be finite and never decrease"))
        own = np.arange(nodes)
        if ((self.parents < own) | (self.parents >= nodes)).any():
            raise InvalidInput(sentence("parents", "must come after their children"))
        children = np.bincount(self.parents[self.parents != own], minlength=nodes)
        if (children[:leaves] != 0).any() or (children[leaves:] != 2).any():
            raise InvalidInput(sentence("parents", "must give every merge exactly two children and no leaf any"))
