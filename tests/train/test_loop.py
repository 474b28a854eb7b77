"""The loop: what it does between the steps, when it ends, and what its losses learn."""

from types import SimpleNamespace

import pytest
import torch
from other_process import Learns, learn
from training_helpers import TINY, Interrupted, same, stop_after, tubes, weights

from segkit.losses.elementwise import MSE
from segkit.train import TrainConfig, run, train
from segkit.train.loop import Clock

LEARNED = {**TINY, "batch_size": 2, "accumulate": 2, "health": {"every": 3}}


@pytest.fixture(scope="module")
def volume():
    return tubes()


@pytest.fixture
def learning(monkeypatch):
    """A loss with a weight of its own, in place of the one that the settings name."""
    monkeypatch.setattr(run, "parse_loss", lambda *_, **__: Learns())


def learned(result):
    """What the loss has learned, and Adam's state of it."""
    checkpoint = torch.load(result.checkpoint, weights_only=True)
    states = checkpoint["optimizer"]["state"]
    return checkpoint["state_dict"]["loss.mse.s"], states[max(states)]


def test_what_a_loss_learns_is_optimised_with_the_network(volume, tmp_path, learning):
    """By hand: Adam's first step is the learning rate, against the sign of the gradient 1 - mse."""
    config = TrainConfig(**{**LEARNED, "steps": 1})
    s, state = learned(train(config, [volume], tmp_path / "run"))
    assert s.item() == pytest.approx(-config.learning_rate) and state["step"] == 1


def test_a_resume_goes_on_with_what_the_loss_has_learned(volume, tmp_path, learning):
    whole = train(TrainConfig(**LEARNED), [volume], tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(TrainConfig(**LEARNED), [volume], tmp_path / "cut", on_step=stop_after(5))
    resumed = train(TrainConfig(**LEARNED), [volume], tmp_path / "cut", resume=True)
    assert same(weights(whole), weights(resumed))
    (first, before), (second, after) = learned(whole), learned(resumed)
    assert first == second != 0 and before["exp_avg"] == after["exp_avg"] and before["step"] == after["step"] == 6


def test_two_processes_learn_what_one_learns(volume, tmp_path, learning, monkeypatch):
    monkeypatch.setattr(run, "_train_on_rank", learn)
    one = train(TrainConfig(**LEARNED), [volume], tmp_path / "one")
    two = train(TrainConfig(**LEARNED, devices=2), [volume], tmp_path / "two")
    (first, gradients), (second, others) = learned(one), learned(two)
    assert first.item() == pytest.approx(second.item()) != 0
    assert gradients["exp_avg"].item() == pytest.approx(others["exp_avg"].item(), rel=1e-6)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(two)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("learns_first", [True, False])
def test_a_resume_may_change_to_a_loss_that_learns_and_back(volume, tmp_path, monkeypatch, learns_first):
    """The network and its moments go on; what the new loss learns begins anew."""
    losses = [Learns, MSE] if learns_first else [MSE, Learns]
    for steps, loss in zip((3, 4), losses, strict=True):
        monkeypatch.setattr(run, "parse_loss", lambda *_, loss=loss, **__: loss())
        result = train(TrainConfig(**{**LEARNED, "steps": steps}), [volume], tmp_path / "run", resume=steps == 4)
    checkpoint = torch.load(result.checkpoint, weights_only=True)
    steps = [int(state["step"]) for _, state in sorted(checkpoint["optimizer"]["state"].items())]
    count = sum(name.startswith("network.") for name in checkpoint["state_dict"])
    assert steps == [4] * count + ([] if learns_first else [1])
    assert any(name.startswith("loss.") for name in checkpoint["state_dict"]) != learns_first


def test_the_clock_is_not_set_back_when_training_begins_again(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("segkit.train.loop.time", SimpleNamespace(monotonic=lambda: now[0]))
    clock, over = Clock(1), []
    for seconds, begins in [(0, True), (30, False), (29, True), (1, False)]:
        now[0] += seconds
        if begins:
            clock.start()
        over.append(clock.is_over())
    assert over == [False, False, False, True]


def test_without_a_limit_the_clock_is_never_over():
    clock = Clock(None)
    clock.start()
    assert not clock.is_over()
