"""Smaller scales of a volume, against sums in Python and counts by hand, and where they lie."""

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as some

from segkit import io
from segkit.data import Grid
from segkit.errors import MissingFile
from segkit.io.pyramid import LAST, Level, levels, reduced
from segkit.io.records import Layout

GRID = Grid((40, 4, 4), (80, 12, 8))


def covered(array, level, before, index):
    """The values that one voxel of a level is made of, those inside counted once more for each that is missing."""
    ends = [
        [
            (at + start) * step - first
            for at, step, start, first in zip(
                (i + j for i in index), level.step, level.start, before.start, strict=True
            )
        ]
        for j in (0, 1)
    ]
    along = [np.clip(range(a, b), 0, size - 1) for a, b, size in zip(*ends, array.shape, strict=True)]
    return [array[each].item() for each in product(*along)]


def expected(values, labels, dtype):
    """By exact fractions: the mean, of two nearest integers the even one; or the most frequent, the lowest of equal."""
    if labels:
        return min(Counter(values).items(), key=lambda item: (-item[1], item[0]))[0]
    if dtype.kind == "f":
        return dtype.type(Fraction(sum(map(Fraction, values)), len(values)))
    return round(Fraction(sum(map(int, values)), len(values)))  # half to even


def check(array, labels, start, block, step):
    before = Level(array.shape, start=start)
    first = [a // b for a, b in zip(start, step, strict=True)]
    shape = [-(-(a + n) // b) - c for a, n, b, c in zip(start, array.shape, step, first, strict=True)]
    level = Level(tuple(shape), step, step, tuple(first))
    found = np.full(shape, 77).astype(array.dtype)
    for box, values in reduced(before, level, array.__getitem__, labels, block):
        assert values.dtype == array.dtype
        found[box] = values
    for index in np.ndindex(*shape):
        wanted = expected(covered(array, level, before, index), labels, array.dtype)
        assert found[index] == wanted, (index, found[index], wanted)


STEPS = some.tuples(*[some.sampled_from([1, 2])] * 3)


@given(some.data(), some.sampled_from(["?", "u1", "i1", "u2", "i4", "u8", "i8"]), STEPS)
def test_the_mean_of_integers_is_exact(data, name, step):
    dtype = np.dtype(name)
    shape = data.draw(some.tuples(*[some.integers(1, 5)] * 3))
    low, high = (0, 1) if name == "?" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = some.one_of(some.integers(low, high), some.integers(high - 1, high), some.integers(low, low + 1))
    array = np.array(data.draw(some.lists(values, min_size=(n := math.prod(shape)), max_size=n)), dtype).reshape(shape)
    check(array, False, data.draw(some.tuples(*[some.integers(-3, 3)] * 3)), (2, 2, 3), step)


@settings(deadline=None)  # the kernel may have to be compiled
@given(some.data(), some.sampled_from(["u1", "u4", "u8"]), STEPS)
def test_labels_are_those_that_fill_most(data, name, step):
    shape = data.draw(some.tuples(*[some.integers(1, 5)] * 3))
    ids = some.sampled_from([0, 1, 2, 200, int(np.iinfo(name).max)])
    array = np.array(data.draw(some.lists(ids, min_size=(n := math.prod(shape)), max_size=n)), name).reshape(shape)
    check(array, True, data.draw(some.tuples(*[some.integers(-3, 3)] * 3)), (2, 2, 3), step)


def test_the_mean_of_floats():
    array = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    check(array, False, (0, 1, 0), (9, 9, 9), (2, 2, 2))
    assert reduced_once(np.ones((2, 2, 2), np.float32)).tolist() == [[[1.0]]]


def reduced_once(array):
    size = tuple(-(-n // 2) for n in array.shape)
    ((_, values),) = reduced(Level(array.shape), Level(size, (2,) * 3, (2,) * 3), array.__getitem__, False, size)
    return values


def test_by_hand():
    assert reduced_once(np.array([[[10, 20, 51, 60, 7]]], np.uint8)).tolist() == [[[15, 56, 7]]]  # 55.5, to the even


@given(some.tuples(*[some.integers(1, 5000)] * 3), some.tuples(*[some.sampled_from([1.0, 4, 8.5, 40, 300])] * 3))
def test_levels_end_where_all_is_small_and_voxels_become_alike(shape, voxel_size):
    found = levels(shape, voxel_size)
    assert max(found[-1].shape) <= LAST
    for before, level in pairwise(found):
        assert max(before.shape) > LAST and 1 in (2 // step for step in level.step)
        assert level.shape == tuple(-(-n // step) for n, step in zip(before.shape, level.step, strict=True))
        assert level.factor == tuple(a * b for a, b in zip(before.factor, level.step, strict=True))
        sides = [a * b for a, b in zip(voxel_size, before.factor, strict=True)]
        alone = [side for side, n in zip(sides, before.shape, strict=True) if n > 1]
        if max(alone) < 2**0.5 * min(alone):
            assert level.step == tuple(2 if n > 1 else 1 for n in before.shape)
        assert (
            level.step[sides.index(max(sides))] == 1
            or max(alone) < 2**0.5 * min(alone)
            or before.shape[sides.index(max(sides))] == 1
        )


def written(path, array, kind="volume", dataset="volumes/raw", role="raw"):
    """A volume with smaller scales, in blocks."""
    parts = [
        ((slice(0, array.shape[0]), slice(0, array.shape[1]), slice(a, a + 64)), array[:, :, a : a + 64])
        for a in range(0, array.shape[2], 64)
    ]
    place = {"resolution": list(GRID.voxel_size), "offset": list(GRID.offset), "unit": "nm"}
    attributes = {"kind": kind, "format_version": 1} | place
    blocks = io.Blocks(array.shape, array.dtype, iter(parts))
    io.write_blocks(f"{path}:{dataset}" if dataset else path, role, blocks, attributes, Layout(pyramid=True))


@pytest.mark.parametrize("dtype", ["u1", "u8"])
def test_the_scales_of_a_zarr_store(tmp_path, dtype):
    path, array = tmp_path / "a.zarr", np.random.default_rng(0).integers(0, 3, (3, 140, 300)).astype(dtype)
    labels = dtype == "u8"
    written(path, array, "labels" if labels else "volume", role="segmentation" if labels else "raw")
    group = zarr.open_group(str(path), mode="r")
    found = levels(array.shape, GRID.voxel_size)
    assert [each.factor for each in found] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    for number, level in enumerate(found[1:], 1):
        before = found[number - 1]
        source, made = group[f"volumes/raw/{number - 1}"][...], group[f"volumes/raw/{number}"][...]
        assert made.shape == level.shape and made.dtype == dtype
        for index in np.random.default_rng(1).integers(0, level.shape, (200, 3)).tolist():
            assert made[tuple(index)] == expected(covered(source, level, before, index), labels, array.dtype)
    (image,) = group.attrs["ome"]["multiscales"]
    assert [scale["path"] for scale in image["datasets"]] == [f"volumes/raw/{number}" for number in range(3)]
    assert image["type"] == ("mode" if labels else "mean")
    moved = [each["coordinateTransformations"][1]["translation"] for each in image["datasets"]]
    assert moved == [[80, 12, 8], [80, 14, 10], [80, 18, 14]]  # centres, and so the corner is where it was
    reader = io.read_labels if labels else io.read_volume
    assert reader(f"{path}:volumes/raw").grid == GRID
    for number, level in enumerate(found):
        one = reader(f"{path}:volumes/raw/{number}")
        assert one.grid.offset == GRID.offset
        assert one.grid.voxel_size == tuple(a * b for a, b in zip(GRID.voxel_size, level.factor, strict=True))
    assert io.datasets(path) == ["volumes/raw"]


def test_a_lost_chunk_of_a_smaller_scale_is_refused(tmp_path):
    written(tmp_path / "a.zarr", np.zeros((3, 140, 300), np.uint8))
    (tmp_path / "a.zarr/volumes/raw/1/c/0/0/1").unlink()
    with pytest.raises(MissingFile, match="was lost"):
        io.read_volume(f"{tmp_path / 'a.zarr'}:volumes/raw/1")
    io.read_volume(tmp_path / "a.zarr")


def test_what_is_replaced_by_fewer_scales_is_shown_with_those(tmp_path):
    path = tmp_path / "a.zarr"
    written(path, np.zeros((3, 140, 300), np.uint8))
    written(path, np.zeros((3, 4, 30), np.uint8))
    (image,) = zarr.open_group(str(path), mode="r").attrs["ome"]["multiscales"]
    assert [scale["path"] for scale in image["datasets"]] == ["volumes/raw/0"]
