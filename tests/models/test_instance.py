"""Instance normalisation against torch's own in float64, and where it leaves the channels."""

import numpy as np
import pytest
import torch
from torch import nn

from segkit.models import _instance
from segkit.models._instance import InstanceNorm2d, InstanceNorm3d, instance_norm
from segkit.models.device import LAYOUT
from segkit.threads import set_thread_limit

KINDS = {4: (InstanceNorm2d, nn.InstanceNorm2d), 5: (InstanceNorm3d, nn.InstanceNorm3d)}
SHAPES = [(1, 5, 9, 10, 11), (3, 4, 2, 6, 7), (2, 3, 12, 17)]


def made(shape, dtype=torch.float32):
    """Features whose channels differ in mean and spread, weights and bias."""
    torch.manual_seed(len(shape))
    channels = torch.arange(1.0, shape[1] + 1, dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 2))
    features = torch.randn(shape, dtype=torch.float64) * channels + channels
    weight, bias = torch.rand(2, shape[1], dtype=torch.float64) + 0.5
    return features.to(dtype).contiguous(memory_format=LAYOUT[len(shape)]), weight.to(dtype), bias.to(dtype)


def gradients(layer, features, weight, bias):
    """The output, and the gradients of its sum weighted by numbers that differ."""
    leaves = [
        each.detach().clone(memory_format=torch.preserve_format).requires_grad_() for each in (features, weight, bias)
    ]
    found = layer(*leaves)
    factors = torch.linspace(-1, 2, found.numel()).bfloat16().to(found.dtype)
    (found * factors.reshape(found.shape)).sum().backward()
    return [each.detach().double() for each in (found, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize("shape", [*SHAPES, (1, 3, 20, 15, 16)])
def test_outputs_and_gradients_are_torchs(shape):
    """The last of them has several pieces."""
    own = gradients(lambda x, w, b: instance_norm(x, w, b, 1e-5), *made(shape))
    exact = gradients(lambda x, w, b: nn.functional.instance_norm(x, weight=w, bias=b), *made(shape, torch.float64))
    for found, expected in zip(own, exact, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-3 * float(expected.abs().max()))
    torch.testing.assert_close(own[0], exact[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_stay_last(shape):
    features, *_ = made(shape)
    layer = KINDS[len(shape)][0](shape[1], affine=True)
    assert layer(features).is_contiguous(memory_format=LAYOUT[len(shape)])


@pytest.mark.parametrize("shape", SHAPES)
def test_where_channels_come_first_it_is_torchs_to_the_last_bit(shape):
    features = made(shape)[0].contiguous()
    own, torchs = (kind(shape[1], affine=True) for kind in KINDS[len(shape)])
    assert own.state_dict().keys() == torchs.state_dict().keys()
    assert torch.equal(own(features), torchs(features))


def test_bfloat16_is_as_near_as_its_numbers_allow():
    features, weight, bias = made((1, 4, 12, 20, 20))
    rough = gradients(lambda x, w, b: instance_norm(x, w, b, 1e-5), features.bfloat16(), weight, bias)
    exact = gradients(
        lambda x, w, b: nn.functional.instance_norm(x, weight=w, bias=b),
        *(each.double() for each in (features.bfloat16(), weight, bias)),
    )
    assert instance_norm(features.bfloat16(), weight, bias, 1e-5).dtype == torch.bfloat16
    for found, expected in zip(rough, exact, strict=True):
        torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-7 * max(1, float(expected.abs().max())))


def test_numbers_are_rounded_to_bfloat16_as_torch_rounds_them():
    numbers = torch.tensor([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, 1e-40, -0.1, float("inf"), float("nan")])
    found = np.empty((len(numbers), 1), np.uint16)
    factors = np.float32([[1], [0], [0]])
    zeros = np.zeros((len(numbers), 1), np.float32)
    _instance.kernels().combine(0, len(numbers), zeros, numbers[:, None].numpy(), factors, found)
    torch.testing.assert_close(
        torch.from_numpy(found).view(torch.bfloat16)[:, 0], numbers.bfloat16(), rtol=0, atol=0, equal_nan=True
    )


def test_means_of_many_voxels_are_exact():
    """Equal numbers are the worst case, for each addition rounds the same way; torch is off with channels last."""
    features = torch.full((1, 2, 16, 512, 512), 0.1).contiguous(memory_format=LAYOUT[5])
    features[:, 1] += torch.linspace(0, 1, 512)
    mean, variance = _instance._statistics(features)
    exact = features.double()
    torch.testing.assert_close(mean, exact.mean((0, 2, 3, 4)), rtol=1e-12, atol=0)
    whole, _ = torch.ops.aten.batch_norm_update_stats(features, None, None, 0.0)
    assert (whole.double() - exact.mean((0, 2, 3, 4))).abs().max() > 3e-3
    expected = exact.var((0, 2, 3, 4), correction=0)
    torch.testing.assert_close(variance[1:], expected[1:], rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [2, 12, 37])
def test_threads_change_no_bit(channels, dtype):
    features, weight, bias = made((1, channels, 9, 50, 60))
    features, found = features.to(dtype), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)  # one again after the test, see conftest.py
        set_thread_limit(threads)
        found.append(gradients(lambda x, w, b: instance_norm(x, w, b, 1e-5), features, weight, bias))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("shape", [(1, 4, 1, 1, 1), (2, 4, 1, 1)])
def test_a_single_voxel_is_refused_wherever_channels_lie(shape):
    """Less itself it is 0: whatever the network saw, the bias would come out."""
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        instance_norm(*made(shape), 1e-5)


def test_a_network_all_in_bfloat16():
    """Weights and bias have its numbers then; their gradients too."""
    rough = gradients(lambda x, w, b: instance_norm(x, w, b, 1e-5), *made((2, 4, 6, 9, 8), torch.bfloat16))
    exact = gradients(
        lambda x, w, b: nn.functional.instance_norm(x, weight=w, bias=b),
        *(each.double() for each in made((2, 4, 6, 9, 8), torch.bfloat16)),
    )
    for found, expected in zip(rough, exact, strict=True):
        torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-7 * max(1, float(expected.abs().max())))


@pytest.mark.parametrize("options", [{}, {"affine": True, "track_running_stats": True}], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_layers_without_weights_or_with_statistics_are_torchs(shape, options):
    features, *_ = made(shape)
    own, torchs = (kind(shape[1], **options) for kind in KINDS[len(shape)])
    slopes = []
    for layer in (own, torchs):
        given = features.clone(memory_format=torch.preserve_format).requires_grad_()
        layer(given).pow(3).sum().backward()
        slopes.append(given.grad)
    torch.testing.assert_close(*slopes)
    for name, values in torchs.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], values, msg=name)
    assert torch.equal(own.eval()(features), torchs.eval()(features))


def test_an_item_without_a_batch_is_normalised_as_one():
    """Of the four axes of it the first are its channels, not items."""
    features = made((4, 3, 12, 17))[0]
    own, torchs = (kind(4, affine=True) for kind in KINDS[5])
    torch.testing.assert_close(own(features), torchs(features), rtol=0, atol=1e-5)
