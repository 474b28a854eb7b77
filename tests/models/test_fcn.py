import pytest
import torch
from torch import nn

from segkit.errors import InvalidParameter, InvalidShape
from segkit.models.fcn import FCN


def test_layers():
    model = FCN(channels=2)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [8, 32, 32, 32, 8, 2]
    assert {c.kernel_size for c in convolutions} == {(5, 5)}
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 5
    weights = 25 * (1 * 8 + 8 * 32 + 2 * 32 * 32 + 32 * 8 + 8 * 2)
    biases, normalisation = 8 + 3 * 32 + 8 + 2, 2 * (8 + 3 * 32 + 8)
    assert sum(p.numel() for p in model.parameters()) == weights + biases + normalisation


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (17, 30)])
def test_any_size(shape):
    model = FCN(channels=3).eval()
    assert model.output_shape(shape) == model.input_shape(shape) == shape
    assert model(torch.zeros(1, 1, *shape)).shape == (1, 3, *shape)
    assert model.stride == (1, 1) and model.context == (0, 0)


def test_gives_logits():
    torch.manual_seed(0)
    logits = FCN()(torch.rand(1, 1, 40, 40) * 2 - 1)
    assert logits.min() < 0 < logits.max()


def test_refuses():
    with pytest.raises(InvalidParameter, match="channels"):
        FCN(channels=0)
    with pytest.raises(InvalidShape, match="Y, X"):
        FCN()(torch.zeros(1, 1, 4, 4, 4))
