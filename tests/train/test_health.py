"""What is seen of a network in training: collapsed ones are told from healthy ones, which are left alone."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from health_helpers import TINY, config, neurons
from training_helpers import lines, same, weights_in

from segkit import Grid, Labels, Volume
from segkit.errors import InvalidParameter, InvalidShape, UnknownComponent
from segkit.health.channels import Channel
from segkit.train import TrainConfig, TrainingVolume, train
from segkit.train.data import PatchDataset
from segkit.train.health import Collapse, Health, _central, choose_crop
from segkit.train.patch import Patch


@pytest.fixture(scope="module")
def volume():
    return neurons()


def channels(*values):
    return tuple(
        Channel(name, 0.5, value, 0, 1, 0, 0, 0, 0.1 if value is not None else 0, None)
        for name, value in zip("zyx", values, strict=True)
    )


@pytest.mark.slow
def test_checks_leave_the_number_of_threads(tmp_path):
    code = """
import sys, torch
from pathlib import Path
from segkit.testing.phantoms import neurites
from segkit.train import TrainConfig, TrainingVolume, train
phantom = neurites((8, 32, 32), count=4, seed=0)
volume = TrainingVolume(phantom.raw, phantom.truth)
config = TrainConfig.model_validate_json(sys.argv[1])
train(config, [volume], Path(sys.argv[2]), on_step=lambda *_: print("threads", torch.get_num_threads()))
"""  # in a process of its own, in which Numba has yet to start its threads
    values = config(loss="constrained-malis", threads=1, health={"every": 2}, steps=3).model_dump_json()
    done = subprocess.run([sys.executable, "-c", code, values, tmp_path / "run"], capture_output=True, text=True)
    seen = [line for line in done.stdout.splitlines() if line.startswith("threads")]
    assert seen == ["threads 1"] * 3, done.stderr


def test_healthy_runs_are_the_same_with_and_without_checks(volume, tmp_path):
    values = {
        "loss": "constrained-malis+bce",
        "model_parameters": {**TINY["model_parameters"], "normalisation": "batch"},
    }
    checked = train(config(**values, health={"every": 2}), [volume], tmp_path / "checked", validation=[volume])
    alone = train(config(**values, health={"every": 0}), [volume], tmp_path / "alone", validation=[volume])
    assert same(weights_in(checked.model), weights_in(alone.model)) and checked.recoveries == 0
    losses = [[line["loss"] for line in lines(tmp_path / name, "loss")] for name in ("checked", "alone")]
    assert losses[0] == losses[1] and checked.validation_loss == alone.validation_loss
    assert not lines(tmp_path / "alone", "health/z/variance")
    assert not (tmp_path / "alone" / "checkpoints" / "healthy.ckpt").exists()


def test_what_a_check_writes(volume, tmp_path):
    run = tmp_path / "run"
    train(config(loss="constrained-malis+bce", gradient_clip=1e-3), [volume], run)
    first, second, last = lines(run, "health/z/variance")
    assert [line["step"] for line in (first, second, last)] == [0, 3, 6]
    names = {"fragments", "voi_split", "z-y/contradictions", "y/peak_x_share", "x/stride_y_share", "z/auc", "x/mean"}
    assert {f"health/{name}" for name in names} <= set(first) and "health/gradient_norm" not in first
    assert 0 < second["health/gradient_norm"] < second["health/gradient_norm_max"]
    losses = lines(run, "loss")[:3]
    sums = [sum(line[f"constrained-malis/{sign}"] for line in losses) for sign in ("positive", "negative")]
    assert second["health/constrained-malis/balance"] == pytest.approx(sums[0] / sum(sums))
    assert all(isinstance(value, int | float) for value in first.values())


def test_the_gradient_norm_is_that_of_all_weights(volume, tmp_path, monkeypatch):
    norms, step = [], torch.optim.Adam.step

    def kept(self, *rest, **named):
        result = step(self, *rest, **named)
        gradients = [weights.grad.ravel() for group in self.param_groups for weights in group["params"]]
        norms.append(float(torch.cat(gradients).norm()))
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", kept)
    train(config(), [volume], tmp_path / "run")
    assert len(norms) == 6
    for line, seen in zip(lines(tmp_path / "run", "health/gradient_norm"), (norms[:3], norms[3:]), strict=True):
        assert line["health/gradient_norm"] == pytest.approx(np.mean(seen))
        assert line["health/gradient_norm_max"] == pytest.approx(max(seen))


@pytest.mark.parametrize(
    ("start", "checks", "collapses_at"),
    [
        ((1e-2, 1e-2, 1e-2), [1e-2, 1e-9], 2),  # it was well in training: once is enough
        ((1e-2, 1e-2, 1e-2), [1e-9, 1e-9], 2),  # never well in training: twice in a row
        ((1e-2, 1e-2, 1e-2), [1e-9, 1e-3, 1e-3], None),
        ((1e-2, 1e-2, 1e-2), [1e-5, 3e-6, 2e-6, 1e-3], None),  # learns slowly
        ((1e-9, 1e-9, 1e-9), [1e-9, 1e-9, 1e-9, 1e-9], None),  # has yet to learn
        ((1e-9, 1e-9, 1e-9), [1e-9, 1e-2, 1e-9], 3),
        ((1e-2, 1e-2, 1e-2), [1e-9, 1e-9, 1e-9, 1e-2, 1e-9], 5),
    ],
)
@pytest.mark.parametrize("channel", [0, 2])
def test_what_counts_as_a_collapse(start, checks, collapses_at, channel):
    warmup = 30 if checks.count(1e-9) == 4 and start[0] == 1e-2 else 0
    health = Health({}, TrainConfig(steps=100, warmup_steps=warmup), None, None, None)
    health.alive = [c.name for c in channels(*start) if c.variance > 1e-7]
    for number, variance in enumerate(checks, start=1):
        values = [1e-2] * 3
        values[channel] = variance
        if collapses_at == number:
            with pytest.raises(
                Collapse, match=f"uniform after step {10 * number} .{'zyx'[channel]} has variance 1e-09"
            ):
                health._judge(channels(*values), 10 * number)
            return
        health._judge(channels(*values), 10 * number)
    assert collapses_at is None


def test_after_the_last_step_once_is_enough():
    health = Health({}, TrainConfig(steps=10), None, None, None)
    health.alive = ["z", "y", "x"]
    with pytest.raises(Collapse, match="y has variance"):
        health._judge(channels(1e-2, 1e-9, 1e-2), 10)


def test_the_crop_is_one_that_shows_something(volume):
    z, y, x = np.indices((8, 64, 64))
    array = 1 + (z + x // 20) // 2 + 8 * (y // 12) + 64 * (x // 20)
    labels = Labels.convert(array, Grid())
    raw = Volume(np.zeros(array.shape, np.uint8), Grid())
    patch = Patch((2, 16, 16), (2, 16, 16), 3)
    offsets = TrainConfig().offsets(3)
    patches = PatchDataset(TrainConfig(), [TrainingVolume(raw, labels)], patch, offsets, purpose="health")

    def least(batch):
        return min(float(batch["target"][0, c][batch["edges"][0, c]].var(correction=0)) for c in range(3))

    drawn = [least(patches.batch([k])) for k in range(8)]
    crop = choose_crop(patches)
    assert len(set(drawn)) > 1 and least(crop) == pytest.approx(max(drawn)) and crop["raw"].shape == (1, 1, 2, 16, 16)


def test_bad_settings(volume, tmp_path):
    with pytest.raises(InvalidParameter, match=r"'health.evry'; did you mean 'health.every'"):
        config(health={"evry": 3})
    with pytest.raises(InvalidParameter, match=r"'health.on_collapse'"):
        config(health={"on_collapse": "pray"})
    for error, values in [
        (UnknownComponent, {"fragmenter": "watershet"}),
        (InvalidParameter, {"fragmenter_parameters": {"seed": 3}}),
        (InvalidShape, {"crop": [2, 100, 100]}),
    ]:
        with pytest.raises(error):
            train(config(health=values), [volume], tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_2d_networks_are_checked_too(volume, tmp_path):
    values = config(model="fcn", model_parameters={}, patch=[16, 16], steps=2, health={"every": 1, "crop": [40, 40]})
    train(values, [volume], tmp_path / "run")
    found = lines(tmp_path / "run", "health/y/variance")
    assert len(found) == 3 and "health/z/variance" not in found[0] and found[0]["health/fragments"] >= 1


def test_of_a_large_crop_the_middle_is_examined():
    assert _central((40, 96, 268)) == (slice(0, 40), slice(0, 96), slice(86, 182))
