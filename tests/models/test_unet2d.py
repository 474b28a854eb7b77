import pytest
import torch
from torch import nn

from segkit.errors import InvalidParameter, InvalidShape
from segkit.models.unet2d import UNet2D


def _meta(**parameters):
    with torch.device("meta"):
        return UNet2D(**parameters)


def test_classical_widths_and_sizes():
    model = _meta()
    assert [block[0].out_channels for block in model.down] == [64, 128, 256, 512]
    assert (model.ndim, model.sections, model.stride) == (2, 1, (8, 8))
    assert model.output_shape((268, 268)) == (166, 166)
    assert model(torch.zeros(1, 1, 268, 268, device="meta")).shape == (1, 2, 166, 166)


def test_layers():
    model = _meta()
    layers = [type(layer) for layer in model.down[0]]
    assert layers == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    assert all(m.padding == (0, 0) for m in model.modules() if isinstance(m, nn.Conv2d))
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in model.modules())


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_every_size_is_valid_as_stated_or_refused(levels):
    model = _meta(features=2, levels=levels).eval()
    works = 0
    for size in range(1, 140):
        shape = (model.input_shape((1, 1))[0], size)
        try:
            stated = model.output_shape(shape)
        except InvalidShape as error:
            assert "nearest valid sizes" in str(error)
            assert (size - shape[0]) % model.stride[1] or size < shape[0]
            continue
        works += 1
        assert tuple(model(torch.zeros(1, 1, *shape, device="meta")).shape[2:]) == stated
    assert works >= 4


def test_moves_with_its_input_on_the_lattice_only():
    torch.manual_seed(0)
    model = UNet2D(features=4, levels=3).eval()
    size = model.input_shape((24, 24))[0]
    raw = torch.rand(1, 1, size + 4, size)
    with torch.inference_mode():
        whole = model(raw[..., :size, :])
        torch.testing.assert_close(model(raw[..., 4:, :])[..., :-4, :], whole[..., 4:, :], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(model(raw[..., 1:-3, :])[..., :-1, :], whole[..., 1:, :], atol=1e-2)


def test_upsampling_then_convolution_is_the_same():
    """The 1x1 convolution is done first because it is cheaper there; it must commute with interpolation."""
    torch.manual_seed(0)
    convolution, upsampling = UNet2D(features=2, levels=2).up[0]
    nn.init.normal_(convolution.bias)
    features = torch.randn(1, 4, 6, 7)
    larger = nn.functional.interpolate(features, scale_factor=2, mode="bilinear")
    expected = convolution(larger)[..., 1:-1, 1:-1]
    torch.testing.assert_close(upsampling(convolution(features)), expected)


def test_sections_are_input_channels():
    network = UNet2D(features=2, levels=2, sections=3).eval()
    assert network.sections == 3
    raw = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = raw.clone()
    other[:, 0] = 0
    assert network(raw).shape == (1, 2, *network.output_shape((24, 24)))
    assert not torch.equal(network(raw), network(other))
    with pytest.raises(InvalidParameter, match="must be an odd number"):
        UNet2D(sections=2)
