"""From sums to the numbers that a contact is judged by: they mean the same of fragments and of what was merged."""

import numpy as np
from segkit.agglomerate.rag import UNIT
from segkit.data import RegionAdjacencyGraph

from segkit_learned.statistics import BOUNDS

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
NAMES = (
    "log_count",
    "log_touching",
    "mean",
    "lowest_axis_mean",
    "highest_axis_mean",
    *(f"quantile_{round(100 * q):02d}" for q in QUANTILES),
    "share_low",
    "share_high",
    "long_mean",
    *(f"long_quantile_{round(100 * q):02d}" for q in QUANTILES[2:5]),
    "log_smaller_size",
    "log_larger_size",
    "surface_of_smaller",
    "surface_of_larger",
    "extent_1",
    "extent_2",
    "extent_3",
    "flatness",
    "filling",
    "centre_distance",
    "centre_distance_by_radii",
    "bend",
    "log_neighbours_of_smaller",
    "log_neighbours_of_larger",
    "best_other_of_smaller",
    "best_other_of_larger",
    "lead_on_smaller",
    "lead_on_larger",
)
"""The columns of :func:`describe`."""
RISING = {
    *(name for name in NAMES if name.startswith(("quantile", "long_quantile"))),
    "mean",
    "lowest_axis_mean",
    "highest_axis_mean",
    "share_high",
    "long_mean",
}
"""More of these never makes a contact less likely to join."""


def describe(graph: RegionAdjacencyGraph, voxel_size: np.ndarray) -> np.ndarray:
    """Compute what `NAMES` says of each contact, float64 (E, F), finite, from what `contact_statistics` gives.

    Lengths are nm, sizes nm^3; of the two sides the one of fewer voxels (of equal ones the first) is the smaller.
    Shares of surface are those of all contacts of a cluster: the background has none.
    """
    sizes = graph.node_features["size"]
    one, other = graph.edges.T
    swap = sizes[one] > sizes[other]
    small, large = np.where(swap, other, one), np.where(swap, one, other)
    columns = _affinities(graph) | _shapes(graph, voxel_size, small, large) | _surroundings(graph, small, large)
    volume = np.prod(voxel_size)
    columns |= {
        "log_smaller_size": np.log(np.maximum(sizes[small], 1) * volume),
        "log_larger_size": np.log(np.maximum(sizes[large], 1) * volume),
    }
    return np.stack([columns[name] for name in NAMES], axis=1).astype(np.float64)


def _affinities(graph: RegionAdjacencyGraph) -> dict[str, np.ndarray]:
    histograms, sums = graph.features["histogram"].astype(np.int64), graph.features["sum"]
    counts = histograms.sum(axis=2)
    touching = histograms[:, :3].sum(axis=1)
    total = counts[:, :3].sum(axis=1)
    # where no voxels touch, what the long affinities say stands for what the others would
    alone = (total == 0)[:, None]
    near, near_sum = np.where(alone, histograms[:, 3], touching), np.where(alone[:, 0], sums[:, 3], sums[:, :3].sum(1))
    near_count = np.maximum(near.sum(axis=1), 1)
    mean = near_sum / UNIT / near_count
    with np.errstate(invalid="ignore", divide="ignore"):
        axis_means = np.where(counts[:, :3] > 0, sums[:, :3] / UNIT / counts[:, :3], mean[:, None])
        long_mean = np.where(counts[:, 3] > 0, sums[:, 3] / UNIT / counts[:, 3], mean)
    far = np.where((counts[:, 3] == 0)[:, None], near, histograms[:, 3])
    quantiles, long_quantiles = quantiles_of(near, QUANTILES), quantiles_of(far, QUANTILES[2:5])
    names = [name for name in NAMES if name.startswith("quantile")]
    long_names = [name for name in NAMES if name.startswith("long_quantile")]
    return {
        "log_count": np.log(graph.features["count"]),
        "log_touching": np.log1p(total),
        "mean": mean,
        "lowest_axis_mean": axis_means.min(axis=1),
        "highest_axis_mean": axis_means.max(axis=1),
        "share_low": near[:, :4].sum(axis=1) / near_count,
        "share_high": near[:, 8:].sum(axis=1) / near_count,
        "long_mean": long_mean,
        **dict(zip(names, quantiles.T, strict=True)),
        **dict(zip(long_names, long_quantiles.T, strict=True)),
    }


def quantiles_of(histograms: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """Quantiles of histograms over the bins between `BOUNDS`, float64 (E, Q), as if bins were evenly filled."""
    bounds = np.array([0.0, *BOUNDS, 1.0])
    below = np.concatenate([np.zeros((len(histograms), 1)), np.cumsum(histograms, axis=1)], axis=1)
    found = np.empty((len(histograms), len(fractions)))
    rows = np.arange(len(histograms))
    for column, fraction in enumerate(fractions):
        wanted = fraction * below[:, -1]
        place = np.clip((below[:, 1:] < wanted[:, None]).sum(axis=1), 0, len(BOUNDS))
        inside = np.maximum(below[rows, place + 1] - below[rows, place], 1)
        part = np.clip((wanted - below[rows, place]) / inside, 0, 1)
        found[:, column] = bounds[place] + part * (bounds[place + 1] - bounds[place])
    return found


def _shapes(
    graph: RegionAdjacencyGraph, voxel_size: np.ndarray, small: np.ndarray, large: np.ndarray
) -> dict[str, np.ndarray]:
    """The extents of the contact along its principal axes, and where it lies between the centres of both."""
    moments = graph.features["moments"]
    counts = graph.features["histogram"][:, :3].sum(axis=(1, 2))
    touching = np.maximum(counts, 1)[:, None]
    middle = moments[:, :3] / touching
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    covariances = np.zeros((len(moments), 3, 3))
    for column, (a, b) in enumerate(pairs, 3):
        found = moments[:, column] / touching[:, 0] - middle[:, a] * middle[:, b]
        covariances[:, a, b] = covariances[:, b, a] = found * voxel_size[a] * voxel_size[b] / 4
    spreads = np.sqrt(np.maximum(np.linalg.eigvalsh(covariances), 0)) if len(moments) else np.zeros((0, 3))
    sizes = np.maximum(graph.node_features["size"], 1)
    centres = graph.node_features["positions"] / sizes[:, None] * voxel_size
    radii = np.cbrt(3 * sizes * np.prod(voxel_size) / (4 * np.pi))
    there = np.where(counts[:, None] > 0, middle / 2 * voxel_size, (centres[small] + centres[large]) / 2)
    apart = np.linalg.norm(centres[small] - centres[large], axis=1)
    way = np.linalg.norm(there - centres[small], axis=1) + np.linalg.norm(there - centres[large], axis=1)
    area = np.maximum(counts, 1) * np.prod(voxel_size) ** (2 / 3)
    return {
        "extent_1": spreads[:, 2],
        "extent_2": spreads[:, 1],
        "extent_3": spreads[:, 0],
        "flatness": spreads[:, 0] / np.maximum(spreads[:, 2], 1e-9),
        "filling": area / np.maximum(spreads[:, 1] * spreads[:, 2], np.prod(voxel_size) ** (2 / 3)),
        "centre_distance": apart,
        "centre_distance_by_radii": apart / (radii[small] + radii[large]),
        "bend": way / np.maximum(apart, voxel_size.min()),
    }


def _surroundings(graph: RegionAdjacencyGraph, small: np.ndarray, large: np.ndarray) -> dict[str, np.ndarray]:
    """What else both touch: how much of their surface this contact is, and whether another one is better."""
    nodes, edges = len(graph.node_ids), graph.edges
    counts = graph.features["count"]
    ends, rows = edges.T.reshape(-1), np.tile(np.arange(len(edges)), 2)
    surface, neighbours = np.zeros(nodes, np.int64), np.bincount(ends, minlength=nodes)
    np.add.at(surface, ends, counts[rows])
    mean = graph.features["sum"].sum(axis=1) / UNIT / counts
    best, second = np.zeros(nodes), np.zeros(nodes)
    np.maximum.at(best, ends, mean[rows])
    first = np.full(nodes, len(edges))
    np.minimum.at(first, ends, np.where(mean[rows] == best[ends], rows, len(edges)))
    np.maximum.at(second, ends, np.where(first[ends] == rows, 0.0, mean[rows]))
    row = np.arange(len(edges))
    others = [np.where(first[side] == row, second[side], best[side]) for side in (small, large)]
    return {
        "surface_of_smaller": counts / surface[small],
        "surface_of_larger": counts / surface[large],
        "log_neighbours_of_smaller": np.log(neighbours[small]),
        "log_neighbours_of_larger": np.log(neighbours[large]),
        "best_other_of_smaller": others[0],
        "best_other_of_larger": others[1],
        "lead_on_smaller": mean - others[0],
        "lead_on_larger": mean - others[1],
    }
