from itertools import product

import numpy as np
import pytest

from segkit import Grid, Labels, Volume
from segkit.errors import InvalidInput, InvalidShape
from segkit.train import TrainingVolume
from segkit.train.data import PatchSampler, generator, origins
from segkit.train.patch import Patch


def volume(raw_shape, label_shape, offset=(0, 0, 0), voxel=(4.0, 2.0, 2.0)):
    where = Grid(voxel, tuple(o * v for o, v in zip(offset, voxel, strict=True)))
    raw = Volume(np.zeros(raw_shape, np.uint8), Grid(voxel))
    return TrainingVolume(raw, Labels.convert(np.ones(label_shape, int), where))


def fits(v, patch, origin):
    inside = all(o >= 0 and o + p <= s for o, p, s in zip(origin, patch.output, v.labels.shape, strict=True))
    start = [o + p - b for o, p, b in zip(origin, v.position, patch.before, strict=True)]
    return inside and all(a >= 0 and a + n <= s for a, n, s in zip(start, patch.input, v.raw.shape, strict=True))


@pytest.mark.parametrize(
    ("raw", "labels", "offset"),
    [
        ((9, 9, 9), (9, 9, 9), (0, 0, 0)),
        ((9, 12, 12), (5, 6, 6), (2, 3, 3)),
        ((9, 9, 9), (7, 7, 7), (-2, 4, 0)),
        ((14, 14, 14), (6, 6, 6), (1, 8, 5)),
    ],
)
@pytest.mark.parametrize("patch", [Patch((2, 3, 3), (4, 6, 5), 3), Patch((1, 2, 2), (3, 4, 4), 2)])
def test_places_are_all_those_where_output_and_input_fit(raw, labels, offset, patch):
    v = volume(raw, labels, offset)
    low, high = origins(v, patch, "training volume 0")
    found = set(product(*(range(a, b) for a, b in zip(low, high, strict=True))))
    assert found == {o for o in product(range(-4, 12), repeat=3) if fits(v, patch, o)}


def test_every_place_of_every_volume_is_as_likely():
    patch = Patch((1, 2, 2), (1, 4, 4), 3)
    volumes = [volume((2, 5, 6), (2, 5, 6)), volume((1, 4, 5), (1, 4, 5))]  # 2*2*3 and 1*1*2 places
    sampler = PatchSampler(volumes, patch)
    draws = [sampler.draw(generator(3, 0, k)) for k in range(7000)]
    counts = {}
    for number, origin in draws:
        counts[(number, *map(int, origin))] = counts.get((number, *map(int, origin)), 0) + 1
    assert len(counts) == 14
    assert all(fits(volumes[n], patch, o) for n, *o in counts)
    assert max(abs(c - 500) for c in counts.values()) < 5 * 500**0.5


def test_random_numbers_depend_on_seed_stream_and_number_alone():
    first = [int(generator(*key).integers(2**62)) for key in product(range(2), repeat=3)]
    assert first == [int(generator(*key).integers(2**62)) for key in product(range(2), repeat=3)]
    assert len(set(first)) == 8


def test_a_volume_too_small_says_what_is_needed():
    with pytest.raises(InvalidShape, match=r"volume 1 must hold raw data of \(4, 6, 6\).*\(3, 9, 9\)"):
        PatchSampler([volume((9, 9, 9), (9, 9, 9)), volume((3, 9, 9), (3, 9, 9))], Patch((2, 2, 2), (4, 6, 6), 3))
    with pytest.raises(InvalidShape, match="volume 0"):
        PatchSampler([volume((9, 9, 9), (9, 9, 1))], Patch((2, 2, 2), (4, 6, 6), 3))
    with pytest.raises(InvalidInput, match="at least one"):
        PatchSampler([], Patch((2, 2, 2), (4, 6, 6), 3))


def test_grids_that_disagree_are_refused():
    labels = Labels.convert(np.ones((4, 4, 4), int), Grid((4, 2, 3)))
    raw = Volume(np.zeros((4, 4, 4), np.uint8), Grid((4, 2, 2)))
    with pytest.raises(InvalidInput, match="voxel sizes"):
        TrainingVolume(raw, labels)
    with pytest.raises(InvalidInput, match="whole voxels"):
        TrainingVolume(raw, Labels.convert(np.ones((4, 4, 4), int), Grid((4, 2, 2), (0, 1, 0))))
    with pytest.raises(InvalidShape, match="mask"):
        TrainingVolume(raw, Labels(labels.array, raw.grid), Volume(np.ones((4, 4, 3), bool), raw.grid))
    with pytest.raises(InvalidInput, match="bool"):
        TrainingVolume(raw, Labels(labels.array, raw.grid), Volume(np.ones((4, 4, 4)), raw.grid))
