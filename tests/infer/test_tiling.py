import numpy as np
import pytest
import torch
from torch import nn

from segkit import Grid, Volume
from segkit.errors import InvalidInput, InvalidShape
from segkit.infer import predict
from segkit.models import scale_intensity
from segkit.models.fcn import FCN
from segkit.models.unet2d import UNet2D
from segkit.models.unet2d_padded import UNet2D3Sections, UNet2DPadded
from segkit.models.unet3d import UNet3D

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
PLANAR = NEAREST[1:]
GRID = Grid((40, 4, 4), (0, 8, 8))


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def _volume(*shape, dtype=np.uint8):
    values = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    return Volume(values if dtype == np.uint8 else (values / 255).astype(dtype), GRID)


def _model(kind, **parameters):
    torch.manual_seed(1)
    model = kind(**parameters)
    with torch.inference_mode():  # statistics that evaluation can use
        sizes = model.input_shape((16,) * model.ndim)
        model.train()(torch.rand(2, model.sections, *sizes) * 2 - 1)
    return model


def _unet3d(**parameters):
    return _model(UNet3D, **{"features": 3, "growth": 2, "pooling": ((1, 2, 2), (1, 2, 3)), **parameters})


def _zeroed(array, neighborhood):
    """0 in the first planes, for offsets of -1."""
    for channel, offset in zip(array, neighborhood, strict=True):
        np.moveaxis(channel, int(np.flatnonzero(offset)[0]), 0)[0] = 0
    return array


@pytest.mark.parametrize("shape", [(14, 30, 41), slow((12, 24, 33)), slow((25, 21, 34))])
def test_tilings_of_a_valid_model_agree_with_the_whole(shape):
    """The whole: the network on the reflected volume, in one call, without any of the tiling."""
    model, raw = _unet3d().eval(), _volume(*shape)
    half = [c // 2 for c in model.context]
    window = model.input_shape(shape)
    widths = [(h, n - s - h) for h, n, s in zip(half, window, shape, strict=True)]
    padded = np.pad(scale_intensity(raw.array), widths, mode="reflect")
    with torch.inference_mode():
        whole = model(torch.from_numpy(padded)[None, None])[0].sigmoid().numpy()
    expected = _zeroed(whole[(slice(None), *map(slice, shape))], NEAREST)
    for tile in (None, (5, 4, 6), (3, 8, 12)):
        tile = tile and model.output_shape(model.input_shape(tile))
        result = predict(model, raw, NEAREST, tile_shape=tile, batch_size=3)
        np.testing.assert_allclose(result.array, expected, atol=1e-5)
        assert result.grid == GRID and result.neighborhood.tolist() == [list(o) for o in NEAREST]
        result.check()


@pytest.mark.parametrize("pooling", [slow(((2, 2, 2),)), ((2, 2, 2), (3, 3, 3))])
def test_tilings_of_isotropic_models_agree(pooling):
    model, raw = _unet3d(pooling=pooling), _volume(27, 26, 31)
    two = model.output_shape(model.input_shape([2 * s for s in model.stride]))
    results = [predict(model, raw, NEAREST, tile_shape=tile).array for tile in (two, None)]
    np.testing.assert_allclose(*results, atol=1e-5)
    assert results[0].std() > 0.01


def test_a_single_section_of_a_2d_model_is_the_network_itself():
    model, raw = _model(UNet2D, features=3, levels=3).eval(), _volume(2, 60, 70)
    half = model.context[0] // 2
    inputs = np.pad(scale_intensity(raw.array[1]), [(half, half + 40)] * 2, mode="reflect")
    size = [model.input_shape(n)[0] for n in ((60, 1), (70, 1))]
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs[: size[0], : size[1]])[None, None])[0].sigmoid().numpy()
    for tile in (None, model.output_shape(model.input_shape((20, 20)))):
        result = predict(model, raw, PLANAR, tile_shape=tile, batch_size=2).array[:, 1]
        inner = (slice(None), slice(1, 60), slice(1, 70))
        np.testing.assert_allclose(result[inner], expected[inner], atol=1e-5)


class Probe(nn.Module):
    """A padding "network" whose answer is known: the logit of one input section, voxel by voxel."""

    ndim, context = 2, (0, 0)

    def __init__(self, sections, of, stride=(1, 1)):
        super().__init__()
        self.sections, self.of, self.stride = sections, of, stride

    def output_shape(self, shape):
        return tuple(shape)

    def input_shape(self, shape):
        return tuple(-(-n // s) * s for n, s in zip(shape, self.stride, strict=True))

    def forward(self, raw):
        scaled = (raw[:, self.of : self.of + 1] + 1) / 2
        return torch.logit(scaled.clamp(0.01, 0.99))


class Mixed(nn.Module):
    """A 3-D network with a layer for single sections: its weights have five axes, and four."""

    ndim, sections, stride, context = 3, 1, (1, 1, 1), (0, 0, 0)

    def __init__(self):
        super().__init__()
        self.volumes, self.planes = nn.Conv3d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def output_shape(self, shape):
        return tuple(shape)

    input_shape = output_shape

    def forward(self, raw):
        return torch.stack([self.planes(section) for section in self.volumes(raw).unbind(2)], 2)


@pytest.mark.parametrize(("precision", "error"), [("32", 1e-6), ("bf16", 0.02)])
def test_a_3d_network_may_have_2d_layers(precision, error):
    torch.manual_seed(0)
    network, raw = Mixed(), _volume(4, 12, 14)
    found = predict(network, raw, [(0, 0, -1)], margin=(0, 0, 0), precision=precision).array[0]
    with torch.inference_mode():
        exact = network(torch.from_numpy(raw.array / np.float32(127.5) - 1)[None, None]).sigmoid()[0, 0].numpy()
    np.testing.assert_allclose(found[..., 1:], exact[..., 1:], rtol=0, atol=error)


@pytest.mark.parametrize("stride", [(1, 1), (8, 4)])
@pytest.mark.parametrize("tile", [None, (8, 8), (16, 40), (64, 64)])
def test_blending_changes_nothing_where_tiles_agree(stride, tile):
    raw = _volume(3, 30, 45)
    result = predict(Probe(1, 0, stride), raw, [(0, 0, -1)], tile_shape=tile, batch_size=4).array[0]
    np.testing.assert_allclose(result[..., 1:], np.clip(raw.array / 255, 0.01, 0.99)[..., 1:], atol=1e-5)


@pytest.mark.parametrize(("of", "sections"), [(0, [1, 0, 1, 2]), (1, [0, 1, 2, 3]), (2, [1, 2, 3, 2])])
def test_neighbouring_sections_are_reflected_at_the_ends(of, sections):
    raw = _volume(4, 6, 7)
    result = predict(Probe(3, of), raw, [(0, -1, 0)]).array[0]
    expected = np.clip(raw.array[sections] / 255, 0.01, 0.99)
    np.testing.assert_allclose(result[:, 1:], expected[:, 1:], atol=1e-5)


def test_a_stack_of_one_section_is_its_own_neighbour():
    raw = _volume(1, 6, 7)
    a, b = (predict(Probe(3, of), raw, [(0, -1, 0)]).array for of in (0, 2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [FCN, UNet2DPadded, UNet2D3Sections])
def test_padding_models_take_any_size(kind):
    options = {} if kind is FCN else {"features": 3, "levels": 3}
    model, raw = _model(kind, **options), _volume(3, 37, 50)
    one = predict(model, raw, PLANAR)
    assert one.array.shape == (2, 3, 37, 50)
    one.check()
    inside = (slice(None), slice(None), slice(1, None), slice(1, None))
    tiled = predict(model, raw, PLANAR, tile_shape=(32, 32))
    assert np.abs(one.array - tiled.array)[inside].mean() < 0.05
    np.testing.assert_allclose(predict(model, raw, PLANAR, batch_size=2).array, one.array, atol=1e-5)


@pytest.mark.parametrize("margin", [(0, 0, 0), (1, 5, 8), (4, 20, 30)])
def test_margins_are_context_and_no_output(margin):
    """A voxel of a network that answers voxel by voxel does not depend on them; of one that sees further it does."""
    raw = _volume(7, 41, 50)
    found = predict(Probe(1, 0, (8, 4)), raw, [(0, 0, -1)], tile_shape=(96, 96), margin=margin).array[0]
    np.testing.assert_allclose(found[..., 1:], np.clip(raw.array / 255, 0.01, 0.99)[..., 1:], atol=1e-5)
    model = _unet3d(padding="same")
    plain, other = (predict(model, raw, NEAREST, margin=each).array for each in (None, margin))
    assert other.shape == plain.shape and not np.array_equal(other, plain)


def test_no_margin_and_one_tile_is_the_network_itself():
    model, raw = _unet3d(padding="same").eval(), _volume(6, 24, 36)
    with torch.inference_mode():
        expected = model(torch.from_numpy(scale_intensity(raw.array))[None, None])[0].sigmoid().numpy()
    found = predict(model, raw, NEAREST, margin=(0, 0, 0)).array
    np.testing.assert_allclose(found, _zeroed(expected, NEAREST), atol=1e-5)


def test_padding_3d_model():
    model, raw = _unet3d(padding="same"), _volume(5, 26, 31)
    result = predict(model, raw, NEAREST, tile_shape=(4, 16, 24))
    assert result.shape == (5, 26, 31)
    result.check()


def test_the_module_is_left_as_it_was():
    model, raw = _unet3d(normalisation="batch").train(), _volume(12, 30, 40)
    model.down[0].eval()
    modes = [part.training for part in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    held = [(tensor.data_ptr(), tensor.stride()) for tensor in model.state_dict().values()]
    predict(model, raw, NEAREST, precision="bf16")
    assert [(tensor.data_ptr(), tensor.stride()) for tensor in model.state_dict().values()] == held
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_modes_come_back_after_an_error():
    model = _unet3d().train()
    with pytest.raises(InvalidInput, match="offset for each of the network's 3 channels"):
        predict(model, _volume(12, 30, 40), PLANAR)
    assert model.training


def test_progress_counts_tiles():
    seen = []
    predict(Probe(1, 0), _volume(5, 4, 4), [(0, 0, -1)], batch_size=2, progress=lambda *call: seen.append(call))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_dtypes_agree():
    model = _unet3d()
    a, b = (predict(model, _volume(12, 30, 40, dtype=dtype), NEAREST).array for dtype in (np.uint8, np.float32))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_bfloat16_is_near():
    model, raw = _unet3d(), _volume(12, 30, 40)
    exact, rough = (predict(model, raw, NEAREST, precision=p).array for p in ("32", "bf16"))
    assert rough.dtype == np.float32 and 0 < np.abs(exact - rough).max() < 0.05


def test_a_volume_smaller_than_the_context():
    model = _unet3d()
    least = tuple(c // 2 + 1 for c in model.context)
    predict(model, _volume(*least), NEAREST)
    with pytest.raises(InvalidShape, match=rf"smaller than the context .*\({least[0]}, {least[1]}, {least[2]}\)"):
        predict(model, _volume(least[0] - 1, *least[1:]), NEAREST)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_shape": (3, 7, 7)}, "nearest"),
        ({"batch_size": 0}, "batch_size"),
        ({"precision": "16"}, "precision"),
        ({"device": "tpu"}, "device"),
        ({"margin": (1, 2)}, "margin must be three whole numbers"),
        ({"margin": (1.5, 2, 2)}, "margin must be three whole numbers"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidInput, match=message):
        predict(_unet3d(), _volume(12, 30, 40), NEAREST, **options)


def test_bad_raw():
    with pytest.raises(InvalidInput, match="divide"):
        predict(_unet3d(), Volume(np.full((12, 30, 40), 200.0), GRID), NEAREST)


def test_a_network_that_gives_nan():
    model = _unet3d()
    nn.init.constant_(model.output.bias, float("nan"))
    with pytest.raises(InvalidInput, match="NaN"):
        predict(model, _volume(12, 30, 40), NEAREST)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    model, raw = _unet3d(), _volume(14, 40, 50)
    cpu, gpu = (predict(model, raw, NEAREST, device=device).array for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu, cpu, atol=2e-3)
    assert next(model.parameters()).device.type == "cpu"
