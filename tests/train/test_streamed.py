"""Volumes that are read box by box: the patches, refusals and weights of volumes in memory."""

import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_helpers import TINY, Interrupted, lines, same, stop_after, weights

from segkit import Grid, Labels, Volume, io
from segkit.errors import InvalidInput, SegkitWarning, StorageError
from segkit.io import CachedSource, ChunkCache, cached
from segkit.train import TrainConfig, TrainingVolume, train
from segkit.train.card import differences, fingerprint
from segkit.train.data import PatchDataset
from segkit.train.feed import patch_loader
from segkit.train.patch import Patch
from segkit.train.run import patches_of, prepare

NEAREST = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
PATCH = Patch((2, 8, 8), (4, 10, 10), 3)
GRID = Grid((4, 4, 4))
SMALL = 60_000
"""Bytes of a cache that holds a few blocks of the volumes."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cached, "SMALLEST", 600)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two volumes in small chunks: raw data, labels of a part, and a mask."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segkit.io.zarr.CHUNK", 12)
        _write(folder, rng)
    return folder


def _write(folder, rng):
    for number in range(2):
        labels = np.zeros((20, 40, 44), np.uint64)
        labels[:, 2:20, 2:20], labels[4:, 22:38, 2:16], labels[2:18, 4:34, 23:41] = 1, 2, 3
        labels[9, :, 30:] = 2**64 - 1
        raw = np.where(labels > 0, 180, 20) + rng.integers(0, 60, labels.shape)
        mask = rng.random(labels.shape) < 0.95
        grid = GRID if number else Grid((4, 4, 4), (8, 0, 0))
        part = slice(2, 18), slice(0, 40), slice(1, 44)
        io.write(folder / f"raw{number}.h5", Volume(raw.astype(np.uint8), grid))
        io.write(f"{folder}/truth{number}.zarr:volumes/labels/neuron_ids", Labels(labels[part], grid.crop((2, 0, 1))))
        io.write(f"{folder}/truth{number}.zarr:volumes/labels/mask", Volume(mask[part], grid.crop((2, 0, 1))))


def volumes(files, cache=None, crop="", mask=True):
    """The two volumes, in memory or, with a cache, read box by box."""
    found = []
    for number in range(2):
        parts = {}
        truth = f"{files}/truth{number}.zarr:volumes/labels"
        places = {
            "raw": f"{files}/raw{number}.h5",
            "labels": f"{truth}/neuron_ids{crop}",
            "mask": f"{truth}/mask{crop}",
        }
        for name, role in (("raw", "raw"), ("labels", "truth"), ("mask", "mask"))[: 3 if mask else 2]:
            where = places[name]
            parts[name] = CachedSource(where, role, cache) if cache else io.RegionSource(where, role).whole()
        found.append(TrainingVolume(**parts, name=f"{number}"))
    return found


def assert_same_patches(one, other, count=12):
    for k in range(count):
        first, second = one.batch([k]), other.batch([k])
        assert all(torch.equal(values, second[name]) for name, values in first.items())


SETTINGS = {
    "as they are": {},
    "few places": {"min_labelled": 0.97},
    "no places needed": {"min_labelled": 0},
    "weights": {"weights": [1, 5], "min_labelled": 0.3},
    "intensities": {"intensity_range": [10, 200]},
    "everything": {"grow_boundary": 1, "components": True, "augmentation": {"elastic": {"magnitude": [1, 3, 3]}}},
}


@pytest.mark.parametrize("size", [SMALL, 10**8], ids=["small cache", "large cache"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_patches_are_those_of_volumes_in_memory(files, settings, size):
    config = TrainConfig(**{**TINY, **settings, "health": {"every": 0}})
    assert_same_patches(*(prepare(config, volumes(files, cache)).patches for cache in (None, ChunkCache(size))))


def test_crops_are_read_alike(files):
    config = TrainConfig(min_labelled=0.5)
    pair = (volumes(files, cache, "[3:14,5:30]") for cache in (None, ChunkCache(SMALL)))
    assert_same_patches(*(PatchDataset(config, each, PATCH, NEAREST) for each in pair))


@pytest.mark.parametrize("voxel_size", [(4, 6, 6), (3, 4, 6)])
def test_resampled_volumes_are_read_alike(files, voxel_size):
    config = TrainConfig(**{**TINY, "patch": [2, 4, 4], "voxel_size": voxel_size, "health": {"every": 0}})
    assert_same_patches(*(patches_of(config, volumes(files, cache)) for cache in (None, ChunkCache(SMALL))))


def test_a_run_has_the_same_weights_resumed_or_not(files, tmp_path):
    config = TrainConfig(**{**TINY, "batch_size": 2, "health": {"every": 3}})
    whole = train(config, volumes(files), tmp_path / "whole", validation=volumes(files))
    streamed = volumes(files, ChunkCache(SMALL))
    boxes = train(config, streamed, tmp_path / "boxes", validation=streamed)
    assert same(weights(whole), weights(boxes)) and whole.validation_loss == boxes.validation_loss
    with pytest.raises(Interrupted):
        train(config, streamed, tmp_path / "halted", validation=streamed, on_step=stop_after(4))
    resumed = train(config, streamed, tmp_path / "halted", validation=streamed, resume=True)
    assert same(weights(whole), weights(resumed))
    assert [line["loss"] for line in lines(tmp_path / "halted")] == [line["loss"] for line in lines(tmp_path / "whole")]


def test_batches_are_read_by_threads_in_the_order_of_their_numbers(files):
    config = TrainConfig(batch_size=2, workers=3)
    dataset = PatchDataset(config, volumes(files, ChunkCache(SMALL)), PATCH, NEAREST)
    before, state = threading.active_count(), torch.get_rng_state()
    batches = patch_loader(dataset, config, first=4)
    for first in range(4, 20, 2):
        expected = [dataset[k] for k in (first, first + 1)]
        for cut, other in zip(next(batches).cuts, expected, strict=True):
            assert torch.equal(cut.raw, other.raw) and torch.equal(cut.labels, other.labels)
    batches.close()
    assert torch.equal(state, torch.get_rng_state())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segkit-patches")]
    assert threading.active_count() <= before + cached.READERS


def test_what_cannot_be_read_ends_a_run_with_a_sentence(files, tmp_path, monkeypatch):
    streamed, read, calls = volumes(files, ChunkCache(SMALL)), io.RegionSource.read, []

    def failing(self, box):
        calls.append(box)
        if len(calls) > 60:
            raise StorageError("raw0.h5 cannot be read; copy it again")
        return read(self, box)

    monkeypatch.setattr(io.RegionSource, "read", failing)
    with pytest.raises(StorageError, match="copy it again"):
        train(TrainConfig(**{**TINY, "steps": 500}), streamed, tmp_path / "run")


def test_floats_that_are_no_intensities_are_refused_when_they_are_read(tmp_path):
    array = np.zeros((12, 20, 20), np.float32)
    array[6:] = 3
    io.write(tmp_path / "raw.h5", Volume(array, GRID))
    raw = CachedSource(tmp_path / "raw.h5", "raw", ChunkCache(10**6))
    volume = TrainingVolume(raw, Labels(np.ones(array.shape, np.uint64), GRID))
    dataset = PatchDataset(TrainConfig(), [volume], PATCH, NEAREST)
    with pytest.raises(InvalidInput, match=r"intensities must lie in 0\.\.1"):
        dataset.batch(range(10))


def test_a_volume_without_a_valid_place_is_named_alike(files):
    config = TrainConfig(min_labelled=0.5)
    said = []
    for cache in (None, ChunkCache(SMALL)):
        first, second = volumes(files, cache, mask=False)
        empty = np.zeros(first.labels.shape, np.uint64)
        empty[3, 4:8, 4:8] = 1
        first = replace(first, labels=Labels(empty, first.labels.grid))
        dataset = PatchDataset(config, [first, second], PATCH, NEAREST)
        said.append(dataset.sampler.never_drawn)
        with pytest.raises(InvalidInput, match="to be drawn from"):
            PatchDataset(config, [first], PATCH, NEAREST)
    assert len(said[0]) == 1 and said[0] == said[1]


def test_no_more_is_read_than_what_is_trained_on(tmp_path, monkeypatch):
    """Of labels everywhere: a few blocks for each patch, however large the volume."""
    shape, patch = (256, 256, 256), Patch((8, 8, 8), (8, 8, 8), 3)
    io.write(tmp_path / "raw.zarr", Volume(np.ones(shape, np.uint8), GRID))
    io.write(f"{tmp_path}/labels.zarr:volumes/labels/neuron_ids", Labels(np.ones(shape, np.uint64), GRID))
    cache, reads, read = ChunkCache(10**9), [], io.RegionSource.read
    parts = [
        CachedSource(tmp_path / f"{name}.zarr", role, cache) for name, role in (("raw", "raw"), ("labels", "truth"))
    ]
    monkeypatch.setattr(io.RegionSource, "read", lambda self, box: reads.append(box) or read(self, box))
    dataset = PatchDataset(TrainConfig(augmentation={"flips": [0, 0, 0]}), [TrainingVolume(*parts)], patch, NEAREST)
    _ = dataset[0]
    assert 0 < len(reads) <= 40 and max(box[0].stop - box[0].start for box in reads) <= 64


def test_a_card_tells_no_difference_between_both_ways(files):
    whole, boxes = ([fingerprint(each) for each in volumes(files, cache)] for cache in (None, ChunkCache(SMALL)))
    cards = [{"data": {"training": found, "validation": []}} for found in (whole, boxes)]
    assert differences(*cards) == [] and "sha256" in whole[0]["raw"] and "sha256" not in boxes[0]["raw"]
    changed = volumes(files)
    raw = changed[0].raw.array.copy()
    raw[0, 0, 0] ^= 1  # among the voxels that both look at
    other = [fingerprint(replace(changed[0], raw=Volume(raw, changed[0].raw.grid))), whole[1]]
    cards[0] = {"data": {"training": other, "validation": []}}
    assert differences(*cards) == ["data: raw of training volume 0 are others"]


def test_volumes_travel_to_other_processes(files):
    config, streamed = TrainConfig(), volumes(files, ChunkCache(SMALL))
    there = pickle.loads(pickle.dumps(streamed))
    assert_same_patches(*(PatchDataset(config, each, PATCH, NEAREST) for each in (streamed, there)), count=3)


def test_dark_volumes_are_named_alike(files):
    with pytest.warns(SegkitWarning, match="is black and 4000 white") as said:
        for cache in (None, ChunkCache(SMALL)):
            prepare(
                TrainConfig(**{**TINY, "intensity_range": [0, 4000], "health": {"every": 0}}), volumes(files, cache)
            )
    texts = [str(each.message) for each in said]
    assert texts[: len(texts) // 2] == texts[len(texts) // 2 :]
