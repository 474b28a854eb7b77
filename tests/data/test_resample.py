import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels, Volume
from segkit.data.resample import resample_labels, resample_volume, resampled_grid
from segkit.errors import InvalidInput

SIZES = [(1, 1, 1), (2, 2, 2), (0.5, 0.5, 0.5), (1.5, 0.75, 3), (2.7, 0.3, 1.1)]


def centres(grid, shape):
    """World positions of the centres of voxels, one array an axis."""
    return [o + (np.arange(n) + 0.5) * v for o, n, v in zip(grid.offset, shape, grid.voxel_size, strict=True)]


def ramp(grid, shape):
    """A volume whose values are sums of world coordinates."""
    z, y, x = np.meshgrid(*centres(grid, shape), indexing="ij")
    return z + 2 * y - 3 * x


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (40, 4, 4)])
def test_a_ramp_keeps_its_place(size, voxel_size):
    """Values are world coordinates, before and after: exactly where lengths divide, else within the known error."""
    size = tuple(s * v for s, v in zip(size, voxel_size, strict=True))
    old = Grid(voxel_size, (100, -7, 3))
    volume = Volume(ramp(old, (21, 13, 14)), old)
    grid, shape = resampled_grid(old, volume.shape, size)
    result = resample_volume(volume, grid, shape)
    assert result.grid.voxel_size == size and result.grid.offset == old.offset and result.array.dtype == np.float64
    # A new voxel of r old ones that covers parts of two is off by at most 1/8 of an old voxel, divided by r.
    ratios = np.divide(size, voxel_size)
    off = np.where((ratios > 1) & (np.rint(ratios) != ratios), np.multiply(voxel_size, 1 / 8) / ratios, 0)
    inner = (slice(2, -2),) * 3  # the rims continue the last voxel
    errors = np.abs(result.array - ramp(grid, shape))[inner]
    assert errors.max() <= off @ [1, 2, 3] + 1e-4


def test_world_offsets_and_shapes_by_hand():
    old = Grid((40, 4, 4), (80, 400, 0))
    grid, shape = resampled_grid(old, (5, 10, 11), (16, 8, 4))
    assert grid == Grid((16, 8, 4), (80, 400, 0))
    assert shape == (12, 5, 11)  # 200 nm hold centres 8, 24, ... 184; the thirteenth would lie on the border
    assert resampled_grid(old, (5, 10, 11), (1000, 4, 4))[1] == (1, 10, 11)


def test_an_anchor_gives_one_lattice():
    raw, labels = Grid((40, 4, 4)), Grid((40, 4, 4), (80, 28, 4))
    grid, shape = resampled_grid(labels, (4, 10, 10), (16, 8, 8), anchor=raw)
    whole, _ = resampled_grid(raw, (20, 20, 20), (16, 8, 8))
    start = whole.voxel_position(grid)
    assert start == (5, 3, 0)
    for axis, (first, size) in enumerate(zip(start, shape, strict=True)):
        middle = whole.voxel_size[axis] * (first + np.arange(-1, size + 1) + 0.5)
        low = labels.offset[axis]
        inside = (middle > low - 1e-9) & (middle < low + (4, 10, 10)[axis] * labels.voxel_size[axis] - 1e-9)
        assert inside.tolist() == [False, *[True] * size, False]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_longer_voxels_are_means_of_blocks(dtype):
    rng = np.random.default_rng(0)
    array = (rng.random((4, 6, 8)) * 255).astype(dtype)
    grid, shape = resampled_grid(Grid(), array.shape, (2, 3, 2))
    blocks = array.reshape(2, 2, 2, 3, 4, 2).astype(float).mean((1, 3, 5))
    result = resample_volume(Volume(array, Grid()), grid, shape).array
    assert result.dtype == dtype
    assert np.abs(result - blocks).max() <= (0.5001 if np.dtype(dtype).kind == "u" else 1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("edge", [1 / 3, 0.7, 3.5, 9, 12.5, 26])
def test_floats_stay_in_their_range(dtype, edge):
    """Else white would be brighter than 1 by rounding, which networks refuse."""
    white = Volume(np.ones((30, 30, 30), dtype), Grid())
    result = resample_volume(white, *resampled_grid(white.grid, white.shape, (edge,) * 3)).array
    assert float(result.max()) <= 1 and float(result.min()) > 1 - 1e-12


def test_what_is_finer_than_the_voxels_does_not_alias():
    stripes = np.tile(np.array([0, 240], np.uint8), (4, 4, 32))
    grid, shape = resampled_grid(Grid(), stripes.shape, (1, 1, 2))
    assert (resample_volume(Volume(stripes, Grid()), grid, shape).array == 120).all()


def test_blocks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(1)
    volume = Volume(rng.random((9, 8, 7)).astype(np.float32), Grid())
    grid, shape = resampled_grid(volume.grid, volume.shape, (0.7, 1.3, 2))
    whole = resample_volume(volume, grid, shape).array
    monkeypatch.setattr("segkit.data.resample.BLOCK", 1)
    assert np.array_equal(resample_volume(volume, grid, shape).array, whole)


def test_a_mask_holds_where_all_of_a_voxel_does():
    mask = np.array([[[True, True, True, False, True, True]]])
    longer = resample_volume(Volume(mask, Grid()), Grid((1, 1, 2)), (1, 1, 3)).array
    shorter = resample_volume(Volume(mask, Grid()), Grid((1, 1, 0.5)), (1, 1, 12)).array
    assert longer.dtype == bool and longer.ravel().tolist() == [True, False, True]
    assert np.array_equal(shorter, mask.repeat(2, axis=2))


def most_frequent(labels, grid, shape):
    """Brute force: the id that fills most of each new voxel, by exact overlaps of boxes; the lower of two equal."""
    result = np.empty(shape, np.uint64)
    spans = []
    for axis in range(3):
        edges = [(i * labels.grid.voxel_size[axis], (i + 1) * labels.grid.voxel_size[axis]) for i in range(99)]
        spans.append(edges[: labels.shape[axis]])
    for voxel in np.ndindex(*shape):
        shares = {}
        low = [v * grid.voxel_size[a] for a, v in enumerate(voxel)]
        for old in np.ndindex(*labels.shape):
            part = 1.0
            for a in range(3):
                begin, end = spans[a][old[a]]
                part *= max(min(end, low[a] + grid.voxel_size[a]) - max(begin, low[a]), 0)
            if part > 1e-9:
                label = int(labels.array[old])
                shares[label] = shares.get(label, 0) + part
        best = max(shares.values())
        result[voxel] = min(label for label, share in shares.items() if share > best * (1 - 1e-9))
    return result


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    size=st.tuples(*[st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 2.5])] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
)
def test_labels_are_the_most_frequent(seed, size, shape):
    ids = np.array([0, 5, 2**53 + 1, 2**64 - 1], np.uint64)
    labels = Labels(np.random.default_rng(seed).choice(ids, shape), Grid())
    grid, new = resampled_grid(labels.grid, shape, size)
    assert np.array_equal(resample_labels(labels, grid, new).array, most_frequent(labels, grid, new))


@pytest.mark.parametrize("factor", [2, 3])
def test_labels_there_and_back(factor):
    labels = Labels(np.random.default_rng(0).integers(0, 2**63, (3, 4, 5)).astype(np.uint64), Grid((40, 4, 4)))
    grid, shape = resampled_grid(labels.grid, labels.shape, np.divide((40, 4, 4), factor))
    fine = resample_labels(labels, grid, shape)
    repeated = labels.array.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    assert np.array_equal(fine.array, repeated)
    back = resample_labels(fine, labels.grid, labels.shape)
    assert np.array_equal(back.array, labels.array) and back.grid == labels.grid


def test_threads_make_no_difference(monkeypatch):
    labels = Labels(np.random.default_rng(0).integers(0, 3, (9, 8, 7)).astype(np.uint64), Grid())
    grid, shape = resampled_grid(labels.grid, labels.shape, (0.7, 1.6, 2))
    monkeypatch.setattr("segkit.threads._limit", [1])
    one = resample_labels(labels, grid, shape).array
    monkeypatch.setattr("segkit.threads._limit", [3])
    assert np.array_equal(resample_labels(labels, grid, shape).array, one)


def test_other_units_are_refused():
    volume = Volume(np.zeros((1, 1, 1)), Grid(unit="um"))
    with pytest.raises(InvalidInput, match="units"):
        resample_volume(volume, Grid(), (1, 1, 1))


def test_affinities_of_resampled_labels_are_those_of_repeated_ones():
    """A cross-check of both: edges inside a repeated voxel are 1, unless it is background."""
    labels = Labels(np.array([[[1, 1, 0, 2, 2]]], np.uint64), Grid())
    fine = resample_labels(labels, *resampled_grid(labels.grid, labels.shape, (1, 1, 0.5)))
    assert Affinities.from_labels(fine).array[2].ravel().tolist() == [0, 1, 1, 1, 0, 0, 0, 1, 1, 1]
