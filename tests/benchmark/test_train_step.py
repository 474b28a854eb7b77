"""What the benchmark of training measures: parts in order, of steps that really train."""

import time

import numpy as np
import pytest
import torch

from segkit import Grid, Labels, Volume
from segkit.benchmark import train_step
from segkit.benchmark.train_step import Parts, TrainingCosts, measure_training
from segkit.losses.elementwise import BCE
from segkit.train import TrainConfig, TrainingVolume, train
from segkit.train.data import PatchDataset

SETTINGS = {
    "model": "unet3d",
    "model_parameters": {"features": 2, "growth": 2, "pooling": [[1, 2, 2]], "padding": "same"},
    "loss": "bce",
    "patch": [8, 8, 8],
    "device": "cpu",
    "gradient_clip": 1.0,
}


def _volume():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(1, 4, (20, 20, 5), np.uint64), 4, axis=2)
    grid = Grid((8, 8, 8))
    return TrainingVolume(Volume(rng.integers(0, 256, labels.shape, np.uint8), grid), Labels(labels, grid))


@pytest.mark.parametrize("more", [{}, {"precision": "bf16", "health": {"every": 0}, "accumulate": 3, "devices": 2}])
def test_every_part_is_timed_as_often_as_asked(more, monkeypatch):
    loops = []
    monkeypatch.setattr(train_step, "train", lambda config, *a, **b: loops.append(config) or train(config, *a, **b))
    config, seen = TrainConfig(**SETTINGS, **more), []
    costs = measure_training(config, [_volume()], repeat=4, report=lambda done, total, text: seen.append((done, total)))
    assert list(costs.parts) == ["network", "optimiser", "loss", "reading", "augmentation", "loop"]
    assert {len(found) for name, found in costs.parts.items() if name != "loop"} == {4}
    assert {name: len(found) for name, found in costs.cpu.items()} == {n: len(f) for n, f in costs.parts.items()}
    assert len(costs.parts["loop"]) == 4 and all(second > 0 for found in costs.parts.values() for second in found)
    assert costs.voxels == 512 and costs.device == "cpu" and costs.utilisation is None
    assert costs.check_every == (250 if not more else 500)
    assert seen[0] == (0, 8) and seen[-1] == (8, 8)
    assert [(loop.accumulate, loop.devices) for loop in loops] == [(1, 1)]  # as the parts are measured


def test_a_slow_part_shows_in_its_row_and_in_those_after_it(monkeypatch):
    """The loss sleeps; rows before its own do not call it."""
    plain, calls = BCE.__call__, []

    def slow(self, prediction):
        calls.append(time.sleep(0.2))
        return plain(self, prediction)

    monkeypatch.setattr(BCE, "__call__", slow)
    config, called = TrainConfig(**SETTINGS), {}
    for name, step in Parts(config, [_volume()], torch.device("cpu")).steps.items():
        before = len(calls)
        step()
        called[name] = len(calls) - before
    assert called == {"network": 0, "optimiser": 0, "loss": 1, "reading": 1, "augmentation": 1}
    costs = measure_training(config, [_volume()], repeat=2)
    assert min(costs.seconds(name) for name in ("loss", "reading", "augmentation", "loop")) >= 0.2
    assert costs.cpu_seconds("loss") < costs.seconds("loss")  # sleep needs no processor


def test_what_a_step_waits_for_its_patches(monkeypatch):
    """Reading sleeps: once in the step that waits for it, and never in the step that does not."""
    read = PatchDataset.__getitem__
    monkeypatch.setattr(PatchDataset, "__getitem__", lambda self, k: time.sleep(0.1) or read(self, k))
    costs = measure_training(TrainConfig(**SETTINGS, health={"every": 0}), [_volume()], repeat=2)
    assert 0.1 <= costs.waiting <= 0.2 and costs.waiting < costs.seconds("loop")


def test_the_feed_by_hand():
    parts = {"network": [2.0, 9.0, 1.0], "optimiser": [2.5], "loop": [3.0]}
    costs = TrainingCosts(parts, check=5.0, check_every=10)
    assert costs.seconds("network") == 2.0 and costs.whole == 3.5 and costs.feed == 0.5
    costs.check_every = 0
    assert costs.whole == 3.0
