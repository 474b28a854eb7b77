"""What the benchmark of inference measures: the bare network computes what a prediction does."""

import numpy as np
import pytest
import torch

from segkit import Grid, Volume
from segkit.benchmark.infer import InferenceCosts, measure_inference
from segkit.data.source import Held
from segkit.infer import predict
from segkit.infer.settings import Settings
from segkit.models.unet2d import UNet2D
from segkit.models.unet3d import UNet3D

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]


def _made(kind, *shape, **parameters):
    torch.manual_seed(0)
    model = kind(features=2, **parameters)
    return model, Volume(np.random.default_rng(0).integers(0, 256, shape, np.uint8), Grid())


@pytest.mark.parametrize(("augment", "batch_size"), [("none", 1), ("flips", 2)])
def test_the_bare_network_computes_as_many_voxels_as_the_prediction(augment, batch_size):
    model, raw = _made(UNet3D, 12, 20, 13, growth=2, pooling=((1, 2, 2),))
    tile, seen = model.output_shape(model.input_shape((6, 12, 13))), {"bare": [], "predict": []}
    options = {"tile_shape": tile, "augment": augment, "batch_size": batch_size}
    now = "bare"

    def see(module, inputs, output):
        if inputs[0].device.type != "meta":  # there the memory of a tile is counted, and nothing is computed
            seen[now].append(tuple(inputs[0].shape))

    model.register_forward_hook(see)

    def run():
        nonlocal now
        now = "predict"
        predict(model, raw, NEAREST, **options)
        now = "bare"

    costs = measure_inference(model, Held(raw), NEAREST, {"memory": run}, Settings(**options), repeat=1)
    assert seen["bare"] == seen["predict"] and sum(shape[0] for shape in seen["bare"]) == 2 * costs.tiles
    assert {name: len(found) for name, found in costs.parts.items()} == {"network": 1, "memory": 1}
    assert costs.tile == seen["bare"][0][2:] and costs.device == "cpu"


def test_sections_of_a_2d_model():
    model, raw = _made(UNet2D, 2, 60, 70, levels=3, channels=2)
    costs = measure_inference(model, Held(raw), NEAREST[1:], {}, repeat=1)
    assert costs.tiles == 2 and costs.tile[0] == 1


def test_what_is_added_by_hand():
    costs = InferenceCosts((1, 2, 3), 4, "cpu", {"network": [2.0, 4.0, 3.0], "file": [3.3]})
    assert costs.seconds("network") == 3.0 and costs.added("file") == pytest.approx(0.1)
