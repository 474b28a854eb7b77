"""Where voxels come from: against SciPy, by hand, and within the stated bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from segkit import Grid
from segkit.train.augment.config import AugmentationSettings
from segkit.train.augment.resample import part, positions
from segkit.train.augment.warp import draw_warp, spline
from segkit.train.patch import Patch

SOLID, FLAT = Patch((6, 8, 8), (10, 12, 12), 3), Patch((1, 8, 8), (3, 12, 12), 2)
CUBES, SECTIONS = Grid((8, 8, 8)), Grid((40, 4, 4))
BOX = ((-2, -2, -2), (10, 12, 12))


def warp(seed=0, patch=SOLID, grid=CUBES, box=BOX, **settings):
    return draw_warp(np.random.default_rng(seed), AugmentationSettings(**settings), patch, grid, *box)


@pytest.mark.parametrize(("size", "spacing"), [(1, 4.0), (9, 4.0), (30, 7.5)])
def test_the_deformation_is_a_cubic_b_spline(size, spacing):
    weights = spline(size, spacing)
    points = weights.shape[1]
    control = np.random.default_rng(0).normal(size=points)
    expected = BSpline((np.arange(points + 4) - 3) * spacing, control, 3)(np.arange(size))
    assert np.allclose(weights @ control, expected, atol=1e-5)
    assert weights.min() >= 0 and np.allclose(weights.sum(axis=1), 1)


def test_nothing_is_drawn_with_probability_0():
    assert all(warp(seed) is None for seed in range(50))


ALL = {
    "affine": {"probability": 0.7, "rotation": [40, 40, 40], "scale": [0.2, 0.2, 0.2], "shear": 0.2},
    "elastic": {"probability": 0.7, "spacing": [4, 5, 6], "magnitude": [1, 2, 2.5]},
    "sections": {"slip": 0.2, "shift": 0.1},
}


@given(st.integers(0, 2**32 - 1), st.sampled_from([CUBES, SECTIONS]), st.sampled_from([SOLID, FLAT]))
def test_everything_that_is_needed_lies_within_the_bounds(seed, grid, patch):
    box = (tuple(-b for b in patch.before), patch.input)
    drawn = warp(seed, patch, grid, box, **ALL)
    if drawn is None:
        return
    where = positions(drawn, torch.device("cpu"))
    for low, shape in (box, ((0, 0, 0), patch.output)):
        inner = part(where, drawn.low, (low, shape)).reshape(3, -1).numpy()
        first, end = drawn.bounds(low, shape)
        assert (inner.min(axis=1) >= first - 1e-3).all() and (inner.max(axis=1) <= end - 1 + 1e-3).all()
    if patch is FLAT:
        assert drawn.keeps_sections
        assert torch.equal(where[0, :, 0, 0], torch.arange(-1.0, 2.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("grid", "solid"), [(CUBES, True), (SECTIONS, False)])
def test_rotations_turn_about_their_axis_up_to_their_angle(grid, solid, axis):
    settings = {"probability": 1, "rotation": np.eye(3)[axis] * 30, "scale": [0, 0, 0]}
    voxel = np.array(grid.voxel_size)
    matrices = np.array([warp(seed, grid=grid, affine=settings).matrix for seed in range(200)])
    world = matrices * voxel[:, None] / voxel
    assert np.allclose(world @ world.transpose(0, 2, 1), np.eye(3)) and (np.linalg.det(world) > 0).all()
    assert np.allclose(world[:, axis], np.eye(3)[axis])
    angles = np.degrees(np.arccos((np.trace(world, axis1=1, axis2=2) - 1).clip(-2, 2) / 2))
    assert 28 < angles.max() <= 30.001 if solid or axis == 0 else angles.max() < 1e-5


def test_voxels_that_are_not_square_turn_in_the_world():
    grid = Grid((40, 8, 4))
    settings = {"probability": 1, "rotation": [90, 0, 0], "scale": [0, 0, 0]}
    for seed in range(20):
        matrix = warp(seed, grid=grid, affine=settings).matrix[1:, 1:]
        world = matrix * np.array([[8], [4]]) / np.array([8, 4])
        assert np.allclose(world @ world.T, np.eye(2))


def test_scales_are_the_size_that_objects_get():
    settings = {"probability": 1, "rotation": [0, 0, 0], "scale": [0, 0.2, 0.4]}
    factors = np.array([1 / np.diag(warp(seed, affine=settings).matrix) for seed in range(300)])
    assert np.all(factors[:, 0] == 1)
    assert np.allclose(factors.min(axis=0)[1:], [0.8, 0.6], atol=0.01)
    assert np.allclose(factors.max(axis=0)[1:], [1.2, 1.4], atol=0.01)


def test_slip_and_shift_displace_sections():
    slips = warp(sections={"slip": 1, "displacement": [3, 5]}).moves
    assert slips.shape == (10, 2) and len(np.unique(slips)) == 20
    assert (np.abs(slips) <= [3, 5]).all()
    found = [warp(seed, sections={"shift": 0.1, "displacement": [3, 5]}) for seed in range(40)]
    found = [each.moves for each in found if each is not None]
    assert found
    for moves in found:
        assert np.array_equal(moves[0], [0, 0])
    single = next(moves for moves in found if len(np.unique(moves[:, 0])) == 2)
    first = np.flatnonzero(single[:, 0])[0]
    assert (single[first:] == single[first]).all() and not single[:first].any()
    assert all(warp(seed, FLAT, sections={"shift": 1}, box=((0, 0, 0), (1, 8, 8))) is None for seed in range(5))


def test_positions_by_hand():
    drawn = warp(affine={"probability": 1, "rotation": [0, 0, 0], "scale": [0, 0, 0]}, sections={"slip": 1})
    where = positions(drawn, torch.device("cpu"))
    z, y, x = np.meshgrid(*(np.arange(-2, -2 + n) for n in (10, 12, 12)), indexing="ij")
    moved = y + drawn.moves[:, 0, None, None], x + drawn.moves[:, 1, None, None]
    assert np.allclose(where.numpy(), np.stack([z, *moved]), atol=1e-5)
    turned = warp(1, affine={"probability": 1, "rotation": [30, 0, 0], "scale": [0, 0, 0]})
    where = positions(turned, torch.device("cpu")).numpy()
    angle = np.arctan2(turned.matrix[2, 1], turned.matrix[2, 2])
    centre = 3.5 + 3.5j
    expected = ((y + 1j * x) - centre) * np.exp(1j * angle) + centre
    assert np.allclose(where[1] + 1j * where[2], expected, atol=1e-4)
    assert np.array_equal(where[0], z)
