"""Agglomeration in parallel: all pairs of clusters that are each other's best neighbour merge at once (PyTorch)."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from segkit.agglomerate.rag import UNIT, region_adjacency_graph
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph, check_aligned, edge_slices
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.protocols import RagAgglomerator
from segkit.timing import phase

if TYPE_CHECKING:
    import torch

FEATURES = {"mean": ("count", "sum"), "max": ("max",), "min": ("min",)}
REDUCE = {"count": "sum", "sum": "sum", "max": "amax", "min": "amin", "edge": "amin"}
"""How the columns of two contacts become one."""
Columns = dict[str, "torch.Tensor"]


class Gpu(RagAgglomerator):
    """Reciprocal merging, made for a GPU; gives the tree of `python` for the scores "mean" and "min".

    In each round every cluster looks for its best neighbour, the contact of lowest (score, lowest edge), and all pairs
    that chose each other merge; the merges are sorted in the end. Why this is the tree of the greedy order: Where u and
    v merge, the contact to a common neighbour w is scored by a mean of both its parts or by the worse of them, and to
    others it stays, so it is never better than the better part (the linkage is reducible: M. Bruynooghe 1977). So as
    long as all merges are better than a pair of best neighbours, none of them gives either a better neighbour, and the
    greedy order comes to merge this pair with this score. And since no merge makes a contact better than itself, the
    greedy order is the order of the scores, by which the merges are sorted.

    For "max" a united contact takes the lower edge of both but not its score, and merges of equal scores may come in
    another order than in `python`; all cuts and all altitudes are equal. "mean": a mean could be rounded to one of its
    parts where a contact has thousands of affinities, by an improbable chance; then such merges could swap too.

    Region graph and merging run on the device; sums are integers, so results are the same on all. Most merges are made
    in the first rounds, but the last ones, of the largest clusters, come a few a round: expect thousands of rounds for
    a hundred thousand fragments. On a CPU `python` is much faster.

    Parameters
    ----------
    score
        The score of a contact is 1 - this statistic of its affinities. "mean": average linkage. "max": single linkage.
        "min": complete linkage. Quantiles are not reducible: use `python`.
    device
        "auto" (a CUDA GPU if there is one, else the CPU), "cpu", "cuda" or "cuda:N".
    """

    def __init__(self, *, score: Literal["mean", "max", "min"] = "mean", device: str = "auto") -> None:
        if score not in FEATURES:
            next_step = "choose the agglomerator 'python' for quantiles, which are not reducible"
            raise InvalidParameter(sentence("score", "must be mean, max or min", repr(score), next_step))
        self.score = score
        self.device = device

    @property
    def features(self) -> tuple[str, ...]:
        """The statistics that the score is made of."""
        return FEATURES[self.score]

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """Build the region adjacency graph on the device and cluster it there."""
        check_aligned(affinities=affinities, fragments=fragments)
        with phase("region graph"):
            node_ids, keys, columns = _region_graph(affinities, fragments, self.features, _device(self.device))
        return self._merge(node_ids, keys // _stride(node_ids), keys % _stride(node_ids), columns)

    def cluster(self, rag: RegionAdjacencyGraph) -> MergeTree:
        """All merges of the nodes of `rag`, which must have the statistics in `features`."""
        device = _device(self.device)
        for feature in self.features:
            if feature not in rag.features:
                next_step = "build it with region_adjacency_graph"
                raise InvalidInput(sentence("rag", f"must have the feature {feature!r}", next_step=next_step))
        columns = {name: _tensor(rag.features[name], device) for name in self.features}
        u, v = _tensor(rag.edges, device).T
        return self._merge(rag.node_ids.copy(), u, v, columns)

    def _merge(self, node_ids: np.ndarray, u: "torch.Tensor", v: "torch.Tensor", columns: Columns) -> MergeTree:
        import torch

        with phase("merging"):
            columns["edge"] = torch.arange(len(u), device=u.device)
            children, scores, edges = _merge_reciprocally(len(node_ids), u, v, columns)
            by_edge = torch.argsort(edges) if self.score != "max" else torch.arange(len(edges), device=u.device)
            order = by_edge[torch.argsort(scores[by_edge], stable=True)]
            parents = _parents(len(node_ids), children, order)
            if parents is None:  # a rounded mean: the order in which they were found is one of equal scores too
                order = torch.argsort(scores, stable=True)
                parents = _parents(len(node_ids), children, order)
            assert parents is not None
            return MergeTree(node_ids, parents.cpu().numpy(), scores[order].cpu().numpy())


def _merge_reciprocally(nodes: int, u: "torch.Tensor", v: "torch.Tensor", columns: Columns) -> tuple:
    """All merges round by round: their two children (nodes, or `nodes` + number of a merge), scores, lowest edges."""
    import torch

    node = torch.arange(nodes, device=u.device)  # of the tree, for each cluster
    busy = torch.zeros(nodes, dtype=torch.bool, device=u.device)
    target = torch.arange(nodes, device=u.device)
    columns = {**columns, "score": _scores(columns)}
    if not torch.isfinite(columns["score"]).all():
        raise InvalidInput(sentence("the statistics of rag", "must give finite scores", next_step="check its counts"))
    merges, made = [], 0
    while len(u):
        chosen = _best_for_both(nodes, u, v, columns)
        stays, goes = u[chosen], v[chosen]
        merges.append((torch.stack([node[stays], node[goes]], 1), columns["score"][chosen], columns["edge"][chosen]))
        node[stays] = nodes + made + torch.arange(len(stays), device=u.device)
        made += len(stays)
        target[goes] = stays
        busy[stays] = busy[goes] = True
        touched = busy[u] | busy[v]
        busy[stays] = busy[goes] = False
        u, v, columns = _contract(nodes, target[u], target[v], columns, touched)
    if not merges:
        return torch.empty((0, 2), dtype=torch.int64), columns["score"], columns["edge"]
    return tuple(torch.cat(parts) for parts in zip(*merges, strict=True))


def _best_for_both(nodes: int, u: "torch.Tensor", v: "torch.Tensor", columns: Columns) -> "torch.Tensor":
    """Positions of the contacts that are the best, by score and then by edge, at both their ends."""
    import torch

    score, edge = columns["score"], columns["edge"]
    lowest = torch.full((nodes,), torch.inf, dtype=torch.float64, device=u.device)
    lowest.scatter_reduce_(0, u, score, "amin").scatter_reduce_(0, v, score, "amin")
    best_u, best_v = score == lowest[u], score == lowest[v]
    first = torch.full((nodes,), torch.iinfo(torch.int64).max, device=u.device)
    first.scatter_reduce_(0, u[best_u], edge[best_u], "amin").scatter_reduce_(0, v[best_v], edge[best_v], "amin")
    both = torch.nonzero(best_u & best_v).reshape(-1)
    return both[(edge[both] == first[u[both]]) & (edge[both] == first[v[both]])]


def _contract(nodes: int, u: "torch.Tensor", v: "torch.Tensor", columns: Columns, touched: "torch.Tensor") -> tuple:
    """The contacts between the clusters after a round: those inside a cluster go, those that join the same unite."""
    import torch

    touched, apart = torch.nonzero(touched & (u != v)).reshape(-1), torch.nonzero(~touched).reshape(-1)
    keys = torch.minimum(u[touched], v[touched]) * nodes + torch.maximum(u[touched], v[touched])
    statistics = {name: column[touched] for name, column in columns.items() if name != "score"}
    keys, united = _unite(keys, statistics)
    united["score"] = _scores(united)
    columns = {name: torch.cat([column[apart], united[name]]) for name, column in columns.items()}
    return torch.cat([u[apart], keys // nodes]), torch.cat([v[apart], keys % nodes]), columns


def _unite(keys: "torch.Tensor", columns: Columns) -> tuple["torch.Tensor", Columns]:
    """Sorted keys, each once, and the columns of all that had the same key as one."""
    import torch

    keys, place = torch.unique(keys, return_inverse=True)
    united = {}
    for name, column in columns.items():
        empty = torch.zeros(len(keys), dtype=column.dtype, device=keys.device)
        united[name] = empty.scatter_reduce_(0, place, column, REDUCE[name], include_self=False)
    return keys, united


def _scores(columns: Columns) -> "torch.Tensor":
    """float64, to the last bit those of `python`."""
    if "sum" in columns:
        return 1.0 - columns["sum"].double() / UNIT / columns["count"].double()
    return 1.0 - columns["max" if "max" in columns else "min"].double()


def _parents(nodes: int, children: "torch.Tensor", order: "torch.Tensor") -> "torch.Tensor | None":
    """Parents of all nodes once the merges are put in `order`; None if a merge came before one of its children."""
    import torch

    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    number = torch.cat([torch.arange(nodes, device=order.device), nodes + place])
    children, merges = number[children.to(order.device)], number[nodes:, None]
    if (children >= merges).any():
        return None
    parents = torch.arange(len(number), device=order.device)
    parents[children] = merges.expand_as(children)
    return parents


def _region_graph(
    affinities: Affinities, fragments: Labels, features: tuple[str, ...], device: "torch.device"
) -> tuple:
    """Sorted ids, key u * _stride(ids) + v of each edge, sorted, and the columns of `features`."""
    import torch

    flipped = np.ascontiguousarray(fragments.array).view(np.int64) ^ np.int64(-(2**63))  # int64 in the order of uint64
    ids, nodes = torch.unique(_tensor(flipped, device), return_inverse=True)
    ids = ids.cpu().numpy().view(np.uint64) ^ np.uint64(2**63)
    first, last = np.searchsorted(ids, [np.uint64(1), FIRST_OUTSIDE])
    node_ids, nodes = ids[first:last].copy(), nodes - int(first)
    keys, columns = torch.empty(0, dtype=torch.int64, device=device), _start(torch.empty(0, device=device), features)
    for channel, offset in zip(affinities.array, affinities.neighborhood, strict=True):
        here, there = edge_slices(fragments.array.shape, offset)
        a, b = torch.minimum(nodes[here], nodes[there]), torch.maximum(nodes[here], nodes[there])
        met = (a != b) & (a >= 0) & (b < len(node_ids))
        values = _tensor(channel[here], device)[met]
        if not ((values >= 0) & (values <= 1)).all():
            region_adjacency_graph(affinities, fragments)  # raises, and says where
        more, found = _unite(a[met] * _stride(node_ids) + b[met], _start(values, features))
        columns = {name: torch.cat([columns[name], found[name]]) for name in features}
        keys, columns = _unite(torch.cat([keys, more]), columns)
    return node_ids, keys, columns


def _start(values: "torch.Tensor", features: tuple[str, ...]) -> Columns:
    """The columns of contacts of one affinity each."""
    import torch

    columns = {"max": values, "min": values}
    if "sum" in features:
        columns = {"count": torch.ones_like(values, dtype=torch.int64), "sum": (values.double() * UNIT).round().long()}
    return {name: columns[name] for name in features}


def _stride(node_ids: np.ndarray) -> int:
    return max(len(node_ids), 1)


def _tensor(array: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """A copy on the device: what is given may be read-only, or have strides that torch does not take."""
    import torch

    return torch.from_numpy(np.array(array, order="C")).to(device)


def _device(text: str) -> "torch.device":
    """The device; MPS, which has no float64, is no such device, and "auto" passes it over."""
    from segkit.models.device import resolve_device

    device = resolve_device(text)
    if device.type != "mps":
        return device
    if text == "auto":
        return resolve_device("cpu")
    raise InvalidInput(sentence("device", "must have float64 for this agglomerator", repr(text), "choose 'cpu'"))
