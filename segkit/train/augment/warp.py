"""Where each voxel of a patch comes from: rotation, scaling, shearing, elastic deformation, misalignment."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from segkit.data import Grid
from segkit.train.augment.config import AffineSettings, AugmentationSettings, ElasticSettings, SectionSettings
from segkit.train.patch import Patch, Shape

PLANES = ((1, 2), (0, 2), (0, 1))
"""The axes that a rotation about z, y, x turns into each other."""


@dataclass(frozen=True, eq=False)
class Warp:
    """Voxel p of a patch comes from centre + matrix (p - centre) + deformation(p) + moves[z of p].

    Positions are voxels, z, y, x, with (0, 0, 0) at the first voxel of the output.
    """

    low: Shape
    """The first voxel of the box for which this holds."""
    shape: Shape
    """Size of the box."""
    centre: np.ndarray
    """float64 (3,)."""
    matrix: np.ndarray
    """float64 (3, 3)."""
    control: np.ndarray | None
    """Displacements of control points of a cubic B-spline, float32 (3, points along z, y, x); None = no deformation."""
    spacing: tuple[float, float, float]
    """Distance of the control points."""
    moves: np.ndarray | None
    """Displacement of each section of the box along y, x, float32 (Z, 2); None = none."""

    @property
    def keeps_sections(self) -> bool:
        """Whether every voxel comes from its own section, so that no two are mixed."""
        still = self.control is None or not self.control[0].any()
        return still and np.array_equal(self.matrix[0], (1, 0, 0))

    def bounds(self, low: Shape, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """First and one past the last voxel that a part of the box needs, interpolation included, int64 (3,) each."""
        ends = np.array([low, np.add(low, shape) - 1], float) - self.centre
        terms = self.matrix * ends[:, None, :]
        least, most = self.centre + terms.min(axis=0).sum(axis=1), self.centre + terms.max(axis=0).sum(axis=1)
        if self.control is not None:
            reach = np.abs(self.control).max(axis=(1, 2, 3))
            least, most = least - reach, most + reach
        if self.moves is not None:
            first = low[0] - self.low[0]
            moves = self.moves[first : first + shape[0]]
            least[1:] += moves.min(axis=0)
            most[1:] += moves.max(axis=0)
        return np.floor(least).astype(int), np.ceil(most).astype(int) + 1


def draw_warp(
    rng: np.random.Generator, settings: AugmentationSettings, patch: Patch, grid: Grid, low: Shape, shape: Shape
) -> Warp | None:
    """A random one for the box of `shape` from `low` on; None if nothing moves."""
    matrix = _affine(rng, settings.affine, patch, grid)
    control = _control_points(rng, settings.elastic, patch, shape)
    moves = _misalignment(rng, settings.sections, shape[0])
    if matrix is None and control is None and moves is None:
        return None
    centre = (np.array(patch.output) - 1) / 2
    return Warp(low, shape, centre, np.eye(3) if matrix is None else matrix, control, settings.elastic.spacing, moves)


def _affine(rng: np.random.Generator, settings: AffineSettings, patch: Patch, grid: Grid) -> np.ndarray | None:
    """The matrix from a patch to the volume, in voxels, though angles are those of the world."""
    drawn = rng.random() < settings.probability
    angles, scales, shears = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3), rng.uniform(-1, 1, (3, 3))
    if not drawn:
        return None
    solid = patch.ndim == 3 and grid.isotropic
    factors = 1 + scales * settings.scale * np.array([patch.ndim == 3, 1, 1])
    matrix = np.diag(1 / factors)
    free = np.ones((3, 3), bool) if solid else np.pad(np.ones((2, 2), bool), ((1, 0), (1, 0)))
    matrix = (np.eye(3) + settings.shear * shears * (free & ~np.eye(3, dtype=bool))) @ matrix
    for axis in range(3 if solid else 1):
        matrix = _rotation(axis, math.radians(settings.rotation[axis]) * angles[axis]) @ matrix
    voxel = np.array(grid.voxel_size)
    return matrix * voxel / voxel[:, None]


def _rotation(axis: int, angle: float) -> np.ndarray:
    matrix, plane = np.eye(3), PLANES[axis]
    matrix[np.ix_(plane, plane)] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return matrix


def _control_points(
    rng: np.random.Generator, settings: ElasticSettings, patch: Patch, shape: Shape
) -> np.ndarray | None:
    if rng.random() >= settings.probability:
        return None
    points = [spline(size, spacing).shape[1] for size, spacing in zip(shape, settings.spacing, strict=True)]
    magnitude = np.array(settings.magnitude) * [patch.ndim == 3, 1, 1]
    return (rng.uniform(-1, 1, (3, *points)) * magnitude[:, None, None, None]).astype(np.float32)


def _misalignment(rng: np.random.Generator, settings: SectionSettings, sections: int) -> np.ndarray | None:
    """Slips displace one section, shifts all from one on; both by a draw of their own each time."""
    slips, shifts = rng.random((2, sections)) < np.array([[settings.slip], [settings.shift]])
    moves = rng.uniform(-1, 1, (2, sections, 2)) * settings.displacement
    shifts[0] = False  # to displace all sections is no misalignment
    if not (slips.any() or shifts.any()):
        return None
    return (moves[0] * slips[:, None] + (moves[1] * shifts[:, None]).cumsum(axis=0)).astype(np.float32)


@lru_cache(maxsize=32)
def spline(size: int, spacing: float) -> np.ndarray:
    """Weights of the control points of a uniform cubic B-spline at `size` voxels, float32 (size, points).

    They are not negative and sum to 1, so that nothing moves further than its control points.
    """
    place = np.arange(size) / spacing
    first = place.astype(int)
    f = place - first
    basis = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]) / 6
    weights = np.zeros((size, first[-1] + 4), np.float32)
    for step, weight in enumerate(basis):
        weights[np.arange(size), first + step] = weight
    weights.flags.writeable = False
    return weights
