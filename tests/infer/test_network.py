import numpy as np
import pytest
import torch

from segkit.errors import InvalidInput
from segkit.infer.network import answers, check_precision, scaled, to_device
from segkit.models import scale_intensity
from segkit.models.inputs import FULL_SCALE

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_torch_scales_integers_as_training_does_to_the_last_bit(dtype):
    values = np.arange(FULL_SCALE[np.dtype(dtype)] + 1).astype(dtype)
    found = scaled(torch.from_numpy(values), FULL_SCALE[np.dtype(dtype)])
    np.testing.assert_array_equal(found.numpy(), scale_intensity(values))
    np.testing.assert_array_equal(to_device(values, CPU).numpy(), scale_intensity(values))


def test_answers_are_the_sigmoid_of_the_networks():
    raw = np.random.default_rng(0).random((2, 1, 3, 4, 5), np.float32)
    inputs = iter([("first", raw), ("second", raw[:1])])
    found = {name: fetch() for name, fetch in answers(torch.nn.Identity(), _closing(inputs), CPU, "32")}
    assert list(found) == ["first", "second"]
    for got, given in zip(found.values(), (raw, raw[:1]), strict=True):
        np.testing.assert_allclose(got, 1 / (1 + np.exp(-(2 * given - 1))), atol=1e-6)


def _closing(items):
    yield from items


@pytest.mark.parametrize("precision", ["16", "fp16", "64"])
def test_precisions_of_a_cpu(precision):
    with pytest.raises(InvalidInput, match="precision must be"):
        check_precision(precision, CPU)


def test_accelerators_take_float16():
    check_precision("fp16", torch.device("cuda"))
