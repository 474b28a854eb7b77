import numpy as np
import pytest
import torch

from segkit import Affinities, Grid, Labels, Volume
from segkit.errors import InvalidInput
from segkit.train import TrainConfig, TrainingVolume
from segkit.train.augment.finish import collate, finish
from segkit.train.augment.plan import Plan
from segkit.train.data import PatchDataset, cut
from segkit.train.feed import patch_loader
from segkit.train.patch import Patch

OFFSETS = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
SAME_INTENSITY = {"scale": 0, "shift": 0}
STILL = {"flips": [0, 0, 0], "transposes": False, "intensity": SAME_INTENSITY}
EVERYTHING = {
    "affine": {"probability": 0.5},
    "elastic": {"probability": 0.5, "spacing": [4, 4, 4], "magnitude": [1, 1, 1]},
    "noise": {"probability": 0.5},
    "blur": {"probability": 0.5, "sigma": [1, 1, 1]},
    "sections": dict.fromkeys(("missing", "dark", "contrast", "blur", "slip", "shift"), 0.2) | {"displacement": [2, 2]},
}


def exact(**augmentation):
    """Settings that leave grey values and labels as they are, but for what is named."""
    return {"augmentation": {**STILL, **augmentation}, "min_labelled": 0}


def get(dataset, k):
    """Patch k as the network gets it, as arrays without the axis of the batch."""
    return {name: values[0].numpy() for name, values in dataset.batch([k]).items()}


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
    dataset = PatchDataset(
        TrainConfig(**exact(flips=[0.5] * 3, transposes=transposes)), [padded_volume()], patch, OFFSETS
    )
    centre = tuple(slice(b, b + n) for b, n in zip(patch.before, patch.output, strict=True))
    for k in range(60):
        item = get(dataset, k)
        assert item["raw"].shape == (1, *patch.input)
        ids = grey(item["raw"][0][centre])
        pairs = set(zip(ids.ravel().tolist(), item["labels"].ravel().tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        expected = Affinities.from_labels(Labels.convert(ids, Grid()), OFFSETS).array
        assert np.array_equal(item["target"], expected)
        assert item["mask"].all()


def test_a_network_that_sees_further_to_one_side_is_not_mirrored_there():
    patch = Patch((2, 3, 3), (3, 5, 6), 3)
    dataset = PatchDataset(TrainConfig(**exact(flips=[1, 1, 1])), [padded_volume()], patch, OFFSETS)
    cut_at = tuple(slice(b, b + n) for b, n in zip(patch.before, patch.output, strict=True))
    assert {dataset[k].plan.symmetry for k in range(20)} == {((0, 1, 2), (1,))}
    for k in range(20):
        item = get(dataset, k)
        found = Affinities.from_labels(Labels.convert(grey(item["raw"][0][cut_at]), Grid()), OFFSETS)
        assert np.array_equal(item["target"], found.array)


def test_sections_around_the_one_that_is_labelled():
    raw = np.broadcast_to((np.arange(7, dtype=np.uint8) * 20)[:, None, None], (7, 9, 9))
    labels = np.broadcast_to(np.arange(1, 8)[:, None, None], (7, 9, 9))
    volume = TrainingVolume(Volume(raw, Grid((9, 1, 1))), Labels.convert(labels, Grid((9, 1, 1))))
    patch = Patch((1, 4, 4), (3, 6, 6), 2)
    for flips in ([0, 0, 0], [0.5, 0, 0]):
        seen = set()
        dataset = PatchDataset(TrainConfig(**exact(flips=flips, transposes=True)), [volume], patch, OFFSETS[1:])
        for k in range(40):
            item = get(dataset, k)
            sections = grey(item["raw"])
            assert sections.shape == (3, 6, 6) and item["labels"].shape == (1, 4, 4)
            assert item["target"].shape == (2, 1, 4, 4)
            seen.add(tuple(sections[:, 0, 0]))
        forward = {(z - 1, z, z + 1) for z in range(1, 6)}
        assert seen == forward | ({s[::-1] for s in forward} if flips[0] else set())


def test_voxels_outside_the_annotation_reach_neither_mask_nor_edges():
    rng = np.random.default_rng(5)
    given = rng.random((6, 9, 9)) < 0.8
    volume = padded_volume(mask=given)
    array = volume.labels.array.copy()
    outside = rng.random(array.shape) < 0.1
    array[outside] = 2**64 - 1
    volume = TrainingVolume(volume.raw, Labels(array, volume.labels.grid), volume.mask)
    patch = Patch((6, 9, 9), (6, 9, 9), 3)
    item = get(PatchDataset(TrainConfig(**exact()), [volume], patch, OFFSETS), 0)
    inside = given & ~outside
    assert np.array_equal(item["mask"], inside)
    assert not item["labels"][~inside].any() and item["labels"][inside].all()
    assert np.array_equal(item["edges"][2][..., 1:], inside[..., 1:] & inside[..., :-1])
    assert not item["edges"][2][..., 0].any()


@pytest.mark.parametrize(("components", "last"), [(False, 1), (True, 3)])
def test_a_neuron_in_two_pieces_keeps_one_id_unless_asked(components, last):
    labels = np.zeros((1, 3, 3), int)
    labels[0, 0], labels[0, 2], labels[0, 1, 1] = 5, 5, 8
    volume = TrainingVolume(Volume(np.zeros((1, 3, 3), np.uint8), Grid()), Labels.convert(labels, Grid()))
    config = TrainConfig(components=components, **exact())
    item = get(PatchDataset(config, [volume], Patch((1, 3, 3), (1, 3, 3), 3), OFFSETS), 0)
    assert item["labels"][0].tolist() == [[1, 1, 1], [0, 2, 0], [last] * 3]


@pytest.mark.parametrize(
    ("voxel", "ndim", "z_too"), [((1, 1, 1), 3, True), ((9, 1, 1), 3, False), ((1, 1, 1), 2, False)]
)
def test_rims_are_taken_off_with_a_look_beyond_the_patch(voxel, ndim, z_too):
    labels = np.ones((4, 4, 8), int)
    labels[..., 4:] = 2
    labels[2:] += 2
    volume = TrainingVolume(Volume(np.zeros(labels.shape, np.uint8), Grid(voxel)), Labels.convert(labels, Grid(voxel)))
    patch = Patch((1, 4, 4), (1, 4, 4), ndim)
    config = TrainConfig(grow_boundary=1, **exact())
    dataset = PatchDataset(config, [volume], patch, OFFSETS)
    for k in range(40):
        volume, (z, _, x) = dataset._place(np.random.default_rng(k))
        item = finish(collate([cut(volume, np.array([z, 0, x]), Plan(patch, dataset._rim(volume)))]), OFFSETS)
        kept = np.array([column not in (3, 4) for column in range(x, x + 4)])
        expected = kept & (not (z_too and z in (1, 2)))
        assert np.array_equal(item["labels"][0, 0] > 0, np.broadcast_to(expected, (4, 4)))


def test_patches_with_few_labels_are_passed_over():
    labels = np.zeros((1, 4, 40), int)
    labels[..., 36:] = 1
    volume = TrainingVolume(Volume(np.zeros(labels.shape, np.uint8), Grid()), Labels.convert(labels, Grid()))
    patch = Patch((1, 4, 4), (1, 4, 4), 3)
    shares = lambda least: [  # noqa: E731
        (get(PatchDataset(TrainConfig(min_labelled=least), [volume], patch, OFFSETS), k)["labels"] > 0).mean()
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
    raw = get(first, 7)["raw"]
    assert np.array_equal(raw, get(second, 7)["raw"])
    assert not np.array_equal(raw, get(other, 7)["raw"])
    still = get(fixed, 7)["raw"]
    assert not np.array_equal(raw, still)
    assert np.allclose(grey(still) * 20, (still + 1) / 2 * 255, atol=1e-3)  # not augmented


@pytest.mark.parametrize("augmentation", [{}, EVERYTHING], ids=["defaults", "everything"])
@pytest.mark.parametrize("patch", [Patch((4, 4, 4), (6, 6, 6), 3), Patch((1, 4, 4), (3, 6, 6), 2)], ids=["3d", "2d"])
def test_batches_and_workers_change_nothing_and_a_loader_begins_where_it_is_told(patch, augmentation):
    config = TrainConfig(batch_size=2, grow_boundary=1, augmentation=augmentation)
    dataset = PatchDataset(config, [padded_volume()], patch, OFFSETS[3 - patch.ndim :])
    single = {k: dataset.batch([k]) for k in range(5, 11)}
    state = torch.get_rng_state()
    for workers in (0, 2):
        config = TrainConfig(**{**config.model_dump(), "workers": workers})
        batches = iter(patch_loader(dataset, config, first=5))
        for first in (5, 7, 9):
            both = finish(next(batches), dataset.neighborhood)
            for name, values in both.items():
                assert torch.equal(values, torch.cat([single[first][name], single[first + 1][name]])), name
    assert torch.equal(state, torch.get_rng_state())


def test_raw_data_travel_in_the_dtype_of_the_file_and_no_further_than_needed():
    read = PatchDataset(TrainConfig(), [padded_volume()], Patch((4, 4, 4), (6, 6, 6), 3), OFFSETS)[0]
    assert read.raw.dtype == torch.uint8 and read.raw.shape == (6, 6, 6)
    assert read.labels.dtype == torch.int32 and read.labels.shape == (4, 4, 4)


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
    item.raw[:], item.labels[:], item.mask[:] = 9, 9, False
    assert np.array_equal(before[0], volume.raw.array) and np.array_equal(before[1], volume.labels.array)
