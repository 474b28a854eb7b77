import numpy as np
import pytest

from segkit import Affinities, Grid, Labels, Volume
from segkit.data.resample import ResampledLabels, ResampledSource, resample_labels, resample_volume, resampled_grid
from segkit.data.restore import restore_affinities
from segkit.infer import Restoring

NATIVE = Grid((40, 4, 4), (80, 0, -8))
NEIGHBORHOOD = [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 3], [-2, 0, 0], [0, -2, 2]]


class Source:
    """What the affinities were predicted on."""

    def __init__(self, grid, shape):
        self.grid, self.shape = grid, shape


def slabs(array, axis, thickness):
    for start in range(0, array.shape[1 + axis], thickness):
        part = [slice(0, size) for size in array.shape]
        part[1 + axis] = slice(start, min(start + thickness, array.shape[1 + axis]))
        yield tuple(part), array[tuple(part)]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thickness", [1, 3, 7, 100])
@pytest.mark.parametrize("size", [(16, 8, 8), (80, 2, 3), (40, 4, 4)])
def test_slabs_give_what_the_whole_gives(axis, thickness, size):
    shape = (6, 11, 10)
    grid, there = resampled_grid(NATIVE, shape, size)
    values = np.random.default_rng(0).random((len(NEIGHBORHOOD), *there), np.float32)
    whole = restore_affinities(Affinities.convert(values, NEIGHBORHOOD, grid), NATIVE, shape)
    restoring = Restoring(Source(grid, there), Source(NATIVE, shape), np.array(NEIGHBORHOOD))
    assert restoring.neighborhood.tolist() == whole.neighborhood.tolist() and restoring.shape == shape
    result = np.full_like(whole.array, np.nan)
    cleaned = Affinities.convert(values, NEIGHBORHOOD, grid).array
    parts = list(restoring.restored(slabs(cleaned, axis, thickness)))
    for where, part in parts:
        assert np.isnan(result[where]).all()
        result[where] = part
    assert np.array_equal(result, whole.array)
    if thickness == 1 and axis == 0 and size[0] == 16:
        assert len(parts) > 2


def test_parts_pass_where_nothing_was_resampled():
    volume = Source(NATIVE, (2, 2, 2))
    restoring = Restoring(volume, volume, np.array(NEIGHBORHOOD))
    parts = [((slice(None),), np.ones(3))]
    assert list(restoring.restored(iter(parts))) == parts and restoring.neighborhood.tolist() == NEIGHBORHOOD


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(16, 8, 8), (33, 5.1, 2.9)])
def test_boxes_of_a_source_are_parts_of_the_whole(dtype, size):
    array = (np.random.default_rng(0).random((7, 12, 13)) * 255).astype(dtype)
    volume = Volume(array, NATIVE)
    whole = resample_volume(volume, *resampled_grid(NATIVE, volume.shape, size))
    reads = []

    def read(box):
        reads.append(np.prod([part.stop - part.start for part in box]))
        return array[box]

    source = Source(NATIVE, volume.shape)
    source.read = read
    found = ResampledSource(source, size)
    assert found.shape == whole.shape and found.grid == whole.grid
    rng = np.random.default_rng(1)
    for _ in range(30):
        low = [int(rng.integers(0, n)) for n in whole.shape]
        box = tuple(slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(low, whole.shape, strict=True))
        assert np.array_equal(found.read(box), whole.array[box]) and found.read(box).dtype == dtype
    assert min(reads) < array.size / 10


def test_boxes_of_labels_and_masks_are_parts_of_the_whole():
    rng = np.random.default_rng(0)
    anchor, size = NATIVE.crop((1, 2, 3)), (33, 5.1, 2.9)
    labels = Labels(rng.integers(0, 4, (7, 12, 13)).astype(np.uint64), NATIVE)
    mask = Volume(rng.random(labels.shape) < 0.7, NATIVE)
    place = resampled_grid(NATIVE, labels.shape, size, anchor)
    pairs = [
        (ResampledLabels(labels, size, anchor), resample_labels(labels, *place)),
        (ResampledSource(mask, size, anchor, bool), resample_volume(mask, *place)),
    ]
    for source, whole in pairs:
        assert (source.grid, source.shape, source.dtype) == (*place, whole.array.dtype)
        for _ in range(30):
            low = [int(rng.integers(0, n)) for n in whole.shape]
            box = tuple(slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(low, whole.shape, strict=True))
            assert np.array_equal(source.read(box), whole.array[box])


def test_the_way_there_and_back_of_labels_and_affinities_agree():
    """Cutting a volume in two objects: the affinities that come back split it where the labels that come back do."""
    array = np.ones((5, 12, 12), np.uint64)
    array[:, :, 7:] = 2
    labels = Labels(array, NATIVE)
    grid, shape = resampled_grid(NATIVE, labels.shape, (16, 8, 8))
    there = resample_labels(labels, grid, shape)
    back = restore_affinities(Affinities.from_labels(there), NATIVE, labels.shape)
    expected = Affinities.from_labels(resample_labels(there, NATIVE, labels.shape))
    assert np.array_equal(back.array, expected.array)
