"""One resampling of raw and labels: against SciPy and NumPy, and labels that stay where the raw data say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from segkit import Grid, Labels, Volume
from segkit.train import TrainConfig, TrainingVolume
from segkit.train.augment.finish import collate, finish
from segkit.train.augment.plan import Plan
from segkit.train.augment.resample import place, sample_labels, sample_raw
from segkit.train.augment.warp import Warp
from segkit.train.data import PatchDataset, cut
from segkit.train.patch import Patch

OFFSETS = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
GEOMETRY = {
    "affine": {"probability": 0.8, "rotation": [45, 20, 20], "scale": [0.1, 0.1, 0.1], "shear": 0.1},
    "elastic": {"probability": 0.8, "spacing": [8, 8, 8], "magnitude": [1, 2, 2]},
    "sections": {"slip": 0.1, "shift": 0.1, "displacement": [4, 4]},
    "intensity": {"scale": 0, "shift": 0},
}


@given(st.integers(0, 2**32 - 1))
def test_samples_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=rng.integers(2, 7, 3)).astype(np.float32)
    low = rng.integers(-5, 5, 3)
    where = rng.uniform(-1.5, 8, (3, 4, 3, 5)).astype(np.float32)
    inner = where - low[:, None, None, None]
    sampled = sample_raw(torch.from_numpy(raw), low, torch.from_numpy(where), keeps_sections=False)
    assert np.allclose(sampled, map_coordinates(raw, inner, order=1, mode="mirror"), atol=1e-4)


def test_sections_one_by_one_give_what_the_volume_gives():
    rng = np.random.default_rng(0)
    raw = torch.from_numpy(rng.normal(size=(3, 6, 7)).astype(np.float32))
    where = torch.from_numpy(rng.uniform(-1, 7, (3, 3, 5, 4)).astype(np.float32))
    where[0] = torch.arange(4.0, 7.0)[:, None, None]
    whole, sections = (sample_raw(raw, (4, 0, 0), where, keeps_sections=each) for each in (False, True))
    assert torch.allclose(whole, sections, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.int32, np.int64]))
def test_labels_are_exact_and_unknown_beyond_the_rim(seed, dtype):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2**24, np.iinfo(dtype).max, rng.integers(1, 6, 3), dtype=dtype)
    mask = rng.random(labels.shape) < 0.7
    low, where = rng.integers(-3, 3, 3), rng.uniform(-4, 9, (3, 3, 4, 5)).astype(np.float32)
    tensors = (torch.from_numpy(each) for each in (labels, mask))
    sampled, known = sample_labels(*tensors, low, torch.from_numpy(where))
    index = np.rint(where).astype(int) - low[:, None, None, None]
    for v in np.ndindex(where.shape[1:]):
        i = tuple(index[:, *v])
        inside = all(0 <= a < n for a, n in zip(i, labels.shape, strict=True))
        assert known[v] == (inside and mask[i])
        assert sampled[v] == (labels[i] if known[v] else 0)


def test_what_is_placed_lies_where_it_was_read():
    array = torch.arange(1, 28).reshape(3, 3, 3)
    placed = place(array, (-1, 1, 0), ((-2, 1, 1), (4, 2, 3)))
    expected = torch.zeros(4, 2, 3, dtype=torch.int64)
    expected[1:, :, :2] = array[:, :2, 1:]
    assert torch.equal(placed, expected)


def blocks(shape=(40, 44, 44), edge=8, voxel=(5, 5, 5), shell=False):
    """A volume of boxes, whose grey value tells which one it is; with `shell`, their outermost voxels are 0."""
    coarse = np.random.default_rng(3).permutation(np.arange(1, 241))[: np.prod([-(-n // edge) for n in shape])]
    coarse = coarse.reshape([-(-n // edge) for n in shape])
    box = np.zeros((edge,) * 3, int) if shell else np.ones((edge,) * 3, int)
    box[1:-1, 1:-1, 1:-1] = 1
    window, grid = tuple(map(slice, shape)), Grid(voxel)
    raw = np.kron(coarse, np.ones_like(box))[window].astype(np.uint8)
    return TrainingVolume(Volume(raw, grid), Labels.convert(np.kron(coarse, box)[window], grid))


@pytest.mark.parametrize("voxel", [(5, 5, 5), (40, 5, 5)], ids=["isotropic", "anisotropic"])
@pytest.mark.parametrize("patch", [Patch((16, 16, 16), (18, 18, 18), 3), Patch((1, 16, 16), (3, 18, 18), 2)], ids=str)
def test_labels_follow_the_raw_data(patch, voxel):
    """Where the nearest voxel is none of the outermost of its box, all that is interpolated has the same value."""
    config = TrainConfig(augmentation=GEOMETRY, min_labelled=0)
    dataset = PatchDataset(config, [blocks(voxel=voxel, shell=True)], patch, OFFSETS[3 - patch.ndim :])
    window = tuple(slice(b, b + n) for b, n in zip(patch.before, patch.output, strict=True))
    compared = unknown = 0
    for k in range(25):
        item = {name: values[0].numpy() for name, values in dataset.batch([k]).items()}
        raw = item["raw"] if patch.ndim == 2 else item["raw"][0]
        seen, labels = (raw[window] + 1) / 2 * 255, item["labels"]
        codes = [np.rint(seen[labels == i]) for i in np.unique(labels[labels > 0])]
        assert all(len(np.unique(each)) == 1 for each in codes)
        assert len({each[0] for each in codes}) == len(codes)
        assert np.abs(seen - np.rint(seen))[labels > 0].max(initial=0) < 0.02
        assert not labels[~item["mask"]].any()
        compared += (labels > 0).sum()
        unknown += (~item["mask"]).sum()
    assert compared > 0.2 * 25 * np.prod(patch.output)
    assert 0 < unknown < 0.3 * 25 * np.prod(patch.output)


def test_a_warp_that_moves_nothing_changes_nothing():
    patch, volume = Patch((6, 8, 8), (8, 12, 12), 3), blocks()
    box = ((-1, -2, -2), (8, 12, 12))
    zeros = np.zeros((3, 4, 5, 5), np.float32)
    still = Warp(*box, np.array([2.5, 3.5, 3.5]), np.eye(3), zeros, (8.0, 8.0, 8.0), np.zeros((8, 2), np.float32))
    for origin in ((4, 5, 6), (1, 2, 2), (33, 34, 34)):
        plain, warped = (
            finish(collate([cut(volume, np.array(origin), Plan(patch, (0, 0, 0), warp))]), OFFSETS)
            for warp in (None, still)
        )
        assert torch.allclose(plain["raw"], warped["raw"], atol=1e-4)
        assert all(torch.equal(plain[name], warped[name]) for name in ("labels", "mask", "target", "edges"))


def test_a_quarter_turn_is_the_one_of_numpy():
    patch, volume = Patch((2, 8, 8), (2, 8, 8), 3), blocks()
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)
    warp = Warp((0, 0, 0), (2, 8, 8), np.array([0.5, 3.5, 3.5]), turn, None, (8.0,) * 3, None)
    made = finish(collate([cut(volume, np.array([4, 5, 6]), Plan(patch, (0, 0, 0), warp))]), OFFSETS)
    part = volume.raw.array[4:6, 5:13, 6:14]
    assert np.allclose((made["raw"][0, 0] + 1) / 2 * 255, np.rot90(part, -1, axes=(1, 2)), atol=1e-2)
    ids = made["labels"][0].numpy()
    pairs = set(zip(ids.ravel(), np.rot90(part, -1, axes=(1, 2)).ravel(), strict=True))
    assert len(pairs) == len(np.unique(part)) == len(np.unique(ids))
