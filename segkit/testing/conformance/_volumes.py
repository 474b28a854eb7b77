"""The volumes that components are tried on."""

from collections.abc import Sequence

import numpy as np

from segkit.data import NEAREST, Affinities, Grid, Labels, Volume, edge_slices

Neighborhood = np.ndarray | Sequence[Sequence[int]]
"""Offsets, z, y, x, one a channel."""
Container = Volume | Labels | Affinities
GRID = Grid((40.0, 8.0, 4.0), (80.0, -16.0, 0.0))
LONG = (*NEAREST, (-3, 0, 0), (0, -3, 0), (0, 0, -3))
EDGE_IDS = (1, 2**31, 2**32 + 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 4, 2**64 - 3)
"""Ids that a component loses if it goes through int32, float64 or int64."""
OUTSIDE = (2**64 - 2, 2**64 - 1)
BINS = 256
REORIENTATIONS = (((0, 1, 2), (0,)), ((0, 1, 2), (1, 2)), ((2, 1, 0), ()), ((1, 2, 0), (2,)))
"""Axes (new axis i was axes[i]) and the new axes that are flipped."""


def random_affinities(shape: Sequence[int], neighborhood: Neighborhood = NEAREST, seed: int = 0) -> Affinities:
    """Affinities between 0.02 and 0.98, all different up to chance."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.02, 0.98, (len(neighborhood), *shape)).astype(np.float32)
    return Affinities.convert(values, neighborhood, GRID)


def cells(shape: Sequence[int], count: int, seed: int = 0, background: float = 0.05) -> Labels:
    """Voronoi cells of `count` random points as fragments 3, 6, 9, ..., with some background and some outside."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, shape, (count, 3))
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    nearest = ((voxels[..., None, :] - points) ** 2).sum(-1).argmin(-1)
    ids = 3 * (1 + nearest.astype(np.uint64))
    kind = rng.random(shape)
    ids[kind < background] = 0
    ids[kind > 1 - background / 2] = OUTSIDE[0]
    ids[kind > 1 - background / 4] = OUTSIDE[1]
    return Labels(ids, GRID)


def fragmented(
    neighborhood: Neighborhood = NEAREST, shape: Sequence[int] = (5, 12, 11), count: int = 25, seed: int = 0
) -> tuple[Affinities, Labels]:
    """Random affinities and fragments of some 30 voxels."""
    return random_affinities(shape, neighborhood, seed), cells(shape, count, seed + 1)


def tie_free(neighborhood: Neighborhood = NEAREST, seed: int = 3) -> tuple[Affinities, Labels]:
    """A small volume in which no two contacts ever score the same.

    Each affinity between fragments lies in a bin of its own of 256, so that histogram quantiles do not tie either.
    """
    fragments = cells((4, 5, 5), 11, seed, background=0.0)
    affinities = random_affinities(fragments.shape, neighborhood, seed)
    between = np.argwhere(contacts_mask(affinities, fragments))
    rng = np.random.default_rng(seed)
    values = affinities.array.copy()
    if len(between) <= BINS:
        bins = rng.permutation(BINS)[: len(between)]
        values[tuple(between.T)] = (bins + rng.uniform(0.3, 0.7, len(bins))) / BINS
    return Affinities(values, affinities.neighborhood, GRID), fragments


def contacts_mask(affinities: Affinities, fragments: Labels) -> np.ndarray:
    """bool (C, Z, Y, X): the edges between two different fragments."""
    ids = np.where(fragments.inside, fragments.array, np.uint64(0))
    mask = np.zeros(affinities.array.shape, bool)
    for channel, offset in zip(mask, affinities.neighborhood, strict=True):
        here, there = edge_slices(ids.shape, offset)
        channel[here] = (ids[here] != ids[there]) & (ids[here] > 0) & (ids[there] > 0)
    return mask


def groups(affinities: Affinities, fragments: Labels) -> set[frozenset[int]]:
    """The fragments that edges join, directly or through others."""
    group = {id_: frozenset([id_]) for id_ in fragments.ids().tolist()}
    for channel, offset in zip(contacts_mask(affinities, fragments), affinities.neighborhood, strict=True):
        for here in np.argwhere(channel):
            a, b = (int(fragments.array[tuple(voxel)]) for voxel in (here, here + offset))
            if group[a] is not group[b]:
                united = group[a] | group[b]
                group.update(dict.fromkeys(united, united))
    return set(group.values())


def reoriented(container: Container, axes: Sequence[int], flips: Sequence[int]) -> Container:
    """The same volume seen otherwise. Affinities keep their neighborhood where the turned one has the same edges."""
    size, offset = (np.take(values, axes) for values in (container.grid.voxel_size, container.grid.offset))
    grid = Grid(tuple(size), tuple(offset))
    if not isinstance(container, Affinities):
        return type(container)(_turned(container.array, axes, flips), grid)
    offsets = container.neighborhood[:, list(axes)].copy()
    offsets[:, list(flips)] *= -1
    array = np.stack([_turned(channel, axes, flips) for channel in container.array])
    return restored(Affinities(array, offsets, grid), container.neighborhood)


def _turned(array: np.ndarray, axes: Sequence[int], flips: Sequence[int]) -> np.ndarray:
    return np.ascontiguousarray(np.flip(np.transpose(array, axes), tuple(flips)))


def restored(affinities: Affinities, neighborhood: np.ndarray) -> Affinities:
    """The same edges with the offsets of `neighborhood`, in its order; unchanged if they are not the same edges."""
    offsets = [tuple(offset) for offset in affinities.neighborhood.tolist()]
    array = np.zeros_like(affinities.array)
    for channel, offset in zip(array, neighborhood, strict=True):
        here, there = edge_slices(affinities.shape, offset)
        if tuple(offset.tolist()) in offsets:
            channel[here] = affinities.array[offsets.index(tuple(offset.tolist()))][here]
        elif tuple((-offset).tolist()) in offsets:
            channel[here] = affinities.array[offsets.index(tuple((-offset).tolist()))][there]
        else:
            return affinities
    return Affinities(array, neighborhood, affinities.grid)


def renamed(labels: Labels, names: dict[int, int]) -> Labels:
    """Labels with other ids; those without a name keep theirs."""
    ids, places = np.unique(labels.array, return_inverse=True)
    new = np.array([names.get(id_, id_) for id_ in ids.tolist()], np.uint64)
    return Labels(new[places].reshape(labels.shape), labels.grid)


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether both are the same up to the names of the labels, 0 being 0."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return bool(((pairs[0] == 0) == (pairs[1] == 0)).all()) and all(len(set(ids)) == len(ids) for ids in pairs.tolist())
