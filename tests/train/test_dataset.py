import numpy as np
import pytest
import torch

from segkit import Affinities, Grid, Labels, Volume
from segkit.errors import InvalidInput
from segkit.train import TrainConfig, TrainingVolume
from segkit.train.dataset import PatchDataset
from segkit.train.patch import Patch
from segkit.train.run import patch_loader

OFFSETS = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
EXACT = {"intensity_scale": 0, "intensity_shift": 0, "min_labelled": 0}


def padded_volume(seed=0, offset=(2, 3, 1), mask=None):
    """Raw data whose grey value is the label of the voxel; labels on an inner box of it."""
    ids = np.random.default_rng(seed).integers(1, 9, (10, 16, 15))
    inner = tuple(slice(o, o + n) for o, n in zip(offset, (6, 9, 9), strict=True))
    grid = Grid((5, 5, 5), (100, 0, 0))
    labels = Labels.convert(ids[inner] * 1000, grid.crop(offset))
    mask = None if mask is None else Volume(mask, labels.grid)
    return TrainingVolume(Volume((ids * 20).astype(np.uint8), grid), labels, mask)


def grey(raw):
    """Ids from scaled intensities."""
    return np.rint((raw + 1) / 2 * 255 / 20).astype(int)


@pytest.mark.parametrize("transposes", [False, True])
@pytest.mark.parametrize("patch", [Patch((4, 4, 4), (6, 6, 6), 3), Patch((2, 4, 3), (4, 8, 5), 3)])
def test_raw_labels_and_targets_stay_together(patch, transposes):
    dataset = PatchDataset(TrainConfig(transposes=transposes, **EXACT), [padded_volume()], patch, OFFSETS)
    centre = tuple(slice(b, b + n) for b, n in zip(patch.before, patch.output, strict=True))
    for k in range(60):
        item = dataset[k]
        assert item["raw"].shape == (1, *patch.input)
        ids = grey(item["raw"][0][centre])
        pairs = set(zip(ids.ravel().tolist(), item["labels"].ravel().tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        expected = Affinities.from_labels(Labels.convert(ids, Grid()), OFFSETS).array
        assert np.array_equal(item["target"], expected)
        assert item["mask"].all()


def test_sections_around_the_one_that_is_labelled():
    raw = np.broadcast_to((np.arange(7, dtype=np.uint8) * 20)[:, None, None], (7, 9, 9))
    labels = np.broadcast_to(np.arange(1, 8)[:, None, None], (7, 9, 9))
    volume = TrainingVolume(Volume(raw, Grid((9, 1, 1))), Labels.convert(labels, Grid((9, 1, 1))))
    patch = Patch((1, 4, 4), (3, 6, 6), 2)
    for flips in ([], ["z"]):
        seen = set()
        dataset = PatchDataset(TrainConfig(flips=flips, **EXACT), [volume], patch, OFFSETS[1:])
        for k in range(40):
            item = dataset[k]
            sections = grey(item["raw"])
            assert sections.shape == (3, 6, 6) and item["labels"].shape == (1, 4, 4)
            assert item["target"].shape == (2, 1, 4, 4)
            seen.add(tuple(sections[:, 0, 0]))
        forward = {(z - 1, z, z + 1) for z in range(1, 6)}
        assert seen == forward | ({s[::-1] for s in forward} if flips else set())


def test_voxels_outside_the_annotation_reach_neither_mask_nor_edges():
    rng = np.random.default_rng(5)
    given = rng.random((6, 9, 9)) < 0.8
    volume = padded_volume(mask=given)
    array = volume.labels.array.copy()
    outside = rng.random(array.shape) < 0.1
    array[outside] = 2**64 - 1
    volume = TrainingVolume(volume.raw, Labels(array, volume.labels.grid), volume.mask)
    patch = Patch((6, 9, 9), (6, 9, 9), 3)
    item = PatchDataset(TrainConfig(flips=[], transposes=False, **EXACT), [volume], patch, OFFSETS)[0]
    inside = given & ~outside
    assert np.array_equal(item["mask"], inside)
    assert not item["labels"][~inside].any() and item["labels"][inside].all()
    assert np.array_equal(item["edges"][2][..., 1:], inside[..., 1:] & inside[..., :-1])
    assert not item["edges"][2][..., 0].any()


def test_a_neuron_in_two_pieces_keeps_one_id():
    labels = np.zeros((1, 3, 3), int)
    labels[0, 0], labels[0, 2], labels[0, 1, 1] = 5, 5, 8
    volume = TrainingVolume(Volume(np.zeros((1, 3, 3), np.uint8), Grid()), Labels.convert(labels, Grid()))
    config = TrainConfig(flips=[], transposes=False, **EXACT)
    item = PatchDataset(config, [volume], Patch((1, 3, 3), (1, 3, 3), 3), OFFSETS)[0]
    assert item["labels"][0].tolist() == [[1, 1, 1], [0, 2, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("voxel", "ndim", "z_too"), [((1, 1, 1), 3, True), ((9, 1, 1), 3, False), ((1, 1, 1), 2, False)]
)
def test_rims_are_taken_off_with_a_look_beyond_the_patch(voxel, ndim, z_too):
    labels = np.ones((4, 4, 8), int)
    labels[..., 4:] = 2
    labels[2:] += 2
    volume = TrainingVolume(Volume(np.zeros(labels.shape, np.uint8), Grid(voxel)), Labels.convert(labels, Grid(voxel)))
    patch = Patch((1, 4, 4), (1, 4, 4), ndim)
    config = TrainConfig(flips=[], transposes=False, grow_boundary=1, **EXACT)
    dataset = PatchDataset(config, [volume], patch, OFFSETS)
    for k in range(40):
        rng_volume, (z, _, x) = dataset._place(np.random.default_rng(k))
        item, _ = dataset._annotation(rng_volume, np.array([z, 0, x]))
        kept = np.array([column not in (3, 4) for column in range(x, x + 4)])
        expected = kept & (not (z_too and z in (1, 2)))
        assert np.array_equal(item[0] > 0, np.broadcast_to(expected, (4, 4)))


def test_patches_with_few_labels_are_passed_over():
    labels = np.zeros((1, 4, 40), int)
    labels[..., 36:] = 1
    volume = TrainingVolume(Volume(np.zeros(labels.shape, np.uint8), Grid()), Labels.convert(labels, Grid()))
    patch = Patch((1, 4, 4), (1, 4, 4), 3)
    shares = lambda least: [  # noqa: E731
        (PatchDataset(TrainConfig(min_labelled=least), [volume], patch, OFFSETS)[k]["labels"] > 0).mean()
        for k in range(30)
    ]
    assert min(shares(0.75)) >= 0.75
    assert min(shares(0)) == 0
    empty = TrainingVolume(volume.raw, Labels.convert(np.zeros_like(labels), Grid()))
    with pytest.raises(InvalidInput, match="min_labelled"):
        PatchDataset(TrainConfig(), [empty], patch, OFFSETS)[0]


def test_items_are_a_function_of_seed_and_number_alone():
    patch = Patch((4, 4, 4), (6, 6, 6), 3)
    first = PatchDataset(TrainConfig(), [padded_volume()], patch, OFFSETS)
    second = PatchDataset(TrainConfig(), [padded_volume()], patch, OFFSETS)
    other = PatchDataset(TrainConfig(seed=1), [padded_volume()], patch, OFFSETS)
    fixed = PatchDataset(TrainConfig(), [padded_volume()], patch, OFFSETS, purpose="validation")
    _ = second[3]
    assert np.array_equal(first[7]["raw"], second[7]["raw"])
    assert not np.array_equal(first[7]["raw"], other[7]["raw"])
    assert not np.array_equal(first[7]["raw"], fixed[7]["raw"])
    assert np.allclose(grey(fixed[7]["raw"]) * 20, (fixed[7]["raw"] + 1) / 2 * 255, atol=1e-3)  # not augmented


def test_workers_change_nothing_and_a_loader_begins_where_it_is_told():
    patch = Patch((2, 2, 2), (2, 2, 2), 3)
    dataset = PatchDataset(TrainConfig(), [padded_volume()], patch, OFFSETS)
    state = torch.get_rng_state()
    for workers in (0, 2):
        batches = iter(patch_loader(dataset, TrainConfig(batch_size=2, workers=workers), first=5))
        for first in (5, 7, 9):
            raw = next(batches)["raw"]
            assert np.array_equal(raw, np.stack([dataset[first]["raw"], dataset[first + 1]["raw"]]))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("raw", [np.zeros((4, 4, 4), bool), np.full((4, 4, 4), 255.0), np.full((4, 4, 4), np.nan)])
def test_intensities_are_checked_at_once(raw):
    volume = TrainingVolume(Volume(raw, Grid()), Labels.convert(np.ones((4, 4, 4), int), Grid()))
    with pytest.raises(InvalidInput, match="intensities"):
        PatchDataset(TrainConfig(), [volume], Patch((2, 2, 2), (2, 2, 2), 3), OFFSETS)


def test_inputs_are_not_changed():
    volume = padded_volume()
    before = volume.raw.array.copy(), volume.labels.array.copy()
    dataset = PatchDataset(TrainConfig(grow_boundary=1), [volume], Patch((4, 4, 4), (6, 6, 6), 3), OFFSETS)
    item = dataset[0]
    item["raw"][:], item["labels"][:] = 9, 9
    assert np.array_equal(before[0], volume.raw.array) and np.array_equal(before[1], volume.labels.array)
