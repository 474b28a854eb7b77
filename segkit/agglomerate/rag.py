"""The region adjacency graph: which fragments touch, and what their affinities say about it."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from segkit.agglomerate import MAX_BINS, _kernels_pieces, _kernels_rag, is_far
from segkit.data import Affinities, Labels, RegionAdjacencyGraph, check_aligned
from segkit.data.rag import frozen
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.threads import thread_count

UNIT = _kernels_rag.UNIT
"""Sums of affinities are integers, in units of 1 / UNIT = 2^-30."""

FEATURES = ("count", "sum", "far_count", "far_sum", "min", "max", "histogram", "size")
VOXELS_OF_SLAB = 2**21
Box = tuple[slice, slice, slice]
Ranges = tuple[tuple[int, int], ...]
"""A box as kernels take it: begin and end along z, y and x."""
PIECES = 4
"""Pieces a thread: few enough to cost nothing, enough to even out slow ones."""


def region_adjacency_graph(
    affinities: Affinities,
    fragments: Labels,
    features: Sequence[str] = ("count", "sum"),
    *,
    bins: int = 256,
    inner: Box | None = None,
) -> RegionAdjacencyGraph:
    """A node for every fragment, an edge for every two that at least one affinity edge joins inside the volume.

    Background (0) and voxels outside the annotation are in no node and in no edge. Affinities inside a fragment are
    not read.

    Parameters
    ----------
    affinities
        float32 (C, Z, Y, X) in 0..1, of any neighborhood.
    fragments
        uint64 (Z, Y, X), any ids; aligned with `affinities`.
    features
        The statistics of the affinities between two fragments that the result shall hold:

        - "count": how many there are, int64 (E,).
        - "sum": int64 (E,), in units of 2^-30, each affinity rounded to the nearest. Integers add up to the same sum
          in any order, over any blocks and threads; floats do not. A mean is off by at most 2^-31.
        - "far_count", "far_sum": the same of the edges alone that are longer than one voxel.
        - "min", "max": float32 (E,).
        - "histogram": how many fall into each of `bins` equal bins of 0..1, int32 (E, bins). It needs 4 * bins bytes
          an edge: 1 KiB for 256.
        - "size": the voxels of each fragment, int64 (N,), among the node features.
    bins
        Number of bins of "histogram"; affinity a is in bin floor(a * bins), 1 in the last.
    inner
        For a part of a volume: the box of `fragments` (slices z, y, x, with both ends given) that `affinities` cover.
        The graph holds the affinity edges of these voxels, wherever in `fragments` they lead to, and the fragments that
        have a voxel in the box or one of these edges; sizes count the voxels of the box. If boxes tile a volume, and
        each sees as far around as the offsets reach, :func:`segkit.agglomerate.pieces.unite` makes the graph of the
        whole of theirs.

    Raises
    ------
    InvalidInput, InvalidShape
        If both are not aligned, or an affinity between two fragments is NaN or not in 0..1.
    InvalidParameter
        For an unknown feature, or a number of bins that is not in 1..65536.

    Examples
    --------
    >>> from segkit import Grid
    >>> fragments = Labels.convert([[[4, 4, 9]]], Grid())
    >>> affinities = Affinities.convert([[[[0, 0.9, 0.25]]]], [(0, 0, -1)], Grid())
    >>> rag = region_adjacency_graph(affinities, fragments)
    >>> rag.edge_ids().tolist(), mean_affinity(rag).tolist()
    ([[4, 9]], [0.25])
    """
    _check_features(features, bins)
    wanted = Wanted("min" in features or "max" in features, "histogram" in features, "size" in features)
    contacts = _collect(affinities, fragments, wanted, bins, inner)
    near = _near_totals(contacts, affinities, fragments, inner) if {"far_count", "far_sum"} & {*features} else None
    return _graph(contacts, near, features, bins)


def _near_totals(contacts: "_Contacts", affinities: Affinities, fragments: Labels, inner: Box | None) -> np.ndarray:
    """Count and sum of the affinities of direct neighbours alone, int64 (2, E); zeros where fragments do not touch.

    Why those, and not the others, which are wanted? They are few, and little more than what touches.
    """
    near = np.flatnonzero(~is_far(affinities.neighborhood))
    totals = np.zeros_like(contacts.totals)
    if len(near):
        consecutive = near[-1] - near[0] == len(near) - 1  # a view is enough
        array = affinities.array[near[0] : near[-1] + 1] if consecutive else affinities.array[near]
        chosen = Affinities(array, affinities.neighborhood[near], affinities.grid)
        found = _collect(chosen, fragments, Wanted(extremes=False, values=False, sizes=False), 0, inner)
        ends = np.searchsorted(contacts.node_ids, found.node_ids)[found.edges]
        keys = (edges[:, 0] << 32 | edges[:, 1] for edges in (contacts.edges, ends))
        totals[:, np.searchsorted(*keys)] = found.totals
    return totals


def _graph(contacts: "_Contacts", near: np.ndarray | None, features: Sequence[str], bins: int) -> RegionAdjacencyGraph:
    """The graph with these features; `near` are the totals of direct neighbours, where they are wanted."""
    columns = dict(zip(("count", "sum", "min", "max"), (*contacts.totals, *contacts.extremes), strict=True))
    if near is not None:
        columns |= dict(zip(("far_count", "far_sum"), contacts.totals - near, strict=True))
    found = {name: columns[name] for name in features if name in columns}
    if "histogram" in features:
        found["histogram"] = _kernels_rag.dense_histograms(contacts.starts, contacts.numbers, bins)
    node_features = {"size": contacts.sizes} if "size" in features else {}
    return RegionAdjacencyGraph(contacts.node_ids, contacts.edges, found, node_features)


def _check_features(features: Sequence[str], bins: int) -> None:
    for feature in features:
        if feature not in FEATURES:
            raise InvalidParameter(sentence("features", f"must be among {', '.join(FEATURES)}", repr(feature)))
    if "histogram" in features:
        _check_bins(bins, least=1)


def contact_bins(
    affinities: Affinities, fragments: Labels, bins: int = 256, *, sizes: bool = False, inner: Box | None = None
) -> tuple[RegionAdjacencyGraph, np.ndarray, np.ndarray]:
    """The graph with the feature "count", and its histograms in little memory: the bin of every affinity, sorted.

    The affinities of edge e lie in the bins numbers[starts[e] : starts[e + 1]]; starts is int64 (E + 1,), numbers
    int32. For `bins` (at most 65536), arguments and errors see :func:`region_adjacency_graph`; with `bins` = 0 the
    numbers are the affinities themselves: numbers.view(np.float32). With `sizes` the graph has the feature "size".
    Fragments are many and contacts small as a rule: 4 bytes an affinity are far less than `bins` counts an edge.
    """
    _check_bins(bins, least=0)
    contacts = _collect(affinities, fragments, Wanted(extremes=False, values=True, sizes=sizes), bins, inner)
    node_features = {"size": contacts.sizes} if sizes else {}
    graph = RegionAdjacencyGraph(contacts.node_ids, contacts.edges, {"count": contacts.totals[0]}, node_features)
    return graph, contacts.starts, contacts.numbers


def mean_affinity(rag: RegionAdjacencyGraph) -> np.ndarray:
    """The mean of the affinities of each edge, float64 (E,), from the features "count" and "sum"."""
    return rag.features["sum"] / UNIT / rag.features["count"]


class AffinityLists(NamedTuple):
    """Histograms in little memory: the bins of an edge's affinities, sorted, and how often each counts."""

    starts: np.ndarray
    """Those of edge e lie at starts[e] to starts[e + 1]; int64 (E + 1,)."""
    numbers: np.ndarray
    """int32: the bin, or the bits of the float32 where there are no bins."""
    weights: np.ndarray
    """int64; empty if each counts once."""

    @classmethod
    def of_contacts(cls, starts: np.ndarray, numbers: np.ndarray) -> "AffinityLists":
        """From what :func:`segkit.agglomerate.rag.contact_bins` gives; equal numbers become one."""
        return cls(*_kernels_pieces.runs_of(starts, numbers))

    def take(self, rows: np.ndarray) -> "AffinityLists":
        """The lists of these edges, in this order."""
        begins = np.arange(len(rows))
        return AffinityLists(*_kernels_pieces.unite_runs(rows, begins, begins + 1, *self, False))


class Wanted(NamedTuple):
    """What costs extra."""

    extremes: bool
    values: bool
    sizes: bool


class _Slab(NamedTuple):
    """What a run of sections knows, as `find_ids`, `count_voxels` and `find_pairs` give it."""

    ids: np.ndarray
    slots: np.ndarray
    sizes: np.ndarray
    pairs: np.ndarray
    least: np.ndarray
    values: np.ndarray
    bad: int


class _Contacts(NamedTuple):
    """The whole volume; edges in lexicographic order. What was not wanted is empty."""

    node_ids: np.ndarray
    sizes: np.ndarray
    edges: np.ndarray
    totals: np.ndarray
    extremes: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray


def _collect(affinities: Affinities, fragments: Labels, wanted: Wanted, bins: int, inner: Box | None) -> _Contacts:
    if inner is None:
        check_aligned(affinities=affinities, fragments=fragments)
        box = tuple((0, size) for size in fragments.shape)
    else:
        box = _checked(inner, affinities, fragments)
    ids = frozen(np.ascontiguousarray(fragments.array)).reshape(-1)
    values = frozen(np.ascontiguousarray(affinities.array)).reshape(-1)
    shape = fragments.array.shape
    whole_wanted, wanted = wanted, wanted._replace(sizes=wanted.sizes or inner is not None)
    with ThreadPoolExecutor(thread_count()) as pool:

        def look(first: int, last: int) -> _Slab:
            part = ((first, last), *box[1:])
            return _look_at(ids, shape, values, affinities.neighborhood, part, box, wanted)

        slabs = list(pool.map(look, *zip(*_slabs(box, shape, affinities.neighborhood), strict=True)))
        bad = [slab.bad for slab in slabs if slab.bad >= 0]
        if bad:
            _refuse(affinities, min(bad))
        contacts = _unite(slabs, bins, wanted, pool)
    return contacts if inner is None else _without_others(contacts, whole_wanted)


def _checked(inner: Box, affinities: Affinities, fragments: Labels) -> Ranges:
    """First and last + 1 voxel of the box along each axis."""
    box = tuple((part.start, part.stop) for part in inner)
    if not all(0 <= start < stop <= size for (start, stop), size in zip(box, fragments.shape, strict=True)):
        raise InvalidInput(sentence("inner", f"must be a part of fragments, of shape {fragments.shape}", inner))
    covered = Labels(fragments.array[inner], fragments.grid.crop([start for start, _ in box]))
    check_aligned(affinities=affinities, inner=covered)
    return box


def _without_others(contacts: _Contacts, wanted: Wanted) -> _Contacts:
    """Without the fragments that have neither a voxel in the box nor an edge."""
    belongs = contacts.sizes > 0
    belongs[contacts.edges] = True
    number = np.cumsum(belongs) - 1
    sizes = contacts.sizes[belongs] if wanted.sizes else contacts.sizes[:0]
    return contacts._replace(node_ids=contacts.node_ids[belongs], sizes=sizes, edges=number[contacts.edges])


def _slabs(box: Ranges, shape: tuple[int, ...], neighborhood: np.ndarray) -> list[tuple[int, int]]:
    """First and last + 1 section of each slab: some for each thread, but not so thin that they overlap much."""
    begin, end = box[0]
    reach = int(np.abs(neighborhood[:, 0]).max())
    sections = max(1, VOXELS_OF_SLAB // (shape[1] * shape[2]), 4 * reach)
    sections = min(sections, max(-(-(end - begin) // (2 * thread_count())), 2 * reach, 1))
    return [(first, min(first + sections, end)) for first in range(begin, end, sections)]


def _look_at(
    ids: np.ndarray,
    shape: tuple[int, int, int],
    values: np.ndarray,
    neighborhood: np.ndarray,
    part: Ranges,
    box: Ranges,
    wanted: Wanted,
) -> _Slab:
    """The slab `part` of the box; the neighbours of its voxels may lie around it."""
    (first, last), (top, bottom), (left, right) = part
    before = max(0, first + min(0, int(neighborhood[:, 0].min())))
    behind = min(shape[0], last + max(0, int(neighborhood[:, 0].max())))
    found, slots = _kernels_rag.find_ids(ids, shape, before, behind)
    sizes = np.empty(0, np.int64)
    if wanted.sizes:
        own = np.ascontiguousarray(ids.reshape(shape)[first:last, top:bottom, left:right]).reshape(-1)
        sizes = _kernels_rag.count_voxels(frozen(own), found, slots)
    pairs = _kernels_rag.find_pairs(ids, shape, values, neighborhood, part, box, wanted.extremes, wanted.values)
    return _Slab(found, slots, sizes, *pairs)


def _unite(slabs: list[_Slab], bins: int, wanted: Wanted, pool: ThreadPoolExecutor) -> _Contacts:
    """Nodes in the order of their ids, and edges in the order of their nodes, each once."""
    ids = np.concatenate([slab.ids for slab in slabs])
    node_ids, ranks = _kernels_rag.rank_ids(ids, np.argsort(ids))
    sizes = np.zeros(len(node_ids), np.int64)
    if wanted.sizes:
        np.add.at(sizes, ranks, np.concatenate([slab.sizes for slab in slabs]))
    edges = np.empty(sum(len(slab.pairs) for slab in slabs), _kernels_rag.EDGE)
    names = np.split(ranks, np.cumsum([len(slab.ids) for slab in slabs])[:-1])
    parts = np.split(edges, np.cumsum([len(slab.pairs) for slab in slabs])[:-1])

    def rename(slab: _Slab, names: np.ndarray, part: np.ndarray) -> None:
        _kernels_rag.rename_pairs(slab.pairs, slab.least, slab.ids, slab.slots, names, part)

    list(pool.map(rename, slabs, names, parts))
    order, starts = _kernels_rag.bucket_edges(edges, len(node_ids))
    cuts = _cuts(starts)
    pieces = [starts[a : b + 1] for a, b in cuts]
    counted = list(pool.map(lambda piece: _kernels_rag.sort_buckets(edges, order, piece), pieces))
    ends = np.cumsum([(0, 0), *counted], axis=0)
    pairs = np.empty((ends[-1, 0], 2), np.int64)
    totals = np.empty((2, len(pairs)), np.int64)
    extremes = np.empty((2, len(pairs) if wanted.extremes else 0), np.int32)

    def unite(piece: np.ndarray, first: int, last: int) -> None:
        part = order[piece[0] : piece[-1]]
        _kernels_rag.unite_edges(edges, part, pairs[first:last], totals[:, first:last], extremes[:, first:last])

    list(pool.map(unite, pieces, ends[:-1, 0], ends[1:, 0]))
    numbers = np.empty(int(ends[-1, 1]) if wanted.values else 0, np.int32)
    edge_starts = np.concatenate([[0], np.cumsum(totals[0])])
    if wanted.values:
        values = np.concatenate([slab.values for slab in slabs])
        places = np.cumsum(edges["count"], dtype=np.int64) - edges["count"]

        def gather(piece: np.ndarray, first: int, last: int) -> None:
            spans = edge_starts[first : last + 1]
            part = order[piece[0] : piece[-1]]
            _kernels_rag.gather_numbers(edges, part, places, values, bins, spans, numbers[spans[0] : spans[-1]])

        list(pool.map(gather, pieces, ends[:-1, 0], ends[1:, 0]))
    return _Contacts(node_ids, sizes, pairs, totals, extremes.view(np.float32), edge_starts, numbers)


def _cuts(starts: np.ndarray) -> list[tuple[int, int]]:
    """First and last + 1 bucket of pieces that hold about as many records each."""
    pieces = PIECES * thread_count()
    inner = np.searchsorted(starts, [starts[-1] * k // pieces for k in range(1, pieces)])
    bounds = sorted({0, *(int(bucket) for bucket in inner), len(starts) - 1})
    return list(pairwise(bounds))


def _check_bins(bins: int, least: int) -> None:
    if not least <= bins <= MAX_BINS:
        raise InvalidParameter(sentence("bins", f"must lie in {least}..{MAX_BINS}", bins))


def _refuse(affinities: Affinities, position: int) -> None:
    where = tuple(int(i) for i in np.unravel_index(position, affinities.array.shape))
    value = affinities.array[where]
    rule = "must not be NaN" if math.isnan(value) else "must lie in 0..1"
    next_step = "divide by 255 if they come from 8 bits, apply a sigmoid if they are logits"
    raise InvalidInput(sentence("affinities", rule, f"{value} at (channel, z, y, x) {where}", next_step))
