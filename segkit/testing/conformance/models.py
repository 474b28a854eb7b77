"""The suite for models."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from segkit.data import NEAREST
from segkit.errors import InvalidShape, SegkitError
from segkit.models import load_model, save_model
from segkit.registry import find
from segkit.testing.conformance._base import Conformance, core
from segkit.testing.conformance._compare import assert_same
from segkit.testing.conformance.losses import strided

MOST_SIZES = 400
"""Input sizes along one axis that are tried for validity."""
PADDED_SIZE = 48


class ModelConformance(Conformance):
    """What a model promises; `parameters` should make it small. `channels` is added to them.

    Claims that hold unless the class says otherwise: see the attributes.
    """

    kind = "models"
    channels: ClassVar[int] = len(NEAREST)
    tolerance: ClassVar[float] = 1e-4
    """Convolutions of other sizes, or with other threads, sum in another order."""
    shift_equivariant: ClassVar[bool] = True
    """Whether moving the input by the stride moves the output; normalisation over the tile breaks that."""
    independent_items: ClassVar[bool] = True
    """Whether in evaluation mode each item of a batch is on its own."""

    def create(self, **values: Any) -> torch.nn.Module:
        """The model in evaluation mode, its weights those of seed 0."""
        torch.manual_seed(0)
        return find(self.kind, self.name).create(**{"channels": self.channels} | values).eval()

    def example(self, component: Any, seed: int = 0) -> tuple:
        """One item of the smallest size."""
        return (_raw(component, smallest(component), seed),)

    def call(self, component: Any, *inputs: Any) -> torch.Tensor:
        """The logits."""
        with torch.no_grad():
            return component(*inputs)

    def rearranged(self, inputs: tuple, layout: str) -> tuple:
        """Tensors with other strides."""
        return tuple(strided(each, layout) for each in inputs)

    @core
    def test_attributes(self, component: Any) -> None:
        """ndim, sections, stride and context are what the plug point says."""
        assert component.ndim in (2, 3), f"ndim is {component.ndim!r}"
        assert isinstance(component.sections, int) and component.sections >= 1, f"sections is {component.sections!r}"
        assert component.ndim == 2 or component.sections == 1, "a 3-D model sees sections along z, not as channels"
        for name, least in (("stride", 1), ("context", 0)):
            sizes = getattr(component, name)
            valid = len(sizes) == component.ndim and all(isinstance(size, int) and size >= least for size in sizes)
            assert valid, f"{name} is {sizes!r}, not {component.ndim} integers of at least {least}"

    @core
    def test_shapes(self, component: Any) -> None:
        """output_shape, input_shape and context say what forward does."""
        for wanted in ((1,) * component.ndim, tuple(range(2, 2 + component.ndim))):
            shape = component.input_shape(wanted)
            output = component.output_shape(shape)
            logits = self.call(component, _raw(component, shape))
            expected = (1, self.channels, *output)
            assert tuple(logits.shape) == expected, f"{shape} gives {tuple(logits.shape)}, not {expected}"
            context = tuple(a - b for a, b in zip(shape, output, strict=True))
            assert context == tuple(component.context), f"{shape} loses {context}, not {component.context}"
            assert all(a >= b for a, b in zip(output, wanted, strict=True)), f"{wanted} wanted, {output} given"

    @core
    def test_valid_sizes(self, component: Any) -> None:
        """Valid sizes are one stride apart, and input_shape gives the smallest that is large enough."""
        for axis in range(component.ndim):
            sizes = valid_sizes(component, axis)
            steps = {b - a for a, b in pairwise(sizes)}
            assert len(sizes) > 1 and all(component.stride[axis] % step == 0 for step in steps), f"sizes are {sizes}"
            for size in sizes:
                output = component.output_shape(_with(component, axis, size))[axis]
                found = component.input_shape(_with_output(component, axis, output))[axis]
                assert found == size, f"input_shape gives {found} for an output of {output}, and {size} is enough"

    def test_invalid_sizes(self, component: Any) -> None:
        """Invalid sizes raise InvalidShape, in forward too, and the sentence names the nearest valid ones."""
        for axis in range(component.ndim):
            sizes = valid_sizes(component, axis)
            invalid = sorted(set(range(1, sizes[-1])) - set(sizes))
            for size in invalid[:1] + invalid[-1:]:
                shape = _with(component, axis, size)
                nearest = next(valid for valid in sizes if valid > size)
                for call in (component.output_shape, lambda shape: self.call(component, _raw(component, shape))):
                    self._refused(call, shape, nearest)

    def _refused(self, call: Callable, shape: Sequence[int], nearest: int) -> None:
        try:
            call(shape)
        except InvalidShape as error:
            named = [int(number) for number in re.findall(r"\d+", str(error))]
            assert nearest in named, f"{shape} is refused without naming {nearest}: {error}"
        except Exception as error:
            pytest.fail(f"{shape} raises {type(error).__name__}, not InvalidShape: {error}")
        else:
            pytest.fail(f"{shape} was taken without an error")

    def test_wrong_inputs(self, component: Any) -> None:
        """Inputs of another number of sections or axes raise InvalidShape."""
        shape = smallest(component)
        for bad in ((1, component.sections + 1, *shape), (1, component.sections, *shape, shape[-1])):
            with pytest.raises(InvalidShape):
                self.call(component, torch.zeros(bad))

    @core
    def test_translation(self, component: Any) -> None:
        """Moving the input by the stride moves the output, away from borders that are padded."""
        if not self.shift_equivariant:
            pytest.skip("by its own account its output depends on the whole tile")
        for axis in range(component.ndim):
            step = component.stride[axis]
            shape = list(translated_shape(component, axis))
            raw = _raw(component, [size + step * (a == axis) for a, size in enumerate(shape)])
            first, second = raw.narrow(2 + axis, 0, shape[axis]), raw.narrow(2 + axis, step, shape[axis])
            ends = [self.call(component, part) for part in (first, second)]
            size = ends[0].shape[2 + axis] - step
            a, b = ends[0].narrow(2 + axis, step, size), ends[1].narrow(2 + axis, 0, size)
            if not any(component.context):
                here, there = (self._far_from_borders(component, part, axis) for part in (first, second))
                inside = here.narrow(axis, step, size) & there.narrow(axis, 0, size)
                if not inside.any():
                    pytest.skip(f"it pads, and every voxel of {tuple(shape)} sees the border")
                a, b = a[:, :, inside], b[:, :, inside]
            assert_same(a, b, f"after a move by {step} along axis {axis}", self.tolerance)

    def _far_from_borders(self, component: Any, raw: torch.Tensor, axis: int) -> torch.Tensor:
        """bool (spatial): where the logits stay as they are if the outermost voxels along an axis change."""
        changed = raw.clone()
        for side in (0, raw.shape[2 + axis] - 1):
            changed.select(2 + axis, side).add_(3.0)
        moved = (self.call(component, changed) - self.call(component, raw)).abs()
        return moved.amax((0, 1)) == 0

    def test_logits(self, component: Any) -> None:
        """It gives logits, not affinities: values below 0 or above 1 occur."""
        logits = [self.call(component, _raw(component, smallest(component), seed)) for seed in range(3)]
        values = torch.cat([each.reshape(-1) for each in logits])
        assert values.is_floating_point(), f"the logits are {values.dtype}"
        assert values.min() < 0 or values.max() > 1, f"all values lie in {values.min():.3f}..{values.max():.3f}"

    @core
    def test_items(self, component: Any) -> None:
        """In evaluation mode each item of a batch is on its own."""
        if not self.independent_items:
            pytest.skip("by its own account items of a batch influence each other")
        raw = torch.cat([_raw(component, smallest(component), seed) for seed in (0, 1)])
        alone = torch.cat([self.call(component, raw[item : item + 1]) for item in (0, 1)])
        assert_same(alone, self.call(component, raw), "in a batch", self.tolerance)

    def test_channels(self, component: Any, values: Mapping[str, object]) -> None:
        """It gives as many channels as asked for, and refuses none at all."""
        for channels in (1, 5):
            model = self.create(**{**values, "channels": channels})
            found = self.call(model, *self.example(model)).shape[1]
            assert found == channels, f"it gives {found} channels, not {channels}"
        with pytest.raises(SegkitError):
            self.create(**{**values, "channels": 0})

    @core
    def test_gradient(self, component: Any) -> None:
        """Every weight gets a finite gradient."""
        component.train()
        raw = torch.cat([_raw(component, component.input_shape((2,) * component.ndim), seed) for seed in (0, 1)])
        logits = component(raw)
        (logits * torch.linspace(-1, 2, logits.numel()).reshape(logits.shape)).sum().backward()
        for name, weight in component.named_parameters():
            assert weight.grad is not None, f"{name} gets no gradient"
            assert torch.isfinite(weight.grad).all(), f"the gradient of {name} is not finite"

    def test_seed(self, component: Any, values: Mapping[str, object]) -> None:
        """Its weights follow from torch.manual_seed."""
        assert_same(dict(component.state_dict()), dict(self.create(**values).state_dict()), "the second time")

    @core
    def test_files(self, component: Any, values: Mapping[str, object], tmp_path: Path) -> None:
        """It comes back from a checkpoint as it was."""
        if not self.name:
            pytest.skip("it is not registered: state its name")
        path = tmp_path / "model.safetensors"
        offsets = [(-1 - k, 0, 0) for k in range(self.channels)]
        save_model(path, component, name=self.name, parameters=_plain(values), neighborhood=offsets)
        loaded = load_model(path).module
        inputs = self.example(component)
        assert_same(self.call(component, *inputs), self.call(loaded, *inputs), "from the file")

    @core
    @pytest.mark.gpu
    def test_devices(self, component: Any) -> None:
        """A GPU gives the logits of the CPU."""
        expected = self.call(component, *self.example(component))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = self.call(component.cuda(), *(each.cuda() for each in self.example(component)))
        scale = max(1.0, expected.abs().max().item())
        assert_same(expected / scale, found.cpu() / scale, "on the GPU", 10 * self.tolerance)


def smallest(model: Any) -> tuple[int, ...]:
    """The smallest valid input."""
    return tuple(model.input_shape((1,) * model.ndim))


def valid_sizes(model: Any, axis: int) -> list[int]:
    """The valid sizes along one axis, from the smallest to two strides above it."""
    last = smallest(model)[axis] + 2 * model.stride[axis]
    assert last <= MOST_SIZES, f"the smallest valid input has {smallest(model)[axis]} voxels along axis {axis}"
    return [size for size in range(1, last + 1) if _accepts(model, _with(model, axis, size))]


def translated_shape(model: Any, axis: int) -> tuple[int, ...]:
    """An input that is large enough along one axis to be moved by the stride."""
    wanted = model.stride[axis] + 1 if any(model.context) else max(PADDED_SIZE, 4 * model.stride[axis])
    return tuple(model.input_shape([wanted if a == axis else 1 for a in range(model.ndim)]))


def _accepts(model: Any, shape: Sequence[int]) -> bool:
    try:
        model.output_shape(shape)
    except InvalidShape:
        return False
    return True


def _with(model: Any, axis: int, size: int) -> tuple[int, ...]:
    return tuple(size if a == axis else other for a, other in enumerate(smallest(model)))


def _with_output(model: Any, axis: int, size: int) -> tuple[int, ...]:
    return tuple(size if a == axis else 1 for a in range(model.ndim))


def _raw(model: Any, shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Intensities in -1..1."""
    rng = np.random.default_rng(seed)
    return torch.as_tensor(rng.uniform(-1, 1, (1, model.sections, *shape)).astype(np.float32))


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name != "channels"}
