"""Averaged weights: what they are, what is saved, and that a resume goes on with them."""

import numpy as np
import pytest
import torch
from torch import nn
from training_helpers import TINY, Interrupted, same, stop_after, tubes, weights

from segkit.losses.combined import parse_loss
from segkit.models.checkpoint import load_model
from segkit.train import TrainConfig, train
from segkit.train.step import ExponentialMovingAverage, Trainable


@pytest.fixture(scope="module")
def volume():
    return tubes()


def test_the_recursion_of_weights_and_statistics():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = ExponentialMovingAverage(network, 0.5, start=2)
    expected = None
    for step in range(1, 8):
        for values in network.parameters():
            values.data.add_(torch.randn_like(values))
        network(torch.randn(2, 1, 3, 3))
        average.update(network, step)
        now = {name: value.double().numpy().copy() for name, value in network.state_dict().items()}
        keep = 0 if step <= 2 else min(0.5, (step - 1) / (step + 8))
        counter = now.pop("1.num_batches_tracked")
        expected = now if expected is None else {n: keep * expected[n] + (1 - keep) * now[n] for n in now}
        assert average.network[1].num_batches_tracked == counter == step
        for name, value in expected.items():
            np.testing.assert_allclose(average.network.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert not any(weights.requires_grad for weights in average.parameters())


def test_the_average_is_saved_and_validated_and_training_goes_on_as_without(volume, tmp_path):
    averaged = TrainConfig(**TINY, averaging={"decay": 0.5})
    seen = []

    def on_validation(step, values):
        seen.append(values["loss"])

    result = train(averaged, [volume], tmp_path / "run", validation=[volume], on_validation=on_validation)
    plain = train(TrainConfig(**TINY), [volume], tmp_path / "plain", validation=[volume])
    state = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[f"network.{name}"]) for name, value in weights(plain).items())
    assert all(torch.equal(value, state[f"average.network.{name}"]) for name, value in weights(result).items())
    assert not same(weights(plain), weights(result)) and seen[-1] != plain.validation_loss
    copies = train(TrainConfig(**TINY, averaging={"start": 6}), [volume], tmp_path / "late", validation=[volume])
    assert same(weights(copies), weights(plain)) and copies.validation_loss == plain.validation_loss


def test_a_resume_goes_on_with_the_average(volume, tmp_path):
    config = TrainConfig(**TINY, averaging={"decay": 0.9, "start": 1})
    whole = train(config, [volume], tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, [volume], tmp_path / "cut", on_step=stop_after(5))
    assert same(weights(whole), weights(train(config, [volume], tmp_path / "cut", resume=True)))


@pytest.mark.parametrize(("before", "after"), [({}, {"averaging": {"decay": 0.5}}), ({"averaging": {}}, {})])
def test_a_resume_may_begin_to_average_or_cease(volume, tmp_path, before, after):
    train(TrainConfig(**TINY, **before), [volume], tmp_path / "run")
    result = train(TrainConfig(**{**TINY, "steps": 8}, **after), [volume], tmp_path / "run", resume=True)
    plain = train(TrainConfig(**{**TINY, "steps": 8}), [volume], tmp_path / "plain")
    assert same(weights(result), weights(plain)) == (not after)
    assert load_model(result.model).extra["steps"] == 8


def test_a_3d_network_may_have_2d_layers():
    """Its weights lie in memory in two orders."""
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv2d(2, 2, 3))
    network.ndim = 3
    assert Trainable(network, parse_loss("mse"), TrainConfig(loss="mse")).network is network
