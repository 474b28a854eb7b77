"""Quantiles without a queue: room for the kernels that merge plateaus, sweep by sweep."""

import numpy as np

from segkit.agglomerate import _kernels_clusters as clusters
from segkit.agglomerate import _kernels_plateaus as kernels
from segkit.agglomerate._kernels_bounds import BOUND, HUB, NONE
from segkit.agglomerate._kernels_contacts import CONTACT, RUN, count_runs, fill_contacts

MOST = 2**31 - 1
"""Affinities are counted in int32."""
MAX_EDGES = 2**26  # places in the lists of contacts are int32, and lists are moved when they grow
SWEEPS = (clusters.SHORT, 2048, 2**62)
"""Plateaus with more entries in their lists wait for the next sweep: first what is near, then what is large."""
INITIAL = 4096
MAX_PLACES = 2**31
"""Places in the lists are int32."""


def merge_plateaus(
    nodes: int, edges: np.ndarray, starts: np.ndarray, numbers: np.ndarray, weights: np.ndarray, per_million: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """All merges in order: int64 (M, 2) nodes of the tree, and the quantile of each, one of `numbers`, int32 (M,).

    None if the lists of contacts take too many places: then a queue has to do it.

    The contact of edge e, int64 (E, 2), has the affinities numbers[starts[e] : starts[e + 1]], in increasing order,
    none below 0; each counts as often as `weights` say, or once if that is empty.
    """
    contacts = np.empty(len(edges), CONTACT)
    used = count_runs(starts, numbers)
    runs = np.empty(used + len(edges), RUN)
    fill_contacts(starts, numbers, weights, per_million, contacts, runs)
    merges = _merge(nodes, edges, contacts, runs, used, per_million)
    if merges is None:
        return None
    merges = merges[np.argsort((merges["score"].astype(np.int64) << 32) | merges["edge"], kind="stable")]
    return kernels.number_merges(nodes, merges), -merges["score"]


def _merge(count: int, edges: np.ndarray, contacts: np.ndarray, runs: np.ndarray, used: int, per_million: int):
    """Merges as they came. Memory that is not touched costs nothing, so there is room for the worst case."""
    nodes, entries = np.empty(count, clusters.NODE), np.empty((3 * len(edges) + INITIAL, 2), np.int32)
    counts = np.zeros(13, np.int64)
    counts[clusters.ENTRIES], counts[clusters.RUNS] = clusters.fill_lists(edges, nodes, entries), used
    stacks = (
        np.empty(count + 1, kernels.FRAME),
        np.empty(count + 1, np.int32),
        np.empty((8 * len(edges) + INITIAL, 2), np.int32),
        np.empty(4 * len(edges) + INITIAL, np.int32),
    )
    hubs, heap = np.empty(count + 1, HUB), np.empty(INITIAL, BOUND)
    slots, pairs = np.zeros(INITIAL, np.int64), np.empty(INITIAL, np.int32)
    merges = np.empty(count, kernels.MERGE)
    for sweep, limit in enumerate(SWEEPS):
        counts[clusters.BEGIN], counts[clusters.START] = 0, NONE
        nodes["state"] = clusters.FREE
        if sweep == 1:
            large = np.flatnonzero((nodes["length"] > clusters.SHORT) & (nodes["parent"] == np.arange(count)))
            slots, pairs = _larger_table(slots, pairs, counts, nodes, int(nodes["length"][large].sum()))
            for cluster in large:
                clusters.become_hub(cluster, counts, nodes, entries, contacts, hubs, slots, pairs)
        while True:
            tables = hubs, heap, slots, pairs
            wanted = kernels.advance(
                limit, counts, nodes, entries, edges, contacts, runs, per_million, stacks, merges, tables
            )
            if wanted == kernels.DONE:
                break
            if wanted == kernels.MORE_ENTRIES:
                if 2 * len(entries) > MAX_PLACES:
                    return None
                entries = _doubled(entries)
            elif wanted == kernels.MORE_HEAP:
                heap = _doubled(heap)
            else:
                slots, pairs = _larger_table(slots, pairs, counts, nodes, len(slots))
    return merges[: counts[clusters.MERGES]]


def _doubled(array: np.ndarray) -> np.ndarray:
    """A copy with room for twice as many rows."""
    larger = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def _larger_table(slots: np.ndarray, pairs: np.ndarray, counts: np.ndarray, nodes: np.ndarray, more: int) -> tuple:
    """A hash table of the same pairs with room for more."""
    size = INITIAL
    while size < 2 * (counts[clusters.SLOTS] + more):
        size *= 2
    larger = np.zeros(size, np.int64), np.empty(size, np.int32)
    clusters.copy_pairs(counts, nodes, slots, pairs, *larger)
    return larger
