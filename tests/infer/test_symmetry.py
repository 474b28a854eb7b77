"""Test-time augmentation: a network that knows the truth must see no change, and any other the mean of what it says."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from segkit import Grid, Labels, Volume
from segkit.data import Affinities, edge_mask, edge_slices
from segkit.errors import InvalidInput
from segkit.infer import predict
from segkit.infer.symmetry import Symmetry, symmetries

CUBES = Grid((8, 8, 8))
NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
LONG = [*NEAREST, (-2, 0, 0), (0, 3, 0), (0, 0, -4)]
DIAGONAL = [(0, -1, -1), (0, -1, 1), (-2, 0, 0)]
EVERY = [
    Symmetry(order, flips) for order in itertools.permutations(range(3)) for flips in ((), (0,), (1, 2), (0, 1, 2))
]


class Oracle(nn.Module):
    """A "network" that compares intensities, which are labels, at both ends of each edge; it pads or is valid."""

    ndim, sections = 3, 1

    def __init__(self, neighborhood, reach=0, stride=(1, 1, 1)):
        super().__init__()
        self.neighborhood, self.reach, self.stride = neighborhood, reach, stride
        self.context = (2 * reach,) * 3

    def output_shape(self, shape):
        return tuple(size - 2 * self.reach for size in shape)

    def input_shape(self, shape):
        rounded = [-(-size // step) * step for size, step in zip(shape, self.stride, strict=True)]
        return tuple(size + 2 * self.reach for size in rounded)

    def forward(self, raw):
        inside = tuple(slice(self.reach, size - self.reach) for size in raw.shape[2:])
        logits = torch.full((len(raw), len(self.neighborhood), *raw.shape[2:]), -30.0)
        for channel, offset in enumerate(self.neighborhood):
            source, target = edge_slices(raw.shape[2:], offset)
            same = raw[:, 0][(slice(None), *source)] == raw[:, 0][(slice(None), *target)]
            logits[(slice(None), channel, *source)] = torch.where(same, 30.0, -30.0)
        return logits[(..., *inside)]


class Weighted(nn.Module):
    """A padding network of one convolution with weights that favour a direction."""

    ndim, sections, context, stride = 3, 1, (0, 0, 0), (1, 1, 1)

    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(4)
        self.layer = nn.Conv3d(1, channels, 3, padding=1)

    def output_shape(self, shape):
        return tuple(shape)

    def input_shape(self, shape):
        return tuple(shape)

    def forward(self, raw):
        return 3 * self.layer(raw)


def _labels(*shape, seed=0):
    return np.random.default_rng(seed).integers(1, 3, shape).astype(np.uint8)


@pytest.mark.parametrize("augment", ["flips", "all"])
@pytest.mark.parametrize("neighborhood", [NEAREST, LONG])
@pytest.mark.parametrize("tile", [None, (4, 6, 5)])
def test_the_truth_is_the_same_from_all_sides(augment, neighborhood, tile):
    if augment == "all" and neighborhood is LONG:
        neighborhood = [*NEAREST, (-3, 0, 0), (0, 3, 0), (0, 0, -3)]
    labels = _labels(9, 11, 13)
    module = Oracle(neighborhood, reach=4)
    expected = Affinities.from_labels(Labels.convert(labels, CUBES), neighborhood)
    got = predict(module, Volume(labels, CUBES), neighborhood, augment=augment, tile_shape=tile)
    np.testing.assert_allclose(got.array, expected.array, atol=1e-6)
    got.check()


def test_diagonal_edges_survive_flips_where_both_diagonals_are_there():
    labels = _labels(5, 8, 7)
    expected = Affinities.from_labels(Labels.convert(labels, CUBES), DIAGONAL)
    got = predict(Oracle(DIAGONAL, reach=2), Volume(labels, CUBES), DIAGONAL, augment="flips")
    np.testing.assert_allclose(got.array, expected.array, atol=1e-6)


@pytest.mark.parametrize("symmetry", EVERY, ids=str)
def test_a_change_of_the_volume_changes_the_truth_as_destinations_say(symmetry):
    """Each edge of the changed volume, voxel by voxel, against coordinates put through the change."""
    shape, neighborhood = (3, 4, 5), [*NEAREST, (0, 2, 0), (2, 0, 0), (0, 0, -2)]
    coordinates = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    changed = np.stack([symmetry.apply(coordinates[..., axis]) for axis in range(3)], -1)
    for channel, (to, shift) in enumerate(symmetry.destinations(np.array(neighborhood))):
        for voxel in np.ndindex(changed.shape[:3]):
            other = tuple(np.add(voxel, neighborhood[channel]))
            if any(step < 0 or step >= size for step, size in zip(other, changed.shape[:3], strict=True)):
                continue
            home = changed[voxel] + shift
            ends = {tuple(changed[voxel]), tuple(changed[other])}
            assert {tuple(home), tuple(home + neighborhood[to])} == ends


def test_undo_and_box_lead_back():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    for symmetry in EVERY:
        changed = np.stack([symmetry.apply(channel) for channel in array])
        assert changed.shape[1:] == symmetry.shape(array.shape[1:])
        np.testing.assert_array_equal(symmetry.undo(changed), array)
        part = (slice(1, 3), slice(0, 2), slice(2, 3))
        box = symmetry.box(part, array.shape[1:])
        np.testing.assert_array_equal(symmetry.undo(changed[(slice(None), *part)]), array[(slice(None), *box)])


@pytest.mark.parametrize("augment", ["flips", "all"])
def test_any_network_gives_the_mean_over_the_variants(augment):
    """Each variant by itself, without augmentation, put back edge by edge."""
    raw, module = _labels(5, 6, 7, seed=3) * 80, Weighted(3)
    orders = [(0, 1, 2)] if augment == "flips" else list(itertools.permutations(range(3)))
    total = np.zeros((3, *raw.shape))
    variants = list(itertools.product(orders, itertools.product((1, -1), repeat=3)))
    for order, signs in variants:
        view = raw[:: signs[0], :: signs[1], :: signs[2]].transpose(order)
        grown = predict(module, Volume(view, CUBES), NEAREST).array
        for channel in range(3):
            back = grown[channel].transpose(np.argsort(order))[:: signs[0], :: signs[1], :: signs[2]]
            axis = order[channel]
            inner = [slice(None)] * 3
            inner[axis] = slice(1, None)
            if signs[axis] < 0:  # its edges begin at the other end
                back = np.roll(back, 1, axis)
            total[(axis, *inner)] += back[tuple(inner)]
    got = predict(module, Volume(raw, CUBES), NEAREST, augment=augment)
    np.testing.assert_allclose(got.array, total / len(variants), atol=1e-5)
    assert np.abs(got.array - predict(module, Volume(raw, CUBES), NEAREST).array).max() > 0.05


def test_edges_that_leave_the_volume_are_0():
    got = predict(Weighted(6), Volume(_labels(6, 6, 6), CUBES), LONG, augment="flips").array
    assert (got[~edge_mask((6, 6, 6), LONG)] == 0).all() and (got[edge_mask((6, 6, 6), LONG)] > 0).all()


def test_axes_change_places_only_where_they_are_alike():
    counts = {
        (8, 8, 8): 48,
        (40, 4, 4): 16,
        (40, 4, 8): 8,
    }
    for size, count in counts.items():
        assert len(set(symmetries("all", Oracle(NEAREST), np.array(NEAREST), Grid(size)))) == count
    flat = Oracle(NEAREST, stride=(1, 2, 2))
    assert len(symmetries("all", flat, np.array(NEAREST), CUBES)) == 16
    assert symmetries("flips", flat, np.array(NEAREST), CUBES)[0] == Symmetry()


def test_2d_models_are_mirrored_along_z_only_if_they_see_other_sections():
    class Planar:
        ndim, sections, stride, context = 2, 1, (1, 1), (0, 0)

    planar = np.array(NEAREST[1:])
    assert len(symmetries("flips", Planar(), planar, CUBES)) == 4
    assert len(symmetries("all", Planar(), planar, CUBES)) == 8
    Planar.sections = 3
    assert len(symmetries("all", Planar(), planar, CUBES)) == 16


@pytest.mark.parametrize(
    ("neighborhood", "augment", "message"),
    [
        ([(0, -1, -1)], "flips", r"flip y.*\[0, 1, -1\] or its negative"),
        ([(-1, 0, 0), (0, -1, 0)], "all", r"order .*\[0, 0, -1\].*choose augment 'none', 'flips'"),
        (NEAREST, "some", "augment must be none, flips, all, not 'some'"),
    ],
)
def test_edges_without_a_counterpart_are_refused(neighborhood, augment, message):
    with pytest.raises(InvalidInput, match=message):
        predict(Weighted(len(neighborhood)), Volume(_labels(5, 5, 5), CUBES), neighborhood, augment=augment)
