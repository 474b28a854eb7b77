import itertools
import math

import pytest
import torch
from torch import nn

import segkit
from segkit.errors import InvalidParameter, InvalidShape
from segkit.models.unet3d import UNet3D

SMALL = {"features": 2, "growth": 2, "channels": 2}
ISOTROPIC = ((2, 2, 2), (2, 2, 2), (3, 3, 3))


def _meta(**parameters):
    with torch.device("meta"):
        return UNet3D(**parameters)


def test_published_network():
    model = _meta()
    assert sum(p.numel() for p in model.parameters()) == 87_753_495
    assert model.stride == (1, 27, 27) and model.context == (28, 212, 212)
    assert model.output_shape((84, 268, 268)) == (56, 56, 56)
    assert model.output_shape((84, 430, 430)) == (56, 218, 218)
    assert model.input_shape((56, 56, 56)) == (84, 268, 268)
    assert model(torch.zeros(1, 1, 84, 268, 268, device="meta")).shape == (1, 3, 56, 56, 56)


def test_isotropic_network():
    model = _meta(features=12, growth=6, pooling=ISOTROPIC)
    assert model.stride == (12, 12, 12)
    shape = model.input_shape((40, 40, 40))
    assert model(torch.zeros(1, 1, *shape, device="meta")).shape[2:] == model.output_shape(shape)


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        # The coarse features are kept, so the first convolution above takes 2 + 4, not 2 + 2; no transposed kernel.
        ({"upsampling": "constant"}, 27 * 2 * 2 - (4 * 2 * 4 + 2)),
        ({"merge_convolution": True}, (4 * 2 + 2) - 27 * 2 * 2),
        ({"normalisation": "batch"}, 2 * (2 * 4 + 4 * 2)),
        ({"normalisation": "group"}, 2 * (2 * 4 + 4 * 2)),
        ({"normalisation": "instance"}, 2 * (2 * 4 + 4 * 2)),
        ({"padding": "same"}, 0),
    ],
)
def test_parameters_of_the_options(options, extra):
    def count(model):
        return sum(p.numel() for p in model.parameters())

    small = {**SMALL, "pooling": ((1, 2, 2),)}
    assert count(_meta(**small, **options)) - count(_meta(**small)) == extra


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("upsampling", ["transposed", "constant"])
@pytest.mark.parametrize("pooling", [(), ((1, 2, 3),), ((2, 1, 2), (1, 2, 3)), ISOTROPIC])
def test_every_size_is_valid_as_stated_or_refused(padding, upsampling, pooling):
    """Against the layers themselves, run without the check of sizes."""
    model = _meta(**SMALL, pooling=pooling, padding=padding, upsampling=upsampling, merge_convolution=True)
    good = [axis.first for axis in model._axes]
    works = 0
    for axis, size in itertools.product(range(3), range(1, max(good) + 26)):
        shape = [size if a == axis else g for a, g in enumerate(good)]
        actual = _run_layers(model, shape)
        if actual is None:
            with pytest.raises(InvalidShape, match="nearest valid sizes"):
                model.output_shape(shape)
        else:
            works += 1
            assert model.output_shape(shape) == actual
            assert tuple(i - o for i, o in zip(shape, actual, strict=True)) == model.context
    assert works >= 3


def _run_layers(model, shape):
    """Sizes by torch's own layers on the meta device; None where a pooling would drop voxels or nothing is left."""
    dropped = []

    def watch(layer, inputs):
        factors = layer.kernel_size
        dropped.extend(s % f for s, f in zip(inputs[0].shape[2:], factors, strict=True))

    hooks = [m.register_forward_pre_hook(watch) for m in model.modules() if isinstance(m, nn.MaxPool3d)]
    checked, model._check_input = model._check_input, lambda raw: None
    try:
        result = model(torch.zeros(1, 1, *shape, device="meta")).shape[2:]
    except RuntimeError:
        return None
    finally:
        model._check_input = checked
        for hook in hooks:
            hook.remove()
    return None if any(dropped) or min(result) < 1 else tuple(result)


@pytest.mark.parametrize("size", [1, 5, 50, 56, 57, 83, 200])
def test_input_shape_is_the_smallest(size):
    model = _meta()
    chosen = model.input_shape((1, 1, size))[2]
    valid = [n for n in range(1, 600) if _valid(model, (29, 214, n))]
    assert chosen == min(n for n in valid if n - 212 >= size)


def _valid(model, shape):
    try:
        return bool(model.output_shape(shape))
    except InvalidShape:
        return False


def test_nearest_sizes_are_named_and_valid():
    with pytest.raises(InvalidShape, match=r"\(84, 214, 268 or 295\)"):
        _meta().output_shape((84, 200, 270))
    with pytest.raises(InvalidShape, match=r"\(29, 214, 241\)"):
        _meta()(torch.zeros(1, 1, 3, 3, 241, device="meta"))


@pytest.mark.parametrize("shape", [(1, 2, 40, 40, 40), (1, 1, 40, 40), (40, 40, 40)])
def test_wrong_axes(shape):
    with pytest.raises(InvalidShape, match=r"\(B, 1, Z, Y, X\)"):
        _meta(**SMALL)(torch.zeros(shape, device="meta"))


@pytest.mark.parametrize("upsampling", ["transposed", "constant"])
def test_moves_with_its_input_on_the_lattice_only(upsampling):
    torch.manual_seed(0)
    model = UNet3D(**SMALL, pooling=((1, 2, 2), (1, 3, 2)), upsampling=upsampling, merge_convolution=True).eval()
    assert model.stride == (1, 6, 4)
    raw = torch.rand(1, 1, 26, 70, 64)
    window = model.input_shape((3, 8, 6))
    outputs = model.output_shape(window)

    def at(*start):
        cut = (..., *(slice(s, s + n) for s, n in zip(start, window, strict=True)))
        return model(raw[cut])

    with torch.inference_mode():
        whole = at(0, 0, 0)
        for axis, stride in enumerate(model.stride):
            moved = [stride if a == axis else 0 for a in range(3)]
            here = (..., *(slice(m, None) for m in moved))
            there = (..., *(slice(0, n - m) for n, m in zip(outputs, moved, strict=True)))
            torch.testing.assert_close(at(*moved)[there], whole[here], atol=1e-6, rtol=1e-5)
        assert not torch.allclose(at(0, 1, 0)[..., :-1, :], whole[..., 1:, :], atol=1e-3)


def test_initialisation_follows_the_seed_and_keeps_the_scale():
    def made(seed):
        torch.manual_seed(seed)
        return UNet3D(features=8, growth=2, pooling=((1, 2, 2), (1, 2, 2)))

    one, same, other = made(1), made(1), made(2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.output.weight, other.output.weight)
    convolution = one.down[1][2]
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (27 * 16)), rel=0.05)
    with torch.inference_mode():
        logits = one(torch.rand(1, 1, *one.input_shape((4, 8, 8))) * 2 - 1)
    assert 0.02 < logits.std() < 5


def test_learns_a_rule():
    """Two classes told apart by the sign of a neighbourhood's mean: the loss must fall well below chance."""
    torch.manual_seed(0)
    model = UNet3D(channels=1, features=6, growth=2, pooling=((1, 2, 2),))
    raw = nn.functional.interpolate(torch.rand(1, 1, 5, 10, 10), scale_factor=4) * 2 - 1
    shape = model.input_shape((2, 12, 12))
    raw = raw[(..., *(slice(0, n) for n in shape))]
    inner = (..., *(slice(c // 2, n - c // 2) for n, c in zip(shape, model.context, strict=True)))
    target = (raw[inner] > 0).float()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(raw), target)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"features": 0}, "features"),
        ({"growth": 0}, "growth"),
        ({"channels": 0}, "channels"),
        ({"pooling": [[1, 0, 2]]}, "pooling"),
        ({"pooling": [[1, 2]]}, "pooling"),
        ({"padding": "some"}, "padding"),
        ({"normalisation": "l2"}, "normalisation"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(InvalidParameter, match=message):
        segkit.load("models", "unet3d", **parameters)
