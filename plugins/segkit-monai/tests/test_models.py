"""The networks: MONAI's own output, tilings that agree, and nothing of MONAI before it is needed."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet, MedNeXtB, MedNeXtL, MedNeXtM, MedNeXtS, SegResNet, UNet
from segkit import Grid, Volume, load
from segkit.data import NEAREST
from segkit.errors import InvalidParameter, InvalidShape
from segkit.infer import predict

SMALL = {"features": [4, 8], "strides": [[1, 2, 2]]}
THREE = {"features": [4, 8, 8], "strides": [[1, 2, 2], [1, 2, 2]]}
MODELS = {
    "monai-unet": {**SMALL, "residual_units": 1, "normalisation": "batch"},
    "monai-dynunet": {**THREE, "kernels": [[1, 3, 3], [3, 3, 3], [1, 3, 3]], "normalisation": "batch"},
    "monai-segresnet": {"features": 4, "blocks_down": [1, 1], "blocks_up": [1], "normalisation": "batch"},
}
DEFAULTS = {
    "monai-unet": lambda: UNet(3, 1, 3, [16, 32, 64, 128], [(1, 2, 2), (2, 2, 2), (2, 2, 2)], num_res_units=2),
    "monai-dynunet": lambda: DynUNet(
        3,
        1,
        3,
        [(1, 3, 3), 3, 3, 3],
        [1, (1, 2, 2), 2, 2],
        [(1, 2, 2), 2, 2],
        filters=[32, 64, 128, 256],
    ),
    "monai-segresnet": lambda: SegResNet(init_filters=16, out_channels=3),
    "monai-mednext": lambda: MedNeXtS(out_channels=3),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_give_what_monai_gives_with_the_same_weights(name):
    torch.manual_seed(3)
    ours = load("models", name).eval()
    torch.manual_seed(3)
    theirs = DEFAULTS[name]().eval()
    raw = torch.rand(1, 1, *ours.input_shape((1, 1, 1))) * 2 - 1
    with torch.no_grad():
        assert torch.equal(ours(raw), theirs(raw))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("theirs", "blocks", "expansion"),
    [
        (MedNeXtB, [2, 2, 2, 2, 2], [2, 3, 4, 4, 4]),
        (MedNeXtM, [3, 4, 4, 4, 4], [2, 3, 4, 4, 4]),
        (MedNeXtL, [3, 4, 8, 8, 8], [3, 4, 8, 8, 8]),
    ],
)
def test_mednext_has_the_sizes_of_the_paper(theirs, blocks, expansion):
    with torch.device("meta"):
        networks = load("models", "monai-mednext", blocks=blocks, expansion=expansion).network, theirs(out_channels=3)
    shapes = [{name: weight.shape for name, weight in network.state_dict().items()} for network in networks]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", MODELS)
def test_tiles_agree_with_the_whole_far_from_their_borders(name):
    torch.manual_seed(0)
    model = load("models", name, **MODELS[name]).eval()
    raw = torch.rand(1, 1, 32, 96, 96) * 2 - 1
    z, y, x = model.stride
    with torch.no_grad():
        whole = model(raw)
        part = model(raw[:, :, : 32 - 2 * z, 2 * y :, 3 * x : 96 - x])
    inner = (slice(None), slice(None), slice(0, 32 - 2 * z - 16), slice(32, None), slice(32, -32))
    shifted = whole[:, :, : 32 - 2 * z, 2 * y :, 3 * x : 96 - x]
    torch.testing.assert_close(part[inner], shifted[inner], rtol=0, atol=1e-5)
    assert not torch.allclose(whole[:, :, :, 1:], whole[:, :, :, :-1], atol=1e-2)


@pytest.mark.parametrize("name", MODELS)
def test_a_volume_is_predicted_in_tiles(name):
    model = load("models", name, **MODELS[name])
    raw = Volume(np.random.default_rng(0).integers(0, 255, (9, 30, 31), np.uint8), Grid((40, 4, 4)))
    affinities = predict(model, raw, NEAREST, tile_shape=model.output_shape((8, 16, 16)))
    affinities.check()
    assert affinities.shape == raw.shape


@pytest.mark.parametrize(
    ("shape", "nearest"), [((3, 17, 64), "4, 16 or 24, 64"), ((4, 8, 15), "4, 16, 16"), ((4, 16, 16), None)]
)
def test_sizes_that_do_not_fit_are_refused_with_the_nearest_that_do(shape, nearest):
    model = load("models", "monai-unet", features=[2, 2, 2, 2], strides=[[1, 2, 2], [2, 2, 2], [1, 2, 2]])
    assert model.stride == (2, 8, 8)
    assert model.input_shape((1, 17, 64)) == (4, 24, 64)
    if nearest is None:
        assert model.output_shape(shape) == shape
        return
    with pytest.raises(InvalidShape, match=rf"nearest valid sizes are \({nearest}\)"):
        model.output_shape(shape)


def test_no_weight_is_in_a_checkpoint_twice():
    weights = load("models", "monai-dynunet", **MODELS["monai-dynunet"]).state_dict().values()
    assert len({weight.data_ptr() for weight in weights if weight.numel() > 1}) == sum(w.numel() > 1 for w in weights)
    twice = DynUNet(3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8]).state_dict()  # why it is taken out
    assert len({weight.data_ptr() for weight in twice.values()}) < len(twice)


@pytest.mark.parametrize(
    ("name", "parameters", "culprit"),
    [
        ("monai-unet", {"features": [4, 8]}, "features"),
        ("monai-unet", {"strides": [[0, 2, 2], [2, 2, 2], [2, 2, 2]]}, "strides"),
        ("monai-unet", {"residual_units": -1}, "residual_units"),
        ("monai-dynunet", {"kernels": [[3, 3, 3]]}, "kernels"),
        ("monai-dynunet", {**THREE, "kernels": [[3, 3, 3], [2, 3, 3], [3, 3, 3]]}, "kernels"),
        ("monai-dynunet", {**SMALL, "kernels": [[3, 3, 3], [3, 3, 3]]}, "at least 3 levels"),
        ("monai-segresnet", {"blocks_up": [1]}, "blocks_up"),
        ("monai-segresnet", {"features": 0}, "features"),
        ("monai-mednext", {"blocks": [2], "expansion": [2]}, "at least 2 levels"),
        ("monai-mednext", {"blocks": [2, 2]}, "expansion"),
        ("monai-mednext", {"blocks": [2, 0, 2, 2, 2]}, "blocks"),
        ("monai-mednext", {"kernel": 4}, "odd"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(name, parameters, culprit):
    with pytest.raises(InvalidParameter, match=culprit):
        load("models", name, **parameters)


def test_listing_and_showing_import_no_monai():
    code = (
        "import sys; from segkit.registry import components\n"
        "own = [c for kind in ('models', 'losses') for c in components(kind) if c.distribution == 'segkit-monai']\n"
        "assert len(own) == 7 and all(c.parameters() for c in own)\n"
        "sys.exit('monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_making_a_network_prints_and_warns_nothing():
    code = "from segkit.registry import load; load('models', 'monai-unet', features=[2, 2], strides=[[2, 2, 2]])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
