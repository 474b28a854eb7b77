"""The maximum spanning forest of an item on the CPU, and the pairs of voxels that its edges decide."""

from typing import NamedTuple

import numpy as np

from segkit.losses import _kernels_edges, _kernels_forest, _kernels_join


class Forest(NamedTuple):
    """The edges of a maximum spanning forest, and few others, of an item."""

    order: np.ndarray
    """Edges in the order in which they join, as :func:`segkit.losses._kernels_forest.candidates` writes them."""
    first: int
    """How many come first, before all others: those inside objects if constrained, else all."""
    basins: np.ndarray
    """The basin of each voxel: what the strongest edge of each voxel connects."""
    roots: np.ndarray
    """The voxel that each basin begins with."""
    codes: np.ndarray
    """The strongest edge of each voxel."""


def grow(
    bits: np.ndarray, edges: np.ndarray, labels: np.ndarray, steps: np.ndarray, constrained: bool
) -> Forest | None:
    """The forest of the given edges, of those inside objects first if `constrained`; None if an affinity is bad.

    All arrays are flat: `bits` are affinities, float32, as int32, `labels` int64; `steps` are offsets in voxels.
    """
    voxels = len(labels)
    keys = np.empty(len(bits), np.int32)
    if not _kernels_edges.edge_keys(bits, edges, labels, steps, constrained, keys):
        return None
    codes = np.empty(voxels, np.int8 if len(steps) < 64 else np.int16)
    _kernels_edges.strongest_edges(keys, steps, codes)
    basins, roots = np.full(voxels, -1, np.int32), np.empty(voxels, np.int32)
    count = _kernels_forest.find_basins(codes, np.append(np.stack([steps, -steps], 1), 0), basins, roots)
    order = np.empty(len(keys), np.int64)
    counts = np.zeros((_kernels_forest.PASSES, _kernels_forest.BUCKETS), np.int64)
    order = order[: _kernels_forest.candidates(keys, codes, basins, steps, order, counts)]
    order = _in_order(order, counts)
    first = int(np.searchsorted(order, np.int64(_kernels_edges.BETWEEN) << 32))
    return Forest(order, first, basins, roots[:count], codes)


def _in_order(order: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The edges by their keys, equal ones as they come: a radix sort, the lowest digit first."""
    other = np.empty_like(order)
    for digit, sizes in enumerate(counts):
        if sizes.max(initial=0) == len(order):
            continue
        shift = 32 + _kernels_forest.BITS * digit
        _kernels_forest.distribute(order, shift, np.cumsum(sizes) - sizes, other)
        order, other = other, order
    return order


def pairs_inside(forest: Forest, steps: np.ndarray, parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index, pairs) of the first edges of a forest, all inside objects, that join two pieces.

    Joins basins in `parent`; overwrites these edges of the forest.
    """
    order = forest.order[: forest.first]
    pairs = np.empty(len(order), np.int64)
    number = _kernels_join.join_objects(order, steps, forest.basins, parent, pairs)
    return order[:number], pairs[:number]


def pairs_by_label(
    forest: Forest, order: np.ndarray, steps: np.ndarray, labels: np.ndarray, parent: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(index, same-label pairs, different-label pairs) of the edges in `order` that decide any pair.

    `parent` holds the components to begin with, each of one label, or of 0, which makes no pairs; it is changed.
    """
    basins = len(parent)
    entries = np.empty((basins + len(order), 2), np.int32)
    entry_labels, components = np.empty(len(entries), np.int64), np.empty((basins, 3), np.int32)
    _kernels_join.begin_lists(parent, forest.roots, labels, components, entries, entry_labels)
    table, state = np.full((1024, 2), -1, np.int32), np.array([basins, 0, 0])
    edges, pairs = np.empty(len(order), np.int64), np.empty((2, len(order)), np.int64)
    arrays = steps, forest.codes, forest.basins, labels, parent, components, entries, entry_labels
    done = _kernels_join.join_components(order, *arrays, table, state, edges, pairs)
    while done < len(order):
        longest = int(components[:, _kernels_join.LENGTH].max())
        table, state[_kernels_join.SLOTS] = _with_room(table, parent, entry_labels, longest)
        done += _kernels_join.join_components(order[done:], *arrays, table, state, edges, pairs)
    found = state[_kernels_join.FOUND]
    return edges[:found], pairs[0, :found], pairs[1, :found]


def _with_room(table: np.ndarray, parent: np.ndarray, entry_labels: np.ndarray, more: int) -> tuple[np.ndarray, int]:
    """A table with the entries of components that still are, and room for `more`; and how many entries it has."""
    used = table[table[:, 1] >= 0]
    alive = int((parent[used[:, 0]] < 0).sum())
    size = 1 << (4 * (alive + more + _kernels_join.SCANNED)).bit_length()
    larger = np.full((size, 2), -1, np.int32)
    return larger, _kernels_join.copy_alive(table, parent, entry_labels, larger)
