"""What the voxels say of each contact, as integers that add up: over blocks, and where fragments become one."""

import numpy as np
from segkit.agglomerate.rag import Box, region_adjacency_graph
from segkit.data import Affinities, Grid, Labels, RegionAdjacencyGraph

from segkit_learned import _kernels as kernels

BOUNDS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
"""Between the bins of histograms: finer where affinities of a network gather."""
KINDS = ("z", "y", "x", "long")
"""Affinities count by the axis between two voxels that touch; those of all other offsets together."""
MOMENTS = 9
"""Sums of z, y, x, zz, yy, xx, zy, zx, yx over the edges between voxels that touch, in half voxels."""


def contact_statistics(affinities: Affinities, fragments: Labels, inner: Box | None = None) -> RegionAdjacencyGraph:
    """Build the region adjacency graph with statistics of which all are integers that add up.

    Parameters and errors are those of :func:`segkit.agglomerate.rag.region_adjacency_graph`. Of each edge "count"
    int64 (E,), "sum" int64 (E, 4) in units of 2^-30 and "histogram" int32 (E, 4, 12), by kind of affinity (`KINDS`),
    and "moments" int64 (E, 9) of the places where the two touch; of each node its "size" and the sums of the
    "positions" of its voxels, int64 (N, 3), counted in voxels from the origin of the world.
    """
    graph = region_adjacency_graph(affinities, fragments, ("count", "size"), inner=inner)
    edges, nodes = len(graph.edges), len(graph.node_ids)
    box = inner or tuple(slice(0, size) for size in fragments.shape)
    ranges = tuple((part.start, part.stop) for part in box)
    origin, shape = world_origin(fragments.grid), fragments.array.shape
    numbers = kernels.node_numbers(np.ascontiguousarray(fragments.array).reshape(-1), graph.node_ids).reshape(shape)
    positions = np.zeros((nodes, 3), np.int64)
    kernels.sum_positions(numbers, ranges, origin, positions)
    starts = np.searchsorted(graph.edges[:, 0], np.arange(nodes + 1))
    ends = np.ascontiguousarray(graph.edges[:, 1])
    histograms = np.zeros((edges, len(KINDS), len(BOUNDS) + 1), np.int32)
    sums, moments = np.zeros((edges, len(KINDS)), np.int64), np.zeros((edges, MOMENTS), np.int64)
    rows, bounds, totals = (starts, ends), np.array(BOUNDS), (histograms, sums, moments)
    for offset, values in zip(affinities.neighborhood, affinities.array, strict=True):
        z, y, x = map(int, offset)
        values = np.ascontiguousarray(values)
        kernels.tally(numbers, values, (z, y, x), kind_of(offset), (ranges, origin), rows, bounds, totals)
    features = {"count": graph.features["count"], "sum": sums, "histogram": histograms, "moments": moments}
    sizes = {"size": graph.node_features["size"], "positions": positions}
    return RegionAdjacencyGraph(graph.node_ids, graph.edges, features, sizes)


def kind_of(offset: np.ndarray) -> int:
    """The place in `KINDS` of an offset."""
    steps = np.abs(offset)
    return int(np.argmax(steps)) if steps.sum() == 1 else KINDS.index("long")


def world_origin(grid: Grid) -> tuple[int, int, int]:
    """The first voxel, counted from the origin of the world: whole numbers, the same for all blocks of a volume."""
    z, y, x = (int(np.floor(o / s + 0.5 + 1e-6)) for o, s in zip(grid.offset, grid.voxel_size, strict=True))
    return z, y, x
