"""Training that collapses goes back to where it was healthy, and goes on differently."""

from dataclasses import replace

import pytest
import torch
from health_helpers import TINY, config, neurons
from training_helpers import lines, same, weights_in

from segkit import io
from segkit.errors import TrainingFailed
from segkit.losses.elementwise import BCE, MSE
from segkit.models.checkpoint import load_model
from segkit.protocols import Loss
from segkit.train import TrainConfig, checkpoint, train
from segkit.train.checkpoint import Recovery
from segkit.train.health import FiniteWatch
from segkit.train.journal import Journal
from segkit.train.recovery import recover, with_elementwise
from segkit.train.step import learning_rate_factor

REAL = {
    **TINY,
    "model_parameters": {**TINY["model_parameters"], "features": 4, "normalisation": "instance"},
    "patch": [6, 24, 24],
    "grow_boundary": 1,
    "steps": 60,
    "learning_rate": 10.0,
    "log_every": 20,
    "checkpoint_every": 60,
    "health": {"every": 20, "factor": 0.003},
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


SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def volume():
    return neurons()


@pytest.fixture
def exploding(monkeypatch):
    """A callable(first, times) that puts such a loss in place of the one that the settings name."""

    def put(first, times):
        loss = Explodes(first, times)
        monkeypatch.setattr("segkit.train.run.parse_loss", lambda *_, **__: loss)

    return put


def variances(run):
    return [[line[f"health/{name}/variance"] for name in "zyx"] for line in lines(run, "health/z/variance")]


def test_a_learning_rate_far_too_high_is_recovered_from(volume, tmp_path):
    said = []
    collapsed = train(config(REAL, health={"every": 0}), [volume], tmp_path / "alone")
    result = train(config(REAL), [volume], tmp_path / "run", on_recovery=said.append)
    run = tmp_path / "run"
    assert result.steps == 60 and result.recoveries == len(said) == 1
    assert said[0].startswith("training collapsed: the affinities are uniform after step 40 (z has variance")
    assert said[0].endswith("it goes on from step 0, the last healthy one, with 0.003 times the learning rate")
    (event,) = lines(run, "health/recovery")
    assert event["step"] == 0 and event["health/collapsed_at"] == 40 and event["health/seen"] in said[0]
    assert lines(run, "learning_rate")[-1]["learning_rate"] == pytest.approx(0.03)
    checks = lines(run, "health/z/variance")
    assert [line["step"] for line in checks] == [0, 20, 40, 60] and min(variances(run)[-1]) > 1e-2
    assert all(checks[0][f"health/{name}/auc"] < 0.6 for name in "zyx")
    assert all(line[f"health/{name}/auc"] > 0.7 for line in checks[2:] for name in "zyx")  # it has learned
    assert result.last_loss < 0.6 * collapsed.last_loss


def test_collapsing_again_and_again_ends_the_run(volume, tmp_path):
    parameters = {**REAL["model_parameters"], "normalisation": "none"}
    health = {"every": 10, "factor": 0.1}
    values = config(REAL, model_parameters=parameters, patch=[6, 16, 16], learning_rate=1e3, health=health)
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
    assert load_model(kept).extra["steps"] == 3 and same(weights_in(kept), weights_in(whole.model))


def test_a_gradient_that_is_not_finite_leaves_nothing_behind(volume, tmp_path, exploding, monkeypatch):
    """The loss is finite: 0 is added to it, but as the square root of 0, whose derivative is none."""

    def call(self, prediction):
        self.calls += 1
        loss, parts = self.mse(prediction)
        return (loss + (0 * prediction.logits).sqrt().sum() if self.calls == self.first else loss), parts

    monkeypatch.setattr(Explodes, "__call__", call)
    exploding(5, 1)
    said = []
    result = train(config(), [volume], tmp_path / "run", on_recovery=said.append)
    assert [words.partition(";")[0] for words in said] == ["training collapsed: the gradient at step 5 is not finite"]
    assert (result.steps, result.recoveries) == (6, 1)


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
    written = Journal.end_step
    monkeypatch.setattr(
        Journal, "end_step", lambda self, step, *rest: written(self, step, *rest) if step == 6 else None
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
    monkeypatch.setattr("segkit.train.loop.Clock.start", lambda self: begun.append(self))
    exploding(5, 1)
    train(config(max_minutes=60), [volume], tmp_path / "run")
    assert len(begun) == 2 and begun[0] is begun[1]


@pytest.mark.parametrize("stop", [4, pytest.param(5, marks=SLOW)])
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
    assert same(weights_in(whole.model), weights_in(resumed.model)) and resumed.recoveries == whole.recoveries == 1
    for key in ("loss", "health/z/variance", "health/recovery"):
        first, second = ([line["step"] for line in lines(tmp_path / name, key)] for name in ("whole", "cut"))
        assert first == second


@pytest.mark.parametrize(("writes", "first"), [(1, 1), pytest.param(2, 1, marks=SLOW), pytest.param(3, 4, marks=SLOW)])
def test_a_run_killed_before_its_first_checkpoint_goes_on_from_the_last_healthy_one(
    volume, tmp_path, monkeypatch, writes, first
):
    """The checkpoints are healthy.ckpt of step 0, 3 and 6."""
    values = config(checkpoint_every=100)
    whole = train(values, [volume], tmp_path / "whole")
    written, done, original = [], [], checkpoint.replace_whole

    def replace_whole(path, write):
        written.append(path)
        if len(written) == writes:
            raise Interrupted
        original(path, write)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("segkit.train.checkpoint.replace_whole", replace_whole)
        train(values, [volume], tmp_path / "cut")
    resumed = train(values, [volume], tmp_path / "cut", resume=True, on_step=lambda step, *_: done.append(step))
    assert done[0] == first and same(weights_in(whole.model), weights_in(resumed.model))
    assert [line["step"] for line in lines(tmp_path / "cut", "step")] == [0, 1, 2, 3, 3, 4, 5, 6, 6]


@pytest.mark.parametrize("first", [2, 5])
def test_going_back_restores_everything(volume, tmp_path, exploding, monkeypatch, first):
    """With the old rate and the old patches it is as if the run had never been away."""
    whole = train(config(), [volume], tmp_path / "whole")

    def recover_with_the_same_patches(folder, objective, reached, collapse):
        patches = torch.load(folder.healthy, weights_only=True)["patches"] - 1
        return recover(folder, objective, replace(reached, patches=patches), collapse)

    monkeypatch.setattr("segkit.train.run.recover", recover_with_the_same_patches)
    monkeypatch.setattr(Recovery, "next", lambda self, step, health: Recovery(count=self.count + 1, until=step))
    exploding(first, 1)
    back = train(config(), [volume], tmp_path / "back")
    assert back.recoveries == 1 and same(weights_in(whole.model), weights_in(back.model))


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
