"""Which places hold enough labels, and how they are drawn."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import chisquare

from segkit import Grid, Labels, Volume
from segkit.errors import InvalidInput
from segkit.train import TrainConfig, TrainingVolume
from segkit.train.data import PatchDataset, PatchSampler, generator
from segkit.train.patch import Patch
from segkit.train.places import Places, count_labelled

PATCH = Patch((4, 6, 5), (4, 6, 5), 3)
NEAREST = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]])


def volume(labels, mask=None, raw_shape=None, name=None):
    raw = Volume(np.zeros(raw_shape or labels.shape, np.uint8), Grid())
    return TrainingVolume(raw, Labels.convert(labels, Grid()), mask if mask is None else Volume(mask, Grid()), name)


def cube(size, edge, at):
    """A volume of `size` voxels an axis, in which a cube of `edge` voxels is labelled."""
    labels = np.zeros((size,) * 3, np.uint64)
    labels[tuple(slice(start, start + edge) for start in at)] = 7
    return labels


def share_of(labels, mask, origin, output):
    box = tuple(slice(o, o + n) for o, n in zip(origin, output, strict=True))
    good = (labels[box] != 0) & (labels[box] < 2**64 - 2) & mask[box]
    return good.mean()


@pytest.mark.parametrize("output", [(1, 1, 1), (3, 2, 4), (5, 7, 6)])
def test_sums_are_those_of_every_box(output):
    labelled = np.random.default_rng(1).random((5, 7, 6)) < 0.4
    places = [size - long + 1 for size, long in zip(labelled.shape, output, strict=True)]
    for least in (0.5, 2, 40):
        enough, most = count_labelled(lambda z: labelled[z], places, output, least)
        boxes = np.lib.stride_tricks.sliding_window_view(labelled, output).sum((3, 4, 5))
        assert np.array_equal(enough, boxes >= least) and most == boxes.max()


def test_only_places_with_enough_labels_are_drawn_and_all_of_them():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (7, 9, 8)).astype(np.uint64)
    labels[rng.random(labels.shape) < 0.2] = 2**64 - 1
    mask = rng.random(labels.shape) < 0.8
    sampler = PatchSampler([volume(labels, mask, raw_shape=(7, 8, 8))], PATCH, min_labelled=0.35)
    drawn = {tuple(sampler.draw(generator(0, 0, k))[1].tolist()) for k in range(3000)}
    expected = {o for o in product(range(4), range(3), range(4)) if share_of(labels, mask, o, PATCH.output) >= 0.35}
    assert 3 < len(expected) < 40
    assert drawn == expected


@pytest.mark.parametrize("share", [0.004, 0.3])
def test_places_are_those_of_looking_at_each_that_is_drawn(share):
    enough = np.random.default_rng(3).random((10, 40, 25)) < share
    places = Places([enough[:4], enough[4:]])
    for k in range(200):
        rng, other = generator(0, 0, k), generator(0, 0, k)
        looked_at = (int(other.integers(enough.size)) for _ in range(500))
        expected = next((place for place in looked_at if enough.flat[place]), None)
        found = places.draw(rng)
        assert enough.flat[found]
        if expected is not None:
            assert found == expected and rng.random() == other.random()


def test_rare_places_are_drawn_each_as_likely():
    enough = np.zeros(300_000, bool)
    rare = np.array([0, 5, 32_767, 32_768, 100_001, 250_000, 299_998, 299_999])
    enough[rare] = True
    places = Places([enough[:200_000], enough[200_000:]])
    drawn = np.array([places.draw(generator(1, 0, k)) for k in range(4000)])
    assert set(drawn) == set(rare)
    assert chisquare([(drawn == place).sum() for place in rare]).pvalue > 0.01


def test_a_small_labelled_cube_feeds_every_step():
    labels = cube(128, 16, (70, 3, 112))
    patch = Patch((16, 16, 16), (24, 24, 24), 3)
    raw = Volume(np.zeros((136, 136, 136), np.uint8), Grid((1, 1, 1), (-4, -4, -4)))
    sparse = TrainingVolume(raw, Labels.convert(labels, Grid()))
    config = TrainConfig(min_labelled=0.9, augmentation={"flips": [0, 0, 0], "transposes": False})
    patches = PatchDataset(config, [sparse], patch, NEAREST)
    shares = [(patches.batch([k])["labels"] > 0).double().mean() for k in range(60)]
    assert min(shares) >= 0.9
    assert all(np.array_equal(patches[k].labels, patches[k].labels) for k in range(5))


def test_a_volume_counts_by_its_valid_places():
    volumes = [volume(cube(20, 8, (0, 0, 0))), volume(cube(20, 16, (0, 0, 0)))]
    sampler = PatchSampler(volumes, Patch((8, 8, 8), (8, 8, 8), 3), min_labelled=1)
    numbers = [sampler.draw(generator(0, 0, k))[0] for k in range(3000)]
    assert chisquare(np.bincount(numbers), 3000 * np.array([1, 729]) / 730).pvalue > 0.01


def test_volumes_without_a_valid_place_are_named():
    patch = Patch((8, 8, 8), (8, 8, 8), 3)
    empty, full = volume(cube(20, 4, (0, 0, 0)), name="empty.h5"), volume(cube(20, 16, (0, 0, 0)), name="full.h5")
    sampler = PatchSampler([empty, full], patch, min_labelled=0.5)
    (said,) = sampler.never_drawn
    assert "training volume empty.h5" in said and "not 0.12 at most" in said
    assert {sampler.draw(generator(0, 0, k))[0] for k in range(50)} == {1}
    with pytest.raises(InvalidInput, match=r"empty\.h5 must hold patches with a share of labelled voxels of 0\.5"):
        PatchSampler([empty], patch, min_labelled=0.5)
