"""Channels that a network learned beside affinities, in its checkpoint."""

import numpy as np
import pytest
import torch

from segkit import Grid, Volume
from segkit.errors import InvalidInput
from segkit.infer import predict
from segkit.models import load_model, save_model
from segkit.registry import find

NEIGHBORHOOD = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
PARAMETERS = {"features": 2, "growth": 1, "pooling": [], "padding": "same"}


def network(channels):
    torch.manual_seed(0)
    return find("models", "unet3d").create(channels=channels, **PARAMETERS)


def test_a_checkpoint_says_how_many_there_are(tmp_path):
    module = network(13)
    module.auxiliary = 10
    save_model(tmp_path / "m", module, name="unet3d", parameters=PARAMETERS, neighborhood=NEIGHBORHOOD)
    loaded = load_model(tmp_path / "m")
    assert loaded.auxiliary == 10 and len(loaded.neighborhood) == 3
    raw = torch.rand(1, 1, 4, 5, 6)
    with torch.no_grad():
        assert torch.equal(loaded.module(raw), module.eval()(raw))


def test_without_them_there_are_none(tmp_path):
    save_model(tmp_path / "m", network(3), name="unet3d", parameters=PARAMETERS, neighborhood=NEIGHBORHOOD)
    assert load_model(tmp_path / "m").auxiliary == 0


def test_inference_takes_the_first_channels():
    module, volume = network(13), Volume(np.random.default_rng(0).random((4, 5, 6)).astype(np.float32), Grid())
    with pytest.raises(InvalidInput, match="13 channels"):
        predict(module, volume, NEIGHBORHOOD)
    module.auxiliary = 10
    first = network(13)
    first.output.weight.data, first.output.bias.data = first.output.weight.data[:3], first.output.bias.data[:3]
    found, expected = (predict(each, volume, NEIGHBORHOOD).array for each in (module, first))
    assert np.allclose(found, expected, atol=1e-6)
