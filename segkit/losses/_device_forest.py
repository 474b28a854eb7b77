"""A maximum spanning forest by Boruvka's rounds, in torch operations of static shape.

Nothing here waits for the device: no number is brought to the host, and every shape follows from those of the inputs.
Nodes are voxels, all items of a batch together; an edge is its rank, the strongest 0, so that no two are equal.

In a round every component takes its strongest edge to another one, and what is connected by the edges taken becomes one
component. A component that finds no edge is finished; of the others at most half are left, so after k rounds an item of
n voxels has at most n >> k. On the way along the edges taken they get stronger, up to one that two components have both
taken; the lower of these two is the root. Each of the others is absorbed: the node that stands for it comes to own its
edge, and remembers the root's node as the one that it `joined`. So every node but the roots of trees owns one edge.

Once components are few, their graph is a matrix, no larger than the volume; and once they are very few, the rest
is found without rounds: the weakest edge on the best way between any two, by squaring the matrix of single edges with
(min, max) for (+, *). Each component owns the edge that first brings it together with one of lower number, and has
joined the lowest that it then meets.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from segkit.data.affinities import edge_slices

Offsets = np.ndarray | Sequence[Sequence[int]]

FEW = 32
"""Components of a batch that need no more rounds. More would spare rounds, but lengthen the ways up the trees."""
SPARE = 1024
"""Places at the front of every array of components, for what takes no part: one place would be contended for."""


def spanning_forest(ranks: Tensor, order: Tensor, neighborhood: Offsets) -> tuple[Tensor, Tensor]:
    """For each voxel, all items in a row, the edge that it owns, and the voxel that it joined, itself if it owns none.

    `ranks`, int32 (C, B, Z, Y, X), is overwritten: the rank of each edge, C * B * Z * Y * X where there is none.
    `order`, int32, has the flat index of each rank. Both results are int32 too; the rank of no edge is as in `ranks`.
    """
    items, nodes, none = ranks.shape[1], ranks[0].numel(), ranks.numel()
    forest = _Forest(nodes, none, ranks.device)
    graph: _Grid | _Matrix = _Grid(ranks, order, neighborhood)
    component = forest.ids[SPARE:]
    roots = forest.ids - SPARE
    roots[:SPARE] = nodes
    rounds, few = _rounds(ranks)
    for k in range(rounds):
        most = (nodes // items) >> k
        if isinstance(graph, _Grid) and (items * most) ** 2 <= nodes:
            graph = graph.contracted(component, items * most, forest.spare)
            component = forest.ids[SPARE : SPARE + items * most]
        component, roots = forest.join(graph, component, roots, most, items * (most // 2))
    if few > 1:
        forest.finish(graph.contracted(component, items * few, forest.spare).ranks, roots[SPARE:])
    return forest.edge[:nodes], forest.joined[:nodes].int()


def doublings(ranks: Tensor) -> int:
    """How often 1 is doubled until no way up a tree has more nodes."""
    rounds, most = _rounds(ranks)
    return (rounds + most - 1).bit_length()


def take(values: Tensor, places: Tensor) -> Tensor:
    """values[places]; places of int32 do as well as int64."""
    return values.index_select(0, places)


def _rounds(ranks: Tensor) -> tuple[int, int]:
    """The number of rounds, and how many components of an item they leave at most."""
    items, most = ranks.shape[1], ranks[0, 0].numel()
    rounds = 0
    while most > 1 and items * most > FEW:
        rounds, most = rounds + 1, most // 2
    return rounds, most


class _Forest:
    """What the rounds write: a round is :meth:`join`."""

    def __init__(self, nodes: int, none: int, device: torch.device) -> None:
        self.nodes, self.none = nodes, none
        self.ids = torch.arange(SPARE + nodes, device=device)
        self.spare = self.ids[:nodes] & (SPARE - 1)
        self.nobody = self.ids.new_full((), nodes)
        self.edge = torch.full((nodes + 1,), none, dtype=torch.int32, device=device)
        self.joined = torch.arange(nodes + 1, device=device)

    def join(
        self, graph: "_Grid | _Matrix", component: Tensor, roots: Tensor, most: int, left: int
    ) -> tuple[Tensor, Tensor]:
        """One round; the new component of each node of `graph`, and the root of each component.

        `roots` are those so far, `most` bounds the components of an item, `left` those of all items afterwards.
        """
        ids = self.ids[: len(roots)]
        taken = self._strongest(graph.strongest(component), component, len(roots))
        going = taken < self.none
        towards = self._other_end(graph, component, taken, going, ids)
        top = take(towards, towards)
        towards = torch.where(top == ids, torch.minimum(towards, ids), towards)  # the root of two that took one edge
        stays = towards == ids
        for _ in range((most - 1).bit_length()):
            towards = take(towards, towards)
        absorbed = torch.where(stays, self.nobody, roots)
        self.edge.scatter_(0, absorbed, taken)
        self.joined.scatter_(0, absorbed, take(roots, towards))
        stays &= going
        number = stays.cumsum(0).add_(SPARE - 1).mul_(stays)  # 0 for what is finished
        roots = torch.full((SPARE + left,), self.nodes, device=roots.device).scatter_(0, number, roots)
        return take(take(number, towards), component), roots

    def finish(self, ranks: Tensor, roots: Tensor) -> None:
        """The rest of the forest, of few components: `ranks` are the strongest edges between any two."""
        ids = self.ids[: len(roots)]
        ways = ranks.masked_fill(ids[:, None] == ids, -1)  # the weakest edge of the best way between two
        for _ in range((len(roots) - 1).bit_length()):
            ways = torch.maximum(ways[:, :, None], ways).amin(1)
        taken = ways.masked_fill(ids[:, None] <= ids, self.none).amin(1)
        eldest = torch.where(ways <= taken[:, None], ids, len(roots)).amin(1)
        absorbed = torch.where(taken < self.none, roots, self.nobody)
        self.edge.scatter_(0, absorbed, taken)
        self.joined.scatter_(0, absorbed, take(roots, eldest))

    def _strongest(self, ranks: Tensor, component: Tensor, components: int) -> Tensor:
        """The strongest edge out of each component."""
        place = torch.where(ranks < self.none, component, self.spare[: len(ranks)])
        taken = torch.full((components,), self.none, dtype=torch.int32, device=ranks.device)
        return taken.scatter_reduce_(0, place, ranks, "amin")

    def _other_end(
        self, graph: "_Grid | _Matrix", component: Tensor, taken: Tensor, going: Tensor, ids: Tensor
    ) -> Tensor:
        """The component at the other end of the edge that each has taken; itself where it has taken none."""
        rank = taken.clamp(max=self.none - 1)
        ends = take(component, take(graph.ends, rank).view(-1)).view(-1, 2)
        return torch.where(going, ends.sum(1).sub_(ids), ids)


class _Grid:
    """The graph of all voxels."""

    def __init__(self, ranks: Tensor, order: Tensor, neighborhood: Offsets) -> None:
        self.ranks = ranks
        self.none, self.nodes = ranks.numel(), ranks[0].numel()
        self.slices = [edge_slices(ranks.shape[2:], offset) for offset in neighborhood]
        height, width = ranks.shape[3:]
        targets = []
        for z, y, x in neighborhood:
            offset = (int(z) * height + int(y)) * width + int(x)
            targets.append(torch.arange(offset, offset + self.nodes, dtype=torch.int32, device=ranks.device))
        # Where an edge leaves the volume this is no voxel; nobody takes it, but it must be a place.
        target = take(torch.cat(targets).clamp_(0, self.nodes - 1), order)
        self.ends = torch.stack([order.remainder(self.nodes), target], 1)

    def strongest(self, component: Tensor) -> Tensor:
        """The strongest edge of each voxel to another component."""
        component = component.view(self.ranks.shape[1:])
        best = torch.full(component.shape, self.none, dtype=torch.int32, device=component.device)
        for ranks, source, target in self._between(component):
            for end in (best[..., *source], best[..., *target]):
                torch.minimum(end, ranks, out=end)
        return best.view(-1)

    def contracted(self, component: Tensor, components: int, spare: Tensor) -> "_Matrix":
        """The graph of all components."""
        component, spare = component.view(self.ranks.shape[1:]), spare.view(self.ranks.shape[1:])
        edges = (
            (ranks, component[..., *source], component[..., *target], spare[..., *source])
            for ranks, source, target in self._between(component)
        )
        nodes = (component.view(-1) - SPARE).clamp_(min=0).int()
        ends = take(nodes, self.ends.view(-1)).view(-1, 2)
        return _Matrix(_matrix(edges, components, self.none), ends, self.none)

    def _between(self, component: Tensor) -> Iterator[tuple]:
        """For each channel the ranks of the edges between components, none elsewhere, and the slices of their ends.

        An edge inside a component stays there, so the ranks are overwritten.
        """
        for ranks, (source, target) in zip(self.ranks, self.slices, strict=True):
            ranks = ranks[..., *source]
            yield ranks.masked_fill_(component[..., *source] == component[..., *target], self.none), source, target


class _Matrix:
    """A graph of few nodes: the strongest edge between any two."""

    def __init__(self, ranks: Tensor, ends: Tensor | None, none: int) -> None:
        self.ranks, self.ends, self.none = ranks, ends, none

    def strongest(self, component: Tensor) -> Tensor:
        """The strongest edge of each node to another component."""
        self.ranks.masked_fill_(component[:, None] == component, self.none)
        return self.ranks.amin(1)

    def contracted(self, component: Tensor, components: int, spare: Tensor) -> "_Matrix":
        """The graph of all components; its ends are not told."""
        self.ranks.masked_fill_(component[:, None] == component, self.none)
        edges = (self.ranks, component[:, None], component, spare[: self.ranks.numel()].view(self.ranks.shape))
        return _Matrix(_matrix([edges], components, self.none), None, self.none)


def _matrix(edges: Iterable[tuple[Tensor, ...]], components: int, none: int) -> Tensor:
    """The strongest edge between any two components, given ranks, the components of both ends, and spare places."""
    places = components * components
    matrix = None
    for ranks, source, target, spare in edges:
        if matrix is None:
            matrix = ranks.new_full((places + SPARE,), none)
        place = torch.add(target, source, alpha=components).sub_(SPARE * (components + 1))
        place = torch.where(ranks < none, place, spare + places)
        matrix.scatter_reduce_(0, place.reshape(-1), ranks.reshape(-1), "amin")
    assert matrix is not None
    matrix = matrix[:places].view(components, components)
    return torch.minimum(matrix, matrix.T)
