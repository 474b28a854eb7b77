"""Models that break one promise each, and the tests that must see it."""

import torch

from segkit.models.fcn import FCN
from segkit.models.unet2d import UNet2D
from segkit.testing import ModelConformance


class Broken(ModelConformance):
    """A suite of the class `made`; `fails` are the tests that must fail, all others must not."""

    made: type
    fails: tuple

    def create(self, **values):
        torch.manual_seed(0)
        return self.made(**{"channels": self.channels} | values).eval()


class Valid(UNet2D):
    """A U-Net of two levels that loses voxels."""

    def __init__(self, *, channels: int = 3) -> None:
        super().__init__(channels=channels, features=2, levels=2)


class TestSound(Broken):
    made = Valid
    fails = ()


class TestSaysAnotherShape(Broken):
    class made(Valid):
        def output_shape(self, input_shape):
            return tuple(size + 2 for size in super().output_shape(input_shape))

    fails = ("test_shapes", "test_valid_sizes")


class TestSaysAnotherContext(Broken):
    class made(Valid):
        context = (2, 2)

    fails = ("test_shapes",)


class TestWantsMoreThanItNeeds(Broken):
    class made(Valid):
        def input_shape(self, output_shape):
            return tuple(size + 2 for size in super().input_shape(output_shape))

    fails = ("test_valid_sizes",)


class TestDoesNotNameValidSizes(Broken):
    class made(Valid):
        def output_shape(self, input_shape):
            try:
                return super().output_shape(input_shape)
            except Exception as error:
                raise type(error)("the input is bad") from None

    fails = ("test_invalid_sizes",)


class TestPadsWhatDoesNotFit(Broken):
    class made(Valid):
        def forward(self, raw):
            least = self.input_shape((1, 1))
            odd = [size for size in raw.shape[2:] if size < least[0] or size % 2]
            return super().forward(raw) if not odd or raw.ndim > 4 else raw.new_zeros(1)

    fails = ("test_invalid_sizes",)


class TestTakesAnySections(Broken):
    class made(FCN):
        def forward(self, raw):
            return super().forward(raw[:, :1])

    fails = ("test_wrong_inputs",)


class TestSigmoid(Broken):
    class made(Valid):
        def forward(self, raw):
            return super().forward(raw).sigmoid()

    fails = ("test_logits",)


class TestKnowsWhereItIs(Broken):
    class made(Valid):
        def forward(self, raw):
            return super().forward(raw + torch.linspace(0, 1, raw.shape[-1]))

    fails = ("test_translation",)


class TestPaddedKnowsWhereItIs(Broken):
    class made(FCN):
        def forward(self, raw):
            return super().forward(raw + torch.linspace(0, 1, raw.shape[-1]))

    fails = ("test_translation",)


class TestItemsMix(Broken):
    class made(Valid):
        def forward(self, raw):
            return super().forward(raw - raw.mean(0) / 2)

    fails = ("test_items",)


class TestAlwaysDropsOut(Broken):
    class made(Valid):
        def forward(self, raw):
            generator = torch.Generator().manual_seed(self.calls)
            self.calls += 1
            return super().forward(raw * (torch.rand(raw.shape, generator=generator) > 0.1))

        calls = 0

    fails = (
        "test_calls_at_once",
        "test_items",
        "test_memory_layout",
        "test_repeats",
        "test_thread_limit",
        "test_translation",
    )


class TestIgnoresTheSeed(Broken):
    class made(Valid):
        made = 0

        def __init__(self, *, channels: int = 3) -> None:
            type(self).made += 1
            torch.manual_seed(type(self).made)
            super().__init__(channels=channels)

    fails = ("test_seed",)


class TestOneChannelMore(Broken):
    class made(Valid):
        def forward(self, raw):
            logits = super().forward(raw)
            return torch.cat([logits, logits[:, :1]], 1)

    fails = ("test_shapes", "test_channels")


class TestWeightWithoutUse(Broken):
    class made(Valid):
        def __init__(self, *, channels: int = 3) -> None:
            super().__init__(channels=channels)
            self.spare = torch.nn.Parameter(torch.zeros(1))

    fails = ("test_gradient",)


class TestStrideTooSmall(Broken):
    class made(Valid):
        stride = (1, 1)

    fails = ("test_valid_sizes", "test_translation")


class TestContextInFloats(Broken):
    class made(FCN):
        context = (0.0, 0.0)

    fails = ("test_attributes",)
