"""All merges of a graph without a queue: first inside pieces of it, in threads, then of what is left."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from segkit.agglomerate import _kernels_clusters as clusters
from segkit.agglomerate import _kernels_plateaus as kernels
from segkit.agglomerate._kernels_clusters import BOUND, HUB, Work
from segkit.agglomerate._kernels_contacts import NONE, Rule
from segkit.threads import thread_count

MAX_EDGES = 2**26
"""Lists of contacts are moved when they grow, so they take more places than there are ends of edges."""
MAX_PLACES = 2**31
"""Places in the lists are int32."""
NODES_OF_PIECE = 2**14
"""Least of a piece: in a small one, most clusters have their best neighbour outside."""
SWEEPS = (clusters.SHORT, 2048, 2**62)
"""Plateaus with more entries in their lists wait for the next sweep: first what is near, then what is large."""
ROOM = 8
"""Places for lists, as a multiple of those that the lists take at first; more are made if they do not suffice."""
INITIAL = 4096


def merge_plateaus(
    count: int, edges: np.ndarray, records: np.ndarray, runs: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray] | None:
    """All merges of `count` nodes in order: int64 (M, 2), two nodes of the tree, and float64 (M,) scores.

    `records` and `runs` say what is known of each edge, int64 (E, 2); both are changed. None if a united contact came
    before both its parts, as a rounded mean may, or if the lists take too many places: then a queue has to do it.

    Nodes of near numbers lie near each other as a rule, so a piece is a range of nodes, one a thread. Plateaus may
    merge in any order, so the result does not depend on the pieces.
    """
    rooms = np.zeros(count, np.int32)
    clusters.degrees(edges, rooms)
    pieces = max(1, min(thread_count(), count // NODES_OF_PIECE))
    cuts = np.array([count * piece // pieces for piece in range(pieces + 1)])
    ends = np.concatenate([[0], np.cumsum(rooms, dtype=np.int64)])
    spans = ends[cuts]  # where the lists of a piece begin; behind them is as much room again, if there are several
    starts = ends[:-1] + (np.repeat(spans[:-1], np.diff(cuts)) if pieces > 1 else 0)
    graph = {
        "edges": edges,
        "records": records,
        "runs": runs,
        "nodes": np.empty(count, clusters.NODE),
        "rooms": rooms,
        "others": np.empty(count, np.int32),
        "state": np.zeros(count, np.int8),
        "entries": np.empty((max(ROOM, min(pieces, 2)) * ends[-1] + INITIAL, 2), np.int32),
    }
    clusters.fill_lists(edges, starts, graph["nodes"], graph["entries"])
    found: list[np.ndarray | None] = []
    if pieces > 1:
        parts = zip(cuts[:-1], cuts[1:], spans[:-1] + spans[1:], 2 * spans[1:], strict=True)
        works = [_work(graph, *part) for part in parts]
        with ThreadPoolExecutor(pieces) as pool:
            found = list(pool.map(lambda work: _merge(work, rule, grow=False), works))
    whole = _work(graph, 0, count, int(ends[-1]) * min(pieces, 2), len(graph["entries"]))
    if pieces > 1:
        clusters.settle(cuts, rule, whole)
    found.append(_merge(whole, rule, grow=True))
    made = [part for part in found if part is not None]
    if len(made) < len(found):
        return None
    merges = np.concatenate(made)
    order = kernels.order_by_edge(merges, len(edges))
    order = order[np.argsort(merges["score"][order], kind="stable")]
    return kernels.number_merges(count, merges, order), merges["score"][order]


def _work(graph: dict[str, np.ndarray], first: int, last: int, top: int, end: int) -> Work:
    """What merging among the nodes first to last - 1 takes; its lists may grow into the places top to end - 1.

    Memory that is not touched costs nothing, so there is room for the worst case.
    """
    counts = np.zeros(clusters.COUNTS, np.int64)
    counts[clusters.FIRST], counts[clusters.LAST] = first, last
    counts[clusters.ENTRIES], counts[clusters.END] = top, end
    nodes, edges = last - first, len(graph["edges"])
    return Work(
        **graph,
        hubs=np.empty(nodes + 1, HUB),
        heap=np.empty(4 * edges + INITIAL, BOUND),
        slots=np.zeros(INITIAL, np.int64),
        pairs=np.empty(INITIAL, np.int32),
        frames=np.empty(nodes + 1, kernels.FRAME),
        members=np.empty(nodes + 1, np.int32),
        pending=np.empty((8 * edges + INITIAL, 2), np.int32),
        ties=np.empty(4 * edges + INITIAL, np.int32),
        merges=np.empty(nodes, kernels.MERGE),
        counts=counts,
    )


def _merge(work: Work, rule: Rule, *, grow: bool) -> np.ndarray | None:
    """The merges, as they came. None as of `merge_plateaus`; where lists may not `grow`, what had room."""
    counts, own = work.counts, slice(work.counts[clusters.FIRST], work.counts[clusters.LAST])
    for sweep, limit in enumerate(SWEEPS):
        counts[clusters.BEGIN], counts[clusters.START] = counts[clusters.FIRST], NONE
        work.state[own] = clusters.FREE
        if sweep == 1:
            work = _with_hubs(work, own)
        while (wanted := kernels.advance(limit, rule, work)) != kernels.DONE:
            if wanted == kernels.MORE_ENTRIES:
                if not grow:
                    return work.merges[: counts[clusters.MERGES]]
                if 2 * len(work.entries) > MAX_PLACES:
                    return None
                work = work._replace(entries=_doubled(work.entries))
                counts[clusters.END] = len(work.entries)
            elif wanted == kernels.MORE_HEAP:
                work = work._replace(heap=_doubled(work.heap))
            else:
                work = _with_more_slots(work, len(work.slots))
    return None if counts[clusters.BROKEN] else work.merges[: counts[clusters.MERGES]]


def _with_hubs(work: Work, own: slice) -> Work:
    """The same, those clusters that have long lists being hubs."""
    nodes = work.nodes[own]
    numbers = np.arange(own.start, own.stop)
    large = numbers[(nodes["length"] > clusters.SHORT) & (nodes["parent"] == numbers) & (nodes["hub"] == NONE)]
    work = _with_more_slots(work, int(work.nodes["length"][large].sum()))
    for cluster in large:
        clusters.become_hub(cluster, work)
    return work


def _with_more_slots(work: Work, more: int) -> Work:
    """The same, with a hash table that has room for more pairs."""
    size = INITIAL
    while size < 2 * (work.counts[clusters.SLOTS] + more):
        size *= 2
    slots, pairs = np.zeros(size, np.int64), np.empty(size, np.int32)
    clusters.copy_pairs(work.nodes, work.slots, work.pairs, slots, pairs, work.counts)
    return work._replace(slots=slots, pairs=pairs)


def _doubled(array: np.ndarray) -> np.ndarray:
    """A copy with room for twice as many rows."""
    larger = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
