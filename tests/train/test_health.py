"""Training that collapses: seen, gone back from, gone on; and training that does not: left alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from segkit import Grid, Labels, Volume, io
from segkit.errors import InvalidParameter, InvalidShape, TrainingFailed, UnknownComponent
from segkit.health.channels import Channel
from segkit.losses.elementwise import BCE, MSE
from segkit.models.checkpoint import load_model
from segkit.protocols import Loss
from segkit.testing.phantoms import neurites
from segkit.train import TrainConfig, TrainingVolume, save, train
from segkit.train.callbacks import Journal
from segkit.train.dataset import PatchDataset
from segkit.train.finite import Collapse, FiniteWatch
from segkit.train.health import Health, _central, choose_crop
from segkit.train.module import learning_rate_factor
from segkit.train.patch import Patch
from segkit.train.progress import Recovery
from segkit.train.recovery import recover, with_elementwise

TINY = {
    "model_parameters": {"features": 2, "growth": 2, "pooling": [[1, 2, 2]], "padding": "same"},
    "loss": "mse",
    "patch": [2, 16, 16],
    "steps": 6,
    "checkpoint_every": 2,
    "log_every": 1,
    "health": {"every": 3},
    "device": "cpu",
    "threads": 1,
}
REAL = {
    **TINY,
    "model_parameters": {**TINY["model_parameters"], "features": 4, "normalisation": "instance"},
    "patch": [6, 16, 16],
    "steps": 120,
    "learning_rate": 1.0,
    "log_every": 20,
    "checkpoint_every": 60,
}


class Interrupted(Exception):
    pass


class Explodes(Loss):
    """Mean squared error that is NaN in the calls from `first` on, `times` times."""

    def __init__(self, first, times):
        self.first, self.last, self.calls, self.mse = first, first + times - 1, 0, MSE()

    def __call__(self, prediction):
        self.calls += 1
        loss, parts = self.mse(prediction)
        return (loss * float("nan") if self.first <= self.calls <= self.last else loss), parts


@pytest.fixture(scope="module")
def volume():
    phantom = neurites((24, 48, 48), count=12, seed=0)
    return TrainingVolume(phantom.raw, phantom.truth)


@pytest.fixture
def exploding(monkeypatch):
    """A callable(first, times) that puts such a loss in place of the one that the settings name."""

    def put(first, times):
        loss = Explodes(first, times)
        monkeypatch.setattr("segkit.train.run.parse_loss", lambda *_, **__: loss)

    return put


def config(base=TINY, **changes):
    return TrainConfig(**{**base, **changes, "health": {**base["health"], **changes.get("health", {})}})


def weights(path):
    return load_model(path).module.state_dict()


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def lines(run, key):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if key in line]


def variances(run):
    return [[line[f"health/{name}/variance"] for name in "zyx"] for line in lines(run, "health/z/variance")]


def test_a_learning_rate_far_too_high_is_recovered_from(volume, tmp_path):
    said = []
    collapsed = train(config(REAL, health={"every": 0}), [volume], tmp_path / "alone")
    result = train(config(REAL, health={"every": 20}), [volume], tmp_path / "run", on_recovery=said.append)
    run = tmp_path / "run"
    assert result.steps == 120 and result.recoveries == len(said) == 1
    assert said[0].startswith("training collapsed: the affinities are uniform after step 40 (z has variance")
    assert said[0].endswith("it goes on from step 0, the last healthy one, with 0.1 times the learning rate")
    (event,) = lines(run, "health/recovery")
    assert event["step"] == 0 and event["health/collapsed_at"] == 40 and event["health/seen"] in said[0]
    assert lines(run, "learning_rate")[-1]["learning_rate"] == pytest.approx(0.1)
    assert [line["step"] for line in lines(run, "health/z/variance")] == list(range(0, 121, 20))
    assert min(variances(run)[-1]) > 1e-3
    assert result.last_loss < 0.8 * collapsed.last_loss
    assert all(line["health/z/auc"] > 0.6 for line in lines(run, "health/z/variance")[-2:])


def test_collapsing_again_and_again_ends_the_run(volume, tmp_path):
    changes = {"normalisation": "none", "features": 4}
    values = config(
        REAL, model_parameters={**TINY["model_parameters"], **changes}, learning_rate=1e3, health={"every": 10}
    )
    said = []
    with pytest.raises(
        TrainingFailed, match=r"collapsed again after 2 recoveries, at a learning rate of 10: the aff.*"
    ):
        train(values, [volume], tmp_path / "run", on_recovery=said.append)
    assert len(said) == 2 and not (tmp_path / "run" / "model.safetensors").exists()


def test_the_last_healthy_network_stays(segkit, volume, tmp_path, exploding):
    path = tmp_path / "data.h5"
    io.write_all(path, {"raw": volume.raw, "truth": volume.labels})
    whole = train(config(steps=3), [volume], tmp_path / "three")
    exploding(5, 1000)
    words = ["--loss", "mse", "--steps", 6, "--device", "cpu"]
    settings = {**TINY["model_parameters"], "pooling": "[[1,2,2]]"}
    words += [word for name, value in settings.items() for word in ("--set", f"model.{name}={value}")]
    words += ["--set", "patch=[2,16,16]", "--set", "health.every=3", "--set", "checkpoint_every=2", "--threads", 1]
    result = segkit("train", path, "--out", tmp_path / "run", *words)
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "collapsed again after 2 recoveries, at a learning rate of 1e-06: the loss at step 4 is not finite" in line
    assert "lower learning_rate" in line and line.endswith("the network of step 3, the last healthy one, is kept")
    assert result.stderr.count("training collapsed: the loss at step") == 2
    kept = tmp_path / "run" / "model.safetensors"
    assert load_model(kept).extra["steps"] == 3 and same(weights(kept), weights(whole.model))


def test_stop_ends_it_at_once(volume, tmp_path, exploding):
    exploding(5, 1000)
    with pytest.raises(TrainingFailed, match=r"training collapsed, at a learning rate of 0\.0001: the loss at step 5"):
        train(config(health={"on_collapse": "stop"}), [volume], tmp_path / "run")
    assert load_model(tmp_path / "run" / "model.safetensors").extra["steps"] == 3
    assert lines(tmp_path / "run", "health/recovery") == []


def test_what_changes_with_a_recovery(volume, tmp_path, exploding):
    exploding(5, 1)
    run = tmp_path / "run"
    result = train(config(schedule="cosine"), [volume], run)
    assert (result.steps, result.recoveries) == (6, 1)
    checkpoint = torch.load(result.checkpoint, weights_only=True)
    assert checkpoint["patches"] == 8  # 3 before, 5 seen until the collapse, 3 more
    plain = learning_rate_factor(TrainConfig(steps=6, schedule="cosine"))
    rates = [line["learning_rate"] for line in lines(run, "learning_rate")]
    expected = [1e-4 * plain(step) * (0.1 if step > 3 else 1) for step in range(1, 7)]
    assert rates == pytest.approx(expected)
    assert [line["step"] for line in lines(run, "loss")] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines(run, "health/z/variance")] == [0, 3, 6]


def test_the_elementwise_term_instead(volume, tmp_path, exploding):
    exploding(2, 1)
    train(config(loss="bce", health={"on_collapse": "add-elementwise"}), [volume], tmp_path / "run")
    last = lines(tmp_path / "run", "loss")[-1]
    assert last["loss"] == pytest.approx(last["bce"] + 0.1 * last["mse"]) and last["learning_rate"] == 1e-4


def test_what_was_seen_before_a_recovery_is_forgotten(volume, tmp_path, exploding, monkeypatch):
    """Where nobody looks in every step, the weights may show it first; the flags are then of the network before."""
    monkeypatch.setattr(FiniteWatch.__init__, "__defaults__", (True,))
    written = Journal.on_train_batch_end
    monkeypatch.setattr(
        Journal,
        "on_train_batch_end",
        lambda self, trainer, *rest: written(self, trainer, *rest) if trainer.global_step == 6 else None,
    )
    exploding(3, 1)
    said = []
    result = train(config(log_every=6, health={"every": 6}), [volume], tmp_path / "run", on_recovery=said.append)
    assert [words.partition(";")[0] for words in said] == [
        "training collapsed: the weights are not finite after step 4"
    ]
    assert (result.steps, result.recoveries) == (6, 1)


def test_the_clock_runs_on_through_recoveries(volume, tmp_path, exploding, monkeypatch):
    begun = []
    monkeypatch.setattr("segkit.train.callbacks.Clock.on_train_start", lambda self, *_: begun.append(self))
    monkeypatch.setattr("segkit.train.callbacks.Clock.on_train_batch_end", lambda *_: None)
    exploding(5, 1)
    train(config(max_minutes=60), [volume], tmp_path / "run")
    assert len(begun) == 2 and begun[0] is begun[1]


@pytest.mark.parametrize("stop", [4, 5])
def test_a_resume_after_a_recovery_ends_with_the_same_weights(volume, tmp_path, exploding, stop):
    exploding(5, 1)
    whole = train(config(steps=8), [volume], tmp_path / "whole")
    exploding(5, 1)
    seen = []

    def on_step(step, *_):
        seen.append(step)
        if step == stop and seen.count(4) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(config(steps=8), [volume], tmp_path / "cut", on_step=on_step)
    resumed = train(config(steps=8), [volume], tmp_path / "cut", resume=True)
    assert same(weights(whole.model), weights(resumed.model)) and resumed.recoveries == whole.recoveries == 1
    for key in ("loss", "health/z/variance", "health/recovery"):
        first, second = ([line["step"] for line in lines(tmp_path / name, key)] for name in ("whole", "cut"))
        assert first == second


@pytest.mark.parametrize(("writes", "first"), [(2, 1), (3, 1), (4, 4)])
def test_a_run_killed_before_its_first_checkpoint_goes_on_from_the_last_healthy_one(
    volume, tmp_path, monkeypatch, writes, first
):
    """The files are config.json, and healthy.ckpt of step 0, 3 and 6."""
    values = config(checkpoint_every=100)
    whole = train(values, [volume], tmp_path / "whole")
    written, done = [], []

    def replace_whole(path, write):
        written.append(path)
        if len(written) == writes:
            raise Interrupted
        save.replace_whole(path, write)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("segkit.train.run.replace_whole", replace_whole)
        train(values, [volume], tmp_path / "cut")
    resumed = train(values, [volume], tmp_path / "cut", resume=True, on_step=lambda step, *_: done.append(step))
    assert done[0] == first and same(weights(whole.model), weights(resumed.model))
    assert [line["step"] for line in lines(tmp_path / "cut", "step")] == [0, 1, 2, 3, 3, 4, 5, 6, 6]


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


@pytest.mark.parametrize("first", [2, 5])
def test_going_back_restores_everything(volume, tmp_path, exploding, monkeypatch, first):
    """With the old rate and the old patches it is as if the run had never been away."""
    whole = train(config(), [volume], tmp_path / "whole")

    def recover_with_the_same_patches(folder, module, collapse):
        module.patches = torch.load(folder.healthy, weights_only=True)["patches"] - 1
        return recover(folder, module, collapse)

    monkeypatch.setattr("segkit.train.run.recover", recover_with_the_same_patches)
    monkeypatch.setattr(Recovery, "next", lambda self, step, health: Recovery(count=self.count + 1, until=step))
    exploding(first, 1)
    back = train(config(), [volume], tmp_path / "back")
    assert back.recoveries == 1 and same(weights(whole.model), weights(back.model))


def test_healthy_runs_are_the_same_with_and_without_checks(volume, tmp_path):
    values = {
        "loss": "constrained-malis+bce",
        "model_parameters": {**TINY["model_parameters"], "normalisation": "batch"},
    }
    checked = train(config(**values, health={"every": 2}), [volume], tmp_path / "checked", validation=[volume])
    alone = train(config(**values, health={"every": 0}), [volume], tmp_path / "alone", validation=[volume])
    assert same(weights(checked.model), weights(alone.model)) and checked.recoveries == 0
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


def channels(*values):
    return tuple(
        Channel(name, 0.5, value, 0, 1, 0, 0, 0, 0.1 if value is not None else 0, None)
        for name, value in zip("zyx", values, strict=True)
    )


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
    health = Health({}, TrainConfig(steps=100, warmup_steps=warmup), None, None)
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
    health = Health({}, TrainConfig(steps=10), None, None)
    health.alive = ["z", "y", "x"]
    with pytest.raises(Collapse, match="y has variance"):
        health._judge(channels(1e-2, 1e-9, 1e-2), 10)


def test_recoveries_in_a_row_are_counted():
    health = TrainConfig().health
    once = Recovery().next(500, health)
    assert (once.count, once.tries, once.factor, once.elementwise) == (1, 1, 0.1, 0)
    assert once.passed(500) == once and once.passed(750).tries == 0 and once.passed(750).count == 1
    added = once.passed(750).next(900, TrainConfig(health={"on_collapse": "add-elementwise"}).health)
    assert (added.count, added.tries, added.factor, added.elementwise) == (2, 1, 0.1, 0.1)


def test_mse_is_added_or_made_heavier():
    assert isinstance(with_elementwise(BCE(), "bce", 0), BCE)
    for loss, spec, expected in [
        (BCE(), "bce", [("bce", 1), ("mse", 0.2)]),
        (MSE(), "mse", [("mse", 1.2)]),
        (with_elementwise(BCE(), "bce", 0.3), "bce+0.3*mse", [("bce", 1), ("mse", 0.5)]),
    ]:
        terms = with_elementwise(loss, spec, 0.2).terms
        assert [(name, pytest.approx(weight)) for name, weight, _ in terms] == expected


def test_the_crop_is_one_that_shows_something(volume):
    array = np.ones((8, 64, 64), int)
    array[:, :, 40:] = 2
    array[:, 40:] += 2
    array[4:] += 4
    labels = Labels.convert(array, Grid())
    raw = Volume(np.zeros(array.shape, np.uint8), Grid())
    patch = Patch((2, 16, 16), (2, 16, 16), 3)
    offsets = TrainConfig().offsets(3)
    patches = PatchDataset(TrainConfig(), [TrainingVolume(raw, labels)], patch, offsets, purpose="health")
    drawn = [min(patches[k]["target"][c][patches[k]["edges"][c]].var() for c in range(3)) for k in range(8)]
    crop = choose_crop(patches)
    chosen = min(crop["target"][0, c][crop["edges"][0, c]].var(correction=0) for c in range(3))
    assert chosen == pytest.approx(max(drawn)) and crop["raw"].shape == (1, 1, 2, 16, 16)


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
