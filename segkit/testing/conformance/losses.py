"""The suite for losses."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segkit.data import NEAREST
from segkit.errors import SegkitError
from segkit.testing.conformance._base import SETTINGS, Conformance, core
from segkit.testing.conformance._compare import assert_same
from segkit.testing.predictions import item_of, predictions, random_prediction

STEP = 0.01
"""Of finite differences, in logits: less than half the distance between two of random_prediction."""
TENSORS = ("logits", "target", "labels", "mask", "edges")


class LossConformance(Conformance):
    """What a loss promises.

    Claims that the plug point does not make, but that hold unless the class says otherwise: see the attributes.
    """

    kind = "losses"
    neighborhood: ClassVar = NEAREST
    """Of all predictions."""
    layout_tolerance: ClassVar[float] = 1e-5
    """torch computes tensors of other strides by other instructions, which may round otherwise."""
    smooth: ClassVar[bool] = True
    """Whether the gradient is that of the loss as it is computed, where no two logits tie."""
    batch_mean: ClassVar[bool] = True
    """Whether a batch of items with equally many edges costs what they cost in the mean."""
    additive_parts: ClassVar[bool] = False
    """True where the parts add up to the loss."""

    def example(self, component: Any, seed: int = 0) -> tuple:
        """A batch of two."""
        return (random_prediction(seed, neighborhood=self.neighborhood),)

    def call(self, component: Any, *inputs: Any) -> tuple[torch.Tensor, Mapping[str, torch.Tensor], torch.Tensor]:
        """The loss and its parts, with the gradient."""
        logits = inputs[0].logits.detach().requires_grad_()
        loss, parts = component(replace(inputs[0], logits=logits))
        gradient = torch.autograd.grad(loss, logits, allow_unused=True)[0] if loss.requires_grad else None
        return loss.detach(), parts, torch.zeros_like(logits) if gradient is None else gradient

    def rearranged(self, inputs: tuple, layout: str) -> tuple:
        """Tensors with other strides."""
        (prediction,) = inputs
        return (replace(prediction, **{name: strided(getattr(prediction, name), layout) for name in TENSORS}),)

    @core
    @given(data=st.data())
    @SETTINGS
    def test_finite(self, component: Any, data: st.DataObject) -> None:
        """It gives a finite float32 scalar and detached parts for every prediction, with a finite gradient."""
        prediction = data.draw(predictions(self.neighborhood))
        logits = prediction.logits.requires_grad_()
        loss, parts = component(replace(prediction, logits=logits))
        assert isinstance(loss, torch.Tensor) and loss.shape == (), f"the loss is {loss!r}, no scalar tensor"
        assert loss.dtype == torch.float32, f"the loss is {loss.dtype}, not float32"
        assert torch.isfinite(loss), f"the loss is {loss.item()}"
        assert loss.requires_grad, "the loss does not depend on the logits"
        loss.backward()
        assert logits.grad is None or torch.isfinite(logits.grad).all(), "the gradient is not finite"
        assert isinstance(parts, Mapping), f"its parts are {parts!r}, not tensors by name"
        for name, part in parts.items():
            assert isinstance(part, torch.Tensor) and part.shape == (), f"part {name!r} is no scalar tensor"
            assert not part.requires_grad, f"part {name!r} is not detached"

    @core
    def test_gradient(self, component: Any) -> None:
        """The gradient is that of finite differences."""
        if not self.smooth:
            pytest.skip("its gradient is by its own account not that of the loss as it is computed")
        (prediction,) = self.example(component)
        gradient = self.call(component, prediction)[2].double()
        rng = torch.Generator().manual_seed(0)
        signs = [torch.randint(0, 2, gradient.shape, generator=rng) * 2.0 - 1 for _ in range(3)]
        for direction in (gradient / gradient.abs().max().clamp(min=1e-12), *signs):
            expected = (gradient * direction).sum().item()
            move = (STEP * direction).float()
            ends = [self.call(component, replace(prediction, logits=prediction.logits + s * move))[0] for s in (1, -1)]
            found = (ends[0] - ends[1]).item() / (2 * STEP)
            close = math.isclose(found, expected, rel_tol=0.02, abs_tol=5e-5 * max(1.0, abs(ends[0].item())))
            assert close, f"along one direction the loss changes by {found:.4g} and the gradient says {expected:.4g}"

    @core
    def test_right_is_better(self, component: Any) -> None:
        """A perfect prediction costs less than a random one, and that less than the opposite one."""
        (prediction,) = self.example(component)
        perfect = 12 * prediction.target - 6
        costs = [
            self.call(component, replace(prediction, logits=logits))[0].item()
            for logits in (perfect, prediction.logits, -perfect)
        ]
        assert costs[0] < costs[1] < costs[2], f"perfect, random and opposite cost {costs}"

    @core
    def test_parts(self, component: Any) -> None:
        """Its parts add up to the loss."""
        if not self.additive_parts:
            pytest.skip("it does not claim that its parts add up")
        loss, parts, _ = self.call(component, *self.example(component))
        if parts:
            assert math.isclose(sum(parts.values()).item(), loss.item(), rel_tol=1e-5), f"{parts} and {loss}"

    @core
    def test_batch(self, component: Any) -> None:
        """A batch of items with equally many edges costs what they cost in the mean."""
        if not self.batch_mean:
            pytest.skip("by its own account a batch is no mean of its items")
        (prediction,) = self.example(component)
        whole, _, gradient = self.call(component, prediction)
        alone = [self.call(component, item_of(prediction, item)) for item in range(len(prediction.labels))]
        mean = torch.stack([loss for loss, *_ in alone]).mean()
        assert math.isclose(whole.item(), mean.item(), rel_tol=1e-5), f"the batch costs {whole}, its items {mean}"
        gradients = torch.cat([each for *_, each in alone]) / len(alone)
        assert_same(gradient, gradients, "the gradient differs from those of the items", 1e-5)

    def test_no_edges(self, component: Any) -> None:
        """Without any edge the loss is 0, with a gradient of 0."""
        (prediction,) = self.example(component)
        empty = replace(prediction, edges=torch.zeros_like(prediction.edges), mask=torch.zeros_like(prediction.mask))
        loss, _, gradient = self.call(component, empty)
        assert loss.item() == 0, f"the loss is {loss.item()}"
        assert not gradient.any(), "the gradient is not 0"

    @core
    def test_only_edges_count(self, component: Any) -> None:
        """Logits where no edge exists have no influence and no gradient."""
        (prediction,) = self.example(component)
        loss, _, gradient = self.call(component, prediction)
        assert not gradient[~prediction.edges].any(), "there is a gradient where no edge is"
        other = torch.where(prediction.edges, prediction.logits, -prediction.logits.flip(0) + 1)
        found = self.call(component, replace(prediction, logits=other))
        assert_same((loss, gradient), (found[0], found[2]), "logits of no edge changed and")

    def test_objects(self, component: Any) -> None:
        """Background only, one object only and any ids of the objects are fine; ids do not matter."""
        (prediction,) = self.example(component)
        for value in (0, 5):
            labels = torch.full_like(prediction.labels, value)
            target = torch.where(prediction.edges, float(value > 0), 0.0)
            loss = self.call(component, replace(prediction, labels=labels, target=target))[0]
            assert torch.isfinite(loss), f"the loss is {loss} where all labels are {value}"
        large = torch.tensor([0, 2**63 - 1, 2**53, 2**53 + 1])[prediction.labels]
        found = self.call(component, replace(prediction, labels=large))
        assert_same(self.call(component, prediction), found, "with large ids")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
    def test_dtypes(self, component: Any, dtype: torch.dtype) -> None:
        """Logits of any float dtype cost what their float32 values cost."""
        (prediction,) = self.example(component)
        logits = prediction.logits.to(dtype)
        loss = self.call(component, replace(prediction, logits=logits))[0]
        assert loss.dtype == torch.float32, f"the loss is {loss.dtype}"
        expected = self.call(component, replace(prediction, logits=logits.float()))[0]
        assert math.isclose(loss.item(), expected.item(), rel_tol=1e-5), f"{loss.item()}, not {expected.item()}"

    def test_bad_values(self, component: Any) -> None:
        """NaN among the logits is refused, or makes the loss NaN; it is never passed over."""
        (prediction,) = self.example(component)
        bad = torch.where(prediction.edges, torch.nan, prediction.logits)
        try:
            loss = self.call(component, replace(prediction, logits=bad))[0]
        except SegkitError:
            return
        assert not torch.isfinite(loss), f"the loss is {loss.item()}"

    def test_without_gradient(self, component: Any) -> None:
        """Where no gradient is wanted it gives the same loss."""
        (prediction,) = self.example(component)
        with torch.no_grad():
            loss = component(prediction)[0]
        assert_same(self.call(component, prediction)[0], loss, "without a gradient")

    def test_one_voxel(self, component: Any) -> None:
        """One voxel and one section are patches too."""
        for shape in ((1, 1, 1), (1, 6, 5)):
            prediction = random_prediction(1, shape=shape, neighborhood=self.neighborhood, masked=False)
            assert torch.isfinite(self.call(component, prediction)[0])

    @core
    @pytest.mark.gpu
    def test_devices(self, component: Any) -> None:
        """A GPU gives the loss and the gradient of the CPU."""
        (prediction,) = self.example(component)
        moved = replace(prediction, **{name: getattr(prediction, name).cuda() for name in TENSORS})
        found = self.call(component, moved)
        assert found[0].is_cuda and found[2].is_cuda, "the loss left the GPU"
        assert_same(self.call(component, prediction), found, "on the GPU", 1e-5)


def strided(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values with other strides; tensors cannot have negative ones, so that reversed is expanded."""
    if layout == "fortran":
        axes = tuple(reversed(range(tensor.ndim)))
        return tensor.permute(axes).contiguous().permute(axes)
    if layout == "strided":
        larger = tensor.new_zeros([2 * size for size in tensor.shape])
        larger[(slice(1, None, 2),) * tensor.ndim] = tensor
        return larger[(slice(1, None, 2),) * tensor.ndim]
    return torch.cat([tensor, tensor], -1)[..., : tensor.shape[-1]]
