import pytest
import torch
from torch import nn

from segkit.errors import InvalidShape
from segkit.models.unet2d_padded import UNet2D3Sections, UNet2DPadded


def _meta(model, **parameters):
    with torch.device("meta"):
        return model(**parameters)


@pytest.mark.parametrize(("model", "sections"), [(UNet2DPadded, 1), (UNet2D3Sections, 3)])
def test_sizes_of_the_report(model, sections):
    model = _meta(model)
    assert [block[0].out_channels for block in model.down] == [64, 128, 256, 512, 1024]
    assert (model.ndim, model.sections, model.stride, model.context) == (2, sections, (16, 16), (0, 0))
    assert model(torch.zeros(2, sections, 256, 256, device="meta")).shape == (2, 2, 256, 256)
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in model.modules()) == 4


def test_sections_change_the_first_convolution_only():
    def count(model):
        return sum(p.numel() for p in _meta(model).parameters())

    assert count(UNet2D3Sections) - count(UNet2DPadded) == 2 * 9 * 64


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_every_multiple_of_the_stride_is_valid(levels):
    model = _meta(UNet2DPadded, features=2, levels=levels).eval()
    for size in range(1, 70):
        if size % 2 ** (levels - 1) == 0:
            shape = (size, model.stride[1])
            assert model.output_shape(shape) == model.input_shape(shape) == shape
            assert tuple(model(torch.zeros(1, 1, *shape, device="meta")).shape[2:]) == shape
        else:
            with pytest.raises(InvalidShape, match="nearest valid sizes"):
                model.output_shape((size, model.stride[1]))


def test_input_shape_rounds_up():
    assert _meta(UNet2DPadded).input_shape((250, 257)) == (256, 272)


def test_number_of_sections_is_checked():
    with pytest.raises(InvalidShape, match=r"\(B, 3, Y, X\)"):
        _meta(UNet2D3Sections)(torch.zeros(1, 1, 256, 256, device="meta"))
