"""Synthetic electron microscopy: neurites that fill space, the membranes between them, and a known truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from segkit.data import Grid, Labels, Volume
from segkit.errors import InvalidInput, sentence

CYTOPLASM, MEMBRANE, MITOCHONDRION, VESICLE = 165.0, 75.0, 105.0, 95.0
"""Typical grey levels, before contrast drift and noise."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic volume and the segmentation that a perfect method would find."""

    raw: Volume
    """Intensities, uint8; membranes are dark."""
    truth: Labels
    """Neurites, numbered from 1 without gaps, each one 6-connected object."""


def neurites(
    shape: Sequence[int] = (48, 128, 128),
    *,
    count: int = 40,
    seed: int = 0,
    voxel_size: Sequence[float] = (10.0, 10.0, 10.0),
    membrane: float = 3.0,
    membranes_in_truth: bool = False,
) -> Phantom:
    """Neurites of varied calibre that wind through the volume and fill it.

    Centre lines are persistent random walks, some of them branched; each is swollen to a tube, every voxel goes to
    the nearest tube, and the result is warped smoothly. Along the interfaces runs a dark membrane, faint or missing
    in places; inside lie dark mitochondria and vesicles. Contrast drifts, and noise is partly correlated: a threshold
    on the intensity does not solve it.

    >>> phantom = neurites((16, 32, 32), count=5, seed=1)
    >>> phantom.raw.shape, phantom.raw.array.dtype.name, phantom.truth.ids().tolist()
    ((16, 32, 32), 'uint8', [1, 2, 3, 4, 5])

    Parameters
    ----------
    shape : z, y, x, in voxels
    count : number of neurites drawn; one that others crowd out altogether is missing from the truth
    seed : equal seeds give equal volumes
    voxel_size : nm; neurites are isotropic in nm, so that anisotropic voxels see them cut in sections
    membrane : thickness of membranes, in units of the smallest edge of a voxel
    membranes_in_truth : write membranes as 0 into the truth; of a neurite cut into pieces by that, the largest is kept
    """
    grid = Grid(tuple(voxel_size))  # type: ignore[arg-type]  # Grid refuses other than three numbers
    shape = _checked_shape(shape)
    if count < 1:
        raise InvalidInput(sentence("count", "must be at least 1", count))
    if not membrane > 0:
        raise InvalidInput(sentence("membrane", "must be a positive thickness", membrane))
    rng = np.random.default_rng(seed)
    scale = np.array(grid.voxel_size) / min(grid.voxel_size)
    truth = _tessellation(rng, shape, scale, count)
    depth = _depth(truth, scale)
    raw = _appearance(rng, truth, depth, scale, membrane)
    if membranes_in_truth:
        truth = _numbered(_largest_pieces(np.where(depth < membrane / 2, 0, truth)))
    return Phantom(Volume(raw, grid), Labels(truth.astype(np.uint64), grid))


def _checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    shape = tuple(int(size) for size in shape)
    if len(shape) != 3 or min(shape) < 1:
        raise InvalidInput(sentence("shape", "must be three positive sizes, z, y, x", shape))
    return shape


def _tessellation(rng: Generator, shape: tuple[int, ...], scale: np.ndarray, count: int) -> np.ndarray:
    """Every voxel to the nearest tube, warped; int64, numbered from 1, each id one 6-connected object."""
    from scipy.ndimage import distance_transform_edt, map_coordinates

    tubes = _tubes(rng, shape, scale, count)
    nearest = distance_transform_edt(tubes == 0, sampling=scale, return_distances=False, return_indices=True)
    labels = tubes[tuple(nearest)]
    where = np.indices(shape, np.float32)
    for axis in range(3):
        where[axis] += 2.5 / scale[axis] * _field(rng, shape, 7.0 / scale)
    labels = map_coordinates(labels, where, order=0, mode="nearest", prefilter=False)
    return _numbered(_without_islands(labels))


def _tubes(rng: Generator, shape: tuple[int, ...], scale: np.ndarray, count: int) -> np.ndarray:
    """The cores of the neurites as labels 1..count, int64; where two meet the first one stays."""
    extent = np.array(shape) * scale
    tubes = np.zeros(shape, np.int64)
    calibre = 0.35 * np.cbrt(extent.prod() / count / 3)  # as if neurites were about three times as long as wide
    for label in range(1, count + 1):
        radius = max(1.0, calibre * rng.lognormal(-0.2, 0.45))
        start = _free_point(rng, tubes, scale)
        direction = _unit(rng.standard_normal(3))
        path = np.concatenate([_walk(rng, start, sign * direction, extent, radius / 2) for sign in (1, -1)])
        if rng.random() < 0.3:
            branch = path[rng.integers(len(path))]
            path = np.concatenate([path, _walk(rng, branch, _unit(rng.standard_normal(3)), extent, radius / 2)])
        for point in path:
            _stamp(tubes, label, point, radius * rng.uniform(0.75, 1.25), scale)
    return tubes


def _free_point(rng: Generator, tubes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """A point outside all tubes so far, or any point where a hundred trials find none."""
    for _ in range(100):
        voxel = rng.integers(0, tubes.shape)
        if tubes[tuple(voxel)] == 0:
            break
    return (voxel + 0.5) * scale


def _walk(rng: Generator, start: np.ndarray, direction: np.ndarray, extent: np.ndarray, step: float) -> np.ndarray:
    """Points of a persistent random walk from `start` until it leaves the box, (N, 3)."""
    points, point = [start], start
    for _ in range(int(2 * extent.max() / step)):
        direction = _unit(direction + 0.22 * rng.standard_normal(3))
        point = point + step * direction
        if (point < 0).any() or (point >= extent).any():
            break
        points.append(point)
    return np.array(points)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _ball(
    shape: Sequence[int], centre: np.ndarray, radii: float | np.ndarray, scale: np.ndarray
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box of an ellipsoid and, in it, the distance from the centre in units of the radii."""
    reach = np.broadcast_to(radii, 3)
    low = np.maximum(np.floor((centre - reach) / scale), 0).astype(int)
    high = np.minimum(np.ceil((centre + reach) / scale) + 1, shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    axes = [
        ((np.arange(a, b) + 0.5) * s - c) / r for a, b, s, c, r in zip(low, high, scale, centre, reach, strict=True)
    ]
    z, y, x = np.ix_(*axes)
    return box, np.sqrt(z * z + y * y + x * x)


def _stamp(tubes: np.ndarray, label: int, centre: np.ndarray, radius: float, scale: np.ndarray) -> None:
    box, distance = _ball(tubes.shape, centre, radius, scale)
    part = tubes[box]
    part[(distance <= 1) & (part == 0)] = label


def _largest_pieces(labels: np.ndarray) -> np.ndarray:
    """Of each id the largest 6-connected piece (the first of equals); the other pieces become 0."""
    import cc3d

    pieces = cc3d.connected_components(labels.astype(np.uint32), connectivity=6).astype(np.int64)
    sizes = np.bincount(pieces.ravel())
    owner = np.zeros(len(sizes), np.int64)
    owner[pieces.ravel()] = labels.ravel()
    order = np.lexsort((np.arange(len(sizes)), -sizes, owner))
    first = np.unique(owner[order], return_index=True)[1]
    keep = np.zeros(len(sizes), bool)
    keep[order[first]] = True
    return np.where(keep[pieces], labels, 0)


def _without_islands(labels: np.ndarray) -> np.ndarray:
    """All but the largest piece of each id are flooded by the neighbours, so that every id is 6-connected."""
    from skimage.segmentation import watershed

    return watershed(np.zeros(labels.shape, np.uint8), markers=_largest_pieces(labels), connectivity=1)


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Ids without gaps from 1, in the same order; 0 stays 0."""
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    return np.where(labels > 0, np.cumsum(present)[labels], 0)


def _depth(labels: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Distance to the interface with another neurite, in units of the smallest edge of a voxel, float32."""
    import edt

    distance = edt.edt(np.ascontiguousarray(labels.astype(np.uint32)), anisotropy=tuple(scale), black_border=False)
    return np.minimum(distance, 1e6) - np.float32(0.5)


def _field(rng: Generator, shape: Sequence[int], sigma: float | np.ndarray) -> np.ndarray:
    """A smooth random field of mean 0 and standard deviation 1, float32; `sigma` in voxels along z, y, x."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=2.5)
    return (field - field.mean()) / max(field.std(), np.float32(1e-6))


def _appearance(rng: Generator, truth: np.ndarray, depth: np.ndarray, scale: np.ndarray, membrane: float) -> np.ndarray:
    """What the microscope sees, uint8."""
    shape = truth.shape
    tint = 9 * rng.standard_normal(int(truth.max()) + 1)
    raw = (CYTOPLASM + tint[truth]).astype(np.float32) + 7 * _field(rng, shape, 2.0 / scale)
    _add_organelles(rng, raw, depth, scale, membrane)
    strength = np.clip(1.05 + 0.45 * _field(rng, shape, 3.5 / scale), 0.1, 1)  # faint or missing in places
    profile = strength * np.exp(-((2 * np.maximum(depth, 0) / membrane) ** 2))
    raw += (MEMBRANE - raw) * profile
    contrast = 1 + 0.08 * _field(rng, shape, np.array(shape) / 4)
    raw = 128 + (raw - 128) * contrast + 6 * _field(rng, shape, np.array(shape) / 4)
    raw += 6 * _field(rng, shape, 1.0 / scale) + 9 * rng.standard_normal(shape, dtype=np.float32)
    return np.clip(np.rint(raw), 0, 255).astype(np.uint8)


def _add_organelles(rng: Generator, raw: np.ndarray, depth: np.ndarray, scale: np.ndarray, membrane: float) -> None:
    """Draw mitochondria (dark ellipsoids with a darker rim) and vesicles (small dark shells) into `raw`."""
    volume = raw.size * scale.prod()
    for centre in _deep_points(rng, depth, membrane + 3, int(volume / 20000), scale):
        radii = rng.uniform(3, 7, 3)
        box, distance = _ball(raw.shape, centre, radii, scale)
        inside = (distance < 1) & (depth[box] > membrane)
        raw[box][inside] = np.where(distance > 0.75, VESICLE, MITOCHONDRION)[inside]
    for centre in _deep_points(rng, depth, membrane + 1, int(volume / 4000), scale):
        box, distance = _ball(raw.shape, centre, 2.5, scale)
        shell = (distance < 1) & (distance > 0.45) & (depth[box] > membrane)
        raw[box][shell] = VESICLE


def _deep_points(rng: Generator, depth: np.ndarray, least: float, count: int, scale: np.ndarray) -> np.ndarray:
    """Up to `count` random points, (N, 3), at least `least` away from every interface."""
    deep = np.flatnonzero(depth >= least)
    chosen = rng.choice(deep, min(count, len(deep)), replace=False) if len(deep) else deep
    return (np.stack(np.unravel_index(chosen, depth.shape), axis=1) + 0.5) * scale
