"""The order in which the edges of a spanning forest join clusters, in torch operations of static shape.

All edges stronger than a given one form clusters. *Each cluster has exactly one node whose own edge is not among them*,
where nodes own edges as :mod:`segkit.losses._device_forest` deals them out. For a cluster has one edge less than nodes,
and the owner of each lies in it: an edge that leaves a component is weaker than all on the way from where it leaves to
the root, or it would have been taken before one of those; and the last few components own the weakest edge of a way
that begins at them. So where the edge of v joins two clusters, v is that node of one of them, and that of the other is
the first r on the way joined(v), joined(joined(v)), ... whose own edge is weaker: the parent of v. What comes in is v
with all below it in the tree of parents; what it meets is the parent with all below those of its children that came in
by stronger edges. A parent is absorbed in a later round than its children, or is one of the last few components. So
ways up are short, and whatever is summed along them takes a few doublings.

Number the nodes so that each comes before those below it, and its children by descending strength: then the edge of v
joins the intervals [parent, v) and [v, v + size).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from segkit.losses._device_forest import SPARE, Offsets, doublings, spanning_forest, take


class Preorder(NamedTuple):
    """The tree of parents, its nodes in preorder; the items of a batch come one after the other, n nodes each."""

    node: Tensor
    """Which voxel a number belongs to, int64."""
    edge: Tensor
    """Rank of the edge that it owns, int32; the number of all edges for the root of a tree."""
    parent: Tensor
    """The parent's number, int32; its own for a root."""
    size: Tensor
    """How many nodes its subtree has, itself included, int32."""


def preorder(ranks: Tensor, order: Tensor, neighborhood: Offsets) -> Preorder:
    """The maximum spanning forest of a batch, as the order in which its edges join clusters.

    The arguments are those of :func:`~segkit.losses._device_forest.spanning_forest`.
    """
    steps = doublings(ranks)
    edge, joined = spanning_forest(ranks, order, neighborhood)
    return _numbered(edge, _parents(edge, joined, steps), steps)


def ancestors(parent: Tensor, steps: int) -> list[Tensor]:
    """For each k < `steps` the ancestors 2^k steps up."""
    tables = [parent] if steps else []
    while len(tables) < steps:
        tables.append(take(tables[-1], tables[-1]))
    return tables


def _parents(edge: Tensor, joined: Tensor, steps: int) -> Tensor:
    """The first node, on the way from `joined` on, whose own edge is weaker; a root for itself."""
    up, weakest = ancestors(joined, steps), [edge]
    for above in up[:-1]:
        weakest.append(torch.maximum(weakest[-1], take(weakest[-1], above)))
    found = joined
    for k in reversed(range(steps)):
        found = torch.where(take(weakest[k], found) < edge, take(up[k], found), found)
    return found


def _numbered(edge: Tensor, parent: Tensor, steps: int) -> Preorder:
    """The preorder, found from the steps down to each node: a node's number is the sum of those on the way to it."""
    nodes = len(edge)
    ids = torch.arange(nodes + 1, dtype=torch.int32, device=edge.device)
    top = ids[nodes:]  # one more node, above all roots
    above = torch.cat([torch.where(parent == ids[:nodes], top, parent), top])
    up = ancestors(above, steps)
    size = _sizes(up, ids[:nodes])
    number = _steps_down(above[:nodes], edge, size)
    for table in up:
        number = number + take(number, table)
    number = number[:nodes]
    node = torch.empty(nodes, dtype=torch.int64, device=edge.device)
    node.scatter_(0, number.long(), torch.arange(nodes, device=edge.device))
    return Preorder(node, take(edge, node), take(number, take(parent, node)), take(size, node))


def _sizes(up: list[Tensor], ids: Tensor) -> Tensor:
    """The size of each subtree: of what lies less than 1, 2, 4, ... steps below its root."""
    nodes = len(ids)
    beyond = (ids & (SPARE - 1)).add_(nodes)
    size = torch.ones(nodes + SPARE, dtype=torch.int32, device=ids.device)
    for table in up:
        table = table[:nodes]
        size = size.index_add(0, torch.where(table < nodes, table, beyond), size[:nodes])
    return size[:nodes]


def _steps_down(above: Tensor, edge: Tensor, size: Tensor) -> Tensor:
    """The number of each node less that of the node above it; one entry more, 0, for the node above all roots.

    That is 1, and the sizes of its stronger siblings: siblings are brought together by sorting, and what comes before
    the first of them is known without a look, the children of all nodes of lower index.
    """
    nodes = len(size)
    key, node = torch.sort(torch.add(edge, above.long(), alpha=2**31), stable=True)
    sizes = take(size, node)
    before = sizes.cumsum(0).sub_(sizes)
    first = before.new_zeros(nodes + 1)
    torch.cumsum(size - 1, 0, dtype=torch.int64, out=first[1:])
    first[:nodes].sub_(1)  # the children begin at the next number; the roots at 0
    down = before.sub_(take(first, key.bitwise_right_shift_(31)))
    return torch.zeros(nodes + 1, dtype=torch.int32, device=size.device).scatter_(0, node, down.int())
