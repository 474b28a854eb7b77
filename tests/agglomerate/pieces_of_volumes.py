"""Volumes in boxes, whose graphs are made one by one and united level by level: what the tests of pieces share."""

from itertools import product

import numpy as np
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels
from segkit.agglomerate.pieces import reduce_piece, tree_of

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
LONG = [*NEAREST, (0, 2, 3), (1, -1, 0), (-2, 0, 1)]
AHEAD = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, -4)]
HIGH = np.array([0, 1, 2**63, 2**63 + 1, 2**64 - 3, 2**64 - 2, 2**64 - 1, 77, 2**40], np.uint64)


@st.composite
def volumes(draw):
    """Affinities of few levels or many, fragments that need not be connected, background and "outside"."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(3))
    neighborhood = draw(st.sampled_from([NEAREST, LONG, AHEAD]))
    values = rng.random((len(neighborhood), *shape), np.float32)
    levels = draw(st.sampled_from([0, 1, 3, 7]))
    values = np.round(values * levels) / levels if levels else values
    kind = draw(st.sampled_from(["scattered", "runs", "high"]))
    if kind == "scattered":
        ids = rng.integers(0, draw(st.sampled_from([4, 30, 300])), shape).astype(np.uint64)
    elif kind == "high":
        ids = rng.choice(HIGH, shape)
    else:  # connected runs that few blocks share
        ids = (rng.random(shape) < draw(st.sampled_from([0.3, 0.7]))).cumsum().reshape(shape).astype(np.uint64)
        ids[rng.random(shape) < 0.05] = 0
    return Affinities.convert(values.astype(np.float32), neighborhood), Labels(ids, Grid())


def boxes(shape, block):
    """The boxes of a lattice, by their place in it."""
    counts = [-(-size // step) for size, step in zip(shape, block, strict=True)]
    return {
        index: tuple(
            slice(i * step, min((i + 1) * step, size)) for i, step, size in zip(index, block, shape, strict=True)
        )
        for index in product(*map(range, counts))
    }


def window(inner, shape, neighborhood):
    """A box and what its edges lead to."""
    before, behind = np.minimum(neighborhood.min(axis=0), 0), np.maximum(neighborhood.max(axis=0), 0)
    return tuple(
        slice(max(part.start + int(low), 0), min(part.stop + int(high), size))
        for part, low, high, size in zip(inner, before, behind, shape, strict=True)
    )


def cropped(affinities, fragments, inner):
    """The affinities of a box, the fragments that these see, and where the box is in them."""
    outer = window(inner, fragments.shape, affinities.neighborhood)
    grid = fragments.grid
    within = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
    return (
        Affinities(
            affinities.array[(slice(None), *inner)], affinities.neighborhood, grid.crop([part.start for part in inner])
        ),
        Labels(fragments.array[outer], grid.crop([part.start for part in outer])),
        within,
    )


def pieces(affinities, fragments, block, linkage):
    """The piece of each box, by its place."""
    found = {}
    for index, inner in boxes(fragments.shape, block).items():
        values, ids, within = cropped(affinities, fragments, inner)
        found[index] = linkage.piece(values, ids, within)
    return found


def tree_by_reduction(affinities, fragments, block, linkage):
    """The tree made level by level; the sizes of the last piece, and of the graph of the whole."""
    parts = pieces(affinities, fragments, block, linkage)
    holders: dict[int, set] = {}
    for index, piece in parts.items():
        for fragment in piece.graph.node_ids.tolist():
            holders.setdefault(fragment, set()).add(index)
    merges, level = [], 0
    while True:
        for index, piece in parts.items():
            ids = piece.graph.node_ids.tolist()
            complete = np.array([{tuple(i >> level for i in at) for at in holders[n]} == {index} for n in ids], bool)
            reduction = reduce_piece(piece, complete, linkage)
            merges.append(reduction.merges)
            parts[index] = reduction.piece
        if len(parts) == 1:
            break
        level += 1
        groups: dict[tuple, list] = {}
        for index, piece in parts.items():
            groups.setdefault(tuple(i // 2 for i in index), []).append(piece)
        parts = {index: linkage.unite(group) for index, group in groups.items()}
    return tree_of(np.array(sorted(holders), np.uint64), np.concatenate(merges))
