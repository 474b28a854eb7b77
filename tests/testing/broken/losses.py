"""Losses that break one promise each, and the tests that must see it."""

from dataclasses import replace

import torch

from segkit.losses.elementwise import BCE, MSE
from segkit.testing import LossConformance


class Broken(LossConformance):
    """A suite of the class `made`; `fails` are the tests that must fail, all others must not."""

    made: type
    fails: tuple

    def create(self, **values):
        return self.made(**values)


class TestSound(Broken):
    made = BCE
    additive_parts = True
    fails = ()


class TestWrongGradient(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, parts = super().__call__(prediction)
            return loss.detach() + 2 * (loss - loss.detach()), parts

    fails = ("test_gradient",)


class TestNoGradient(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, parts = super().__call__(prediction)
            return loss.detach(), parts

    fails = ("test_gradient", "test_finite")


class TestSums(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, parts = super().__call__(prediction)
            return loss * len(prediction.labels), parts

    fails = ("test_batch",)


class TestPartsNotDetached(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, _ = super().__call__(prediction)
            return loss, {"half": loss / 2, "rest": loss / 2}

    fails = ("test_finite",)


class TestPartsDoNotAddUp(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, _ = super().__call__(prediction)
            return loss, {"part": loss.detach() / 2}

    additive_parts = True
    fails = ("test_parts",)


class TestEveryVoxelCounts(Broken):
    class made(MSE):
        def __call__(self, prediction):
            return super().__call__(replace(prediction, edges=torch.ones_like(prediction.edges)))

    fails = ("test_no_edges", "test_only_edges_count")


class TestNothingDividedByNothing(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, parts = super().__call__(prediction)
            return loss + 0 * loss / prediction.edges.sum(), parts

    fails = ("test_finite", "test_no_edges", "test_one_voxel")


class TestOneMeansSplit(Broken):
    class made(MSE):
        def __call__(self, prediction):
            return super().__call__(replace(prediction, target=1 - prediction.target))

    fails = ("test_right_is_better",)


class TestSwallowsNaN(Broken):
    class made(MSE):
        def __call__(self, prediction):
            return super().__call__(replace(prediction, logits=prediction.logits.nan_to_num()))

    fails = ("test_bad_values",)


class TestKeepsTheDtype(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, parts = super().__call__(prediction)
            return loss.to(prediction.logits.dtype), parts

    fails = ("test_dtypes",)


class TestIdsCount(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, parts = super().__call__(prediction)
            return loss * (1 + (prediction.labels > 1000).float().mean()), parts

    fails = ("test_objects",)


class TestChangesLogits(Broken):
    class made(MSE):
        def __call__(self, prediction):
            prediction.target.clamp_(0.1, 0.9)
            return super().__call__(prediction)

    fails = ("test_input_unchanged",)


class TestNeedsAGradient(Broken):
    class made(MSE):
        def __call__(self, prediction):
            loss, parts = super().__call__(prediction)
            return loss if loss.requires_grad else loss * 0, parts

    fails = ("test_without_gradient",)
