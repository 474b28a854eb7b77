"""Losses and augmentation on a device that has no float64, as MPS: one made up here, whose tensors lie on the CPU."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only
from training_helpers import TINY, tubes

from segkit.data import NEAREST
from segkit.losses import malis_device
from segkit.registry import load
from segkit.testing.predictions import random_prediction
from segkit.train import TrainConfig
from segkit.train.augment.finish import collate, finish
from segkit.train.data import PatchDataset
from segkit.train.patch import Patch

NAMES = ("logits", "target", "labels", "mask", "edges")


class There(torch.Tensor):
    """A tensor of the device, called "meta": the values are those of `inner`."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        strides, first = inner.stride(), inner.storage_offset()
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=strides, storage_offset=first, dtype=inner.dtype, device="meta"
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} was called outside WithoutFloat64")


class WithoutFloat64(TorchDispatchMode):
    """Inside, what is made or moved to the device must not be float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = []

        def values(each):
            if not isinstance(each, There):
                return each
            known.append(each)
            return each.inner

        given, options = tree_map(values, (args, dict(kwargs or {})))
        stays = bool(known)
        if options.get("device") is not None:
            stays, options["device"] = torch.device(options["device"]).type == "meta", "cpu"

        def there(tensor):
            if tensor.dtype == torch.float64:
                raise TypeError(f"{func}: the device has no float64")
            same = [each for each in known if each.inner is tensor]  # of operations in place
            return same[0] if same else There(tensor)

        found = func(*given, **options)
        return tree_map_only(torch.Tensor, there, found) if stays else found


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setitem(malis_device.WIDEST, "meta", torch.float32)
    with WithoutFloat64():
        yield torch.device("meta")


def test_the_device_refuses_float64(device):
    moved = torch.arange(3.0).to(device)
    assert (moved.cpu() == torch.arange(3.0)).all() and moved.device.type == "meta"
    for refused in (moved.double, lambda: torch.zeros(2, dtype=torch.float64, device=device)):
        with pytest.raises(TypeError, match="no float64"):
            refused()


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("name", ["constrained-malis", "malis", "mse", "bce"])
def test_losses_are_those_of_the_cpu(device, name, balanced):
    loss = load("losses", name, **({"balanced": balanced} if "malis" in name else {}))
    prediction = random_prediction(batch=1)
    leaf = prediction.logits.clone().requires_grad_()
    expected = loss(replace(prediction, logits=leaf))[0]
    (slopes,) = torch.autograd.grad(expected, leaf)
    moved = replace(prediction, **{each: getattr(prediction, each).to(device) for each in NAMES})
    moved.logits.requires_grad_()
    found = loss(moved)[0]
    (gradient,) = torch.autograd.grad(found, moved.logits)
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.cpu(), slopes, rtol=1e-6, atol=1e-9)


def test_augmentation_is_that_of_the_cpu(device):
    always = {"probability": 1.0}
    settings = {"affine": always, "elastic": always, "sections": {"shift": 0.5, "displacement": (2.0, 2.0)}}
    config = TrainConfig(**TINY | {"augmentation": settings})
    patches = PatchDataset(config, [tubes()], Patch((4, 12, 12), (2, 8, 8), 3), NEAREST)
    batch = collate([patches[0], patches[1]])
    expected, found = finish(batch, NEAREST), finish(batch.to(device), NEAREST)
    for name, value in expected.items():
        assert found[name].device.type == "meta"
        torch.testing.assert_close(found[name].cpu(), value, rtol=1e-6, atol=1e-6)
