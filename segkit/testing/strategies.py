"""hypothesis strategies for the containers. They shrink to one voxel, to ids 1, 2, 3, ... and to affinities of 0."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import DTypeLike

from segkit.data import NEAREST, Affinities, Grid, Labels, MergeTree, RegionAdjacencyGraph, Volume
from segkit.data.skeletons import Skeletons

UNIT = 2**30
"""Sums of affinities in a region adjacency graph are integers, in units of 1 / UNIT."""
OUTSIDE = (2**64 - 2, 2**64 - 1)
LARGE_IDS = (2**53 + 1, 2**63, 2**64 - 3)

AnyShape: TypeAlias = Sequence[int] | st.SearchStrategy | None
AnyGrid: TypeAlias = Grid | st.SearchStrategy | None
AnyNeighborhood: TypeAlias = Sequence[Sequence[int]] | st.SearchStrategy
"""What is given, or drawn where it is a strategy; a shape or grid that is None is drawn as well."""


def shapes(largest: int = 5) -> st.SearchStrategy[tuple[int, int, int]]:
    """(Z, Y, X), each 1 to `largest`."""
    return st.tuples(*[st.integers(1, largest)] * 3)


def grids() -> st.SearchStrategy[Grid]:
    """Voxel sizes and offsets in whole nanometers."""
    sizes = st.tuples(*[st.integers(1, 50).map(float)] * 3)
    return st.builds(Grid, sizes, st.tuples(*[st.integers(-1000, 1000).map(float)] * 3))


@st.composite
def volumes(draw: st.DrawFn, shape: AnyShape = None, dtype: DTypeLike = np.uint8, grid: AnyGrid = None) -> Volume:
    """Intensities of any real dtype, finite; floats lie in 0..1. `dtype` bool gives masks."""
    dtype = np.dtype(dtype)
    elements = st.floats(0, 1, width=8 * dtype.itemsize) if dtype.kind == "f" else None
    array = draw(arrays(dtype, _shape(draw, shape), elements=elements))
    return Volume(array, _grid(draw, grid))


def masks(shape: AnyShape = None, grid: AnyGrid = None) -> st.SearchStrategy[Volume]:
    """bool volumes."""
    return volumes(shape, bool, grid)


@st.composite
def labels(
    draw: st.DrawFn,
    shape: AnyShape = None,
    grid: AnyGrid = None,
    *,
    largest: int = 6,
    outside: bool = True,
    large: bool = True,
) -> Labels:
    """Up to `largest` small ids and 0; with `large` also ids that fit no float64 or int64, with `outside` those too."""
    shape = _shape(draw, shape)
    more = [*(LARGE_IDS if large else ()), *(OUTSIDE if outside else ())]
    places = draw(arrays(np.uint8, shape, elements=st.integers(0, largest + len(more))))
    ids = np.array([*range(largest + 1), *more], np.uint64)
    return Labels(ids[places], _grid(draw, grid))


@st.composite
def neighborhoods(draw: st.DrawFn, reach: int = 3, longer: int = 3) -> list[list[int]]:
    """The nearest neighbours, each at either end, and up to `longer` other offsets."""
    offsets = [[sign * step for step in offset] for offset in NEAREST for sign in [draw(st.sampled_from([1, -1]))]]
    for offset in draw(st.lists(st.tuples(*[st.integers(-reach, reach)] * 3), max_size=longer)):
        if any(offset) and list(offset) not in offsets and [-step for step in offset] not in offsets:
            offsets.append(list(offset))
    return offsets


@st.composite
def affinities(
    draw: st.DrawFn,
    shape: AnyShape = None,
    neighborhood: AnyNeighborhood = NEAREST,
    grid: AnyGrid = None,
    *,
    levels: int = 255,
) -> Affinities:
    """Multiples of 1 / `levels`, in 0..1; few levels give many ties. `neighborhood` may be a strategy."""
    shape, neighborhood = _shape(draw, shape), _drawn(draw, neighborhood)
    steps = draw(arrays(np.uint16, (len(neighborhood), *shape), elements=st.integers(0, levels)))
    return Affinities.convert(steps.astype(np.float32) / levels, neighborhood, _grid(draw, grid))


@st.composite
def fragmented(
    draw: st.DrawFn,
    shape: AnyShape = None,
    neighborhood: AnyNeighborhood = NEAREST,
    grid: AnyGrid = None,
    *,
    levels: int = 255,
) -> tuple[Affinities, Labels]:
    """Affinities and aligned fragments."""
    shape, grid = _shape(draw, shape), _grid(draw, grid)
    found = draw(affinities(shape, neighborhood, grid, levels=levels))
    return found, draw(labels(shape, grid))


@st.composite
def segmented(draw: st.DrawFn, shape: AnyShape = None, grid: AnyGrid = None) -> tuple[Labels, Labels]:
    """A segmentation and an aligned truth that holds at least one object."""
    shape, grid = _shape(draw, shape), _grid(draw, grid)
    truth = draw(labels(shape, grid))
    if not len(truth.ids()):
        array = truth.array.copy()
        array[0, 0, 0] = 1
        truth = Labels(array, grid)
    return draw(labels(shape, grid, outside=False)), truth


@st.composite
def region_graphs(draw: st.DrawFn, nodes: int = 8) -> RegionAdjacencyGraph:
    """Up to `nodes` nodes; features "count", "sum", "min" and "max" that some affinities could have, and sizes."""
    ids = _ids(draw, nodes)
    possible = [(u, v) for u in range(len(ids)) for v in range(u + 1, len(ids))]
    edges = sorted(draw(st.lists(st.sampled_from(possible), unique=True))) if possible else []
    values = [draw(st.lists(st.integers(0, 255), min_size=1, max_size=4)) for _ in edges]
    steps = [np.array(each, np.int64) for each in values]
    features: dict[str, np.ndarray] = {
        "count": np.array([len(each) for each in steps], np.int64),
        "sum": np.array([(each * UNIT // 255).sum() for each in steps], np.int64),
        "min": np.array([each.min() / 255 for each in steps], np.float32),
        "max": np.array([each.max() / 255 for each in steps], np.float32),
    }
    sizes = draw(st.lists(st.integers(1, 1000), min_size=len(ids), max_size=len(ids)))
    return RegionAdjacencyGraph(ids, np.array(edges, np.int64).reshape(-1, 2), features, {"size": np.array(sizes, int)})


@st.composite
def merge_trees(draw: st.DrawFn, leaves: int = 8) -> MergeTree:
    """Forests of any shape over up to `leaves` fragments."""
    ids = _ids(draw, leaves)
    roots = list(range(len(ids)))
    merges: list[list[int]] = []
    for _ in range(draw(st.integers(0, max(len(ids) - 1, 0)))):
        pair = [roots.pop(draw(st.integers(0, len(roots) - 1))) for _ in range(2)]
        roots.append(len(ids) + len(merges))
        merges.append(pair)
    scores = draw(st.lists(st.integers(0, 255), min_size=len(merges), max_size=len(merges)))
    return MergeTree.from_merges(ids, merges, np.array(scores, float) / 255)


@st.composite
def skeletons(draw: st.DrawFn, nodes: int = 20) -> Skeletons:
    """Up to four neurons of at least two and up to so many nodes, in pieces, with cycles, perhaps without an edge."""
    ids = draw(st.lists(st.sampled_from([3, 5, 9, 2**63]), min_size=2, max_size=nodes))
    pairs = [(a, b) for a in range(len(ids)) for b in range(a) if ids[a] == ids[b]]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=nodes)) if pairs else []
    places = st.tuples(*[st.integers(0, 30)] * 3)
    corners = draw(st.lists(places, min_size=len(ids), max_size=len(ids)))
    return Skeletons(np.array(corners) * 7.3, np.array(edges, np.int64).reshape(-1, 2), np.array(ids, np.uint64))


def _ids(draw: st.DrawFn, most: int) -> np.ndarray:
    ids = [*range(1, 3 * most + 1), *LARGE_IDS]
    return np.array(sorted(draw(st.lists(st.sampled_from(ids), max_size=most, unique=True))), np.uint64)


def _drawn(draw: st.DrawFn, value: Any) -> Any:
    return draw(value) if isinstance(value, st.SearchStrategy) else value


def _shape(draw: st.DrawFn, shape: AnyShape) -> Sequence[int]:
    return draw(shapes()) if shape is None else _drawn(draw, shape)


def _grid(draw: st.DrawFn, grid: AnyGrid) -> Grid:
    return draw(grids()) if grid is None else _drawn(draw, grid)
