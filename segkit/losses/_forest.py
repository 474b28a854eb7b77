"""The maximum spanning forest of an item on the CPU, and the pairs of voxels that its edges decide."""

from typing import NamedTuple

import numpy as np

from segkit.losses import _kernels_edges, _kernels_forest, _kernels_join
from segkit.losses._kernels_edges import UNIT
from segkit.losses._kernels_forest import PARTS
from segkit.threads import share

LEAST = 8
"""Units of voxels that are worth a thread."""


class Decided(NamedTuple):
    """Edges, and how many pairs of one kind each decides; edges come once, but those of 0 pairs mean nothing."""

    edges: np.ndarray
    """Flat indices in (C, Z, Y, X), int32."""
    affinities: np.ndarray
    """float32."""
    pairs: np.ndarray
    """int64."""


class Forest(NamedTuple):
    """The edges of a maximum spanning forest, and few others, of an item."""

    edges: np.ndarray
    """As :func:`segkit.losses._kernels_forest.candidates` lists them, part after part; counting overwrites them."""
    bounds: np.ndarray
    """Where each part begins, and the end. Edges inside objects have PARTS parts, those between objects the last one;
    if not constrained all have the first one."""
    spare: np.ndarray
    """As long as the edges."""
    basins: np.ndarray
    """The basin of each voxel: what the strongest edge of each voxel connects."""
    roots: np.ndarray
    """The voxel that each basin begins with."""
    codes: np.ndarray
    """The strongest edge of each voxel."""

    def sorted(self, part: int) -> np.ndarray:
        """The edges of a part in the order in which they join."""
        begin, end = self.bounds[part : part + 2]
        _kernels_forest.sort(self.edges[begin:end], self.spare[begin:end])
        return self.spare[begin:end]


def grow(
    bits: np.ndarray, edges: np.ndarray, labels: np.ndarray, steps: np.ndarray, constrained: bool
) -> Forest | None:
    """The forest of the given edges, of those inside objects first if `constrained`; None if an affinity is bad.

    All arrays are flat: `bits` are affinities, float32, as int32, `labels` int64; `steps` are offsets in voxels.
    """
    units = -(-len(labels) // UNIT)
    keys = np.empty(len(bits), np.int32)
    if not all(share(_kernels_edges.edge_keys, units, bits, edges, labels, steps, constrained, keys, least=LEAST)):
        return None
    codes = np.empty(len(labels), np.int8 if len(steps) < 64 else np.int16)
    share(_kernels_edges.strongest_edges, units, keys, steps, codes, least=LEAST)
    basins, roots, bounds = _basins(codes, steps, labels, constrained)
    return Forest(*_edges(keys, codes, basins, steps, bounds), basins, roots, codes)


def _basins(
    codes: np.ndarray, steps: np.ndarray, labels: np.ndarray, constrained: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The basin of each voxel, the root of each basin, and the first basin of each part and their end."""
    units = -(-len(codes) // UNIT)
    both = np.append(np.stack([steps, -steps], 1), 0)
    basins, found = np.empty(len(codes), np.int32), np.empty(len(codes), np.int32)
    counts = np.zeros((units, PARTS), np.int64)
    arrays = codes, both, labels if constrained else labels[:0], basins, found, counts
    share(_kernels_forest.find_roots, units, *arrays, least=LEAST)
    bounds, starts = _places(counts.T)
    roots = np.empty(bounds[-1], np.int32)
    starts = np.ascontiguousarray(starts.T)
    share(_kernels_forest.number_roots, units, found, counts, starts, basins, roots, least=LEAST)
    share(_kernels_forest.follow, units, codes, both, basins, least=LEAST)
    return basins, roots, bounds


def _edges(
    keys: np.ndarray, codes: np.ndarray, basins: np.ndarray, steps: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges, part after part, where each part begins, and an array as long as the edges."""
    units = -(-len(codes) // UNIT)
    found = np.empty(units * len(steps) * UNIT, np.int64)
    parts, counts = np.empty(len(found), np.uint8), np.zeros((units, len(steps), PARTS + 1), np.int64)
    arrays = keys, codes, basins, steps, bounds, (found, parts, counts)
    share(_kernels_forest.candidates, units, *arrays, least=LEAST)
    ends, starts = _places(counts.transpose(2, 1, 0))
    edges = np.empty(ends[-1], np.int64)
    starts = np.ascontiguousarray(starts.transpose(2, 1, 0))
    share(_kernels_forest.deal_out, units, found, parts, counts, starts, edges, least=LEAST)
    return edges, ends, found[: len(edges)]


def _places(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each part begins, and the end; and where each of its pieces does. `counts` has parts first."""
    ends = np.cumsum(counts).reshape(counts.shape)
    bounds = np.append(0, ends.reshape(len(counts), -1)[:, -1])
    return bounds, ends - counts


def pairs_inside(forest: Forest, steps: np.ndarray, parent: np.ndarray) -> Decided:
    """What the edges inside objects decide. Joins basins in `parent`."""
    last = int(forest.bounds[PARTS])
    found, bits, pairs = np.empty(last, np.int32), np.empty(last, np.int32), np.empty(last, np.int64)
    arrays = (forest.edges, forest.spare), (steps, forest.basins, parent), (found, bits, pairs)
    share(_kernels_join.join_objects, PARTS, forest.bounds, *arrays, least=_parts_worth_a_thread(len(forest.basins)))
    return Decided(found, bits.view(np.float32), pairs)


def _parts_worth_a_thread(voxels: int) -> int:
    return max(1, PARTS * LEAST * UNIT // voxels)


def pairs_by_label(
    forest: Forest, order: np.ndarray, steps: np.ndarray, labels: np.ndarray, parent: np.ndarray
) -> tuple[Decided, Decided]:
    """What the edges in `order` decide, pairs of the same label and of different ones.

    `parent` holds the components to begin with, each of one label, or of 0, which makes no pairs; it is changed.
    """
    basins = len(parent)
    entries = np.empty((basins + len(order), 2), np.int32)
    entry_labels, components = np.empty(len(entries), np.int64), np.empty((basins, 3), np.int32)
    _kernels_join.begin_lists(parent, forest.roots, labels, components, entries, entry_labels)
    table, state = np.full((1024, 2), -1, np.int32), np.array([basins, 0, 0])
    edges, bits = np.empty(len(order), np.int32), np.empty(len(order), np.int32)
    pairs = np.empty((2, len(order)), np.int64)
    volume, lists = (steps, forest.codes, forest.basins, labels), (components, entries, entry_labels)
    results = edges, bits, pairs
    done = _kernels_join.join_components(order, volume, parent, lists, table, state, results)
    while done < len(order):
        longest = int(components[:, _kernels_join.LENGTH].max())
        table, state[_kernels_join.SLOTS] = _with_room(table, parent, entry_labels, longest)
        done += _kernels_join.join_components(order[done:], volume, parent, lists, table, state, results)
    found = state[_kernels_join.FOUND]
    edges, affinities = edges[:found], bits[:found].view(np.float32)
    return Decided(edges, affinities, pairs[0, :found]), Decided(edges, affinities, pairs[1, :found])


def _with_room(table: np.ndarray, parent: np.ndarray, entry_labels: np.ndarray, more: int) -> tuple[np.ndarray, int]:
    """A table with the entries of components that still are, and room for `more`; and how many entries it has."""
    used = table[table[:, 1] >= 0]
    alive = int((parent[used[:, 0]] < 0).sum())
    size = 1 << (4 * (alive + more + _kernels_join.SCANNED)).bit_length()
    larger = np.full((size, 2), -1, np.int32)
    return larger, _kernels_join.copy_alive(table, parent, entry_labels, larger)
