"""Metrics that break one promise each, and the tests that must see it."""

from dataclasses import replace

import numpy as np

from segkit.data import Labels
from segkit.evaluate.cremi import Cremi
from segkit.testing import MetricConformance


class Broken(MetricConformance):
    """A suite of the class `made`; `fails` are the tests that must fail, all others must not."""

    made: type
    fails: tuple

    def create(self, **values):
        return self.made(**values)


class TestSound(Broken):
    made = Cremi
    fails = ()


class TestRandErrorAsIndex(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            scores = super().score(segmentation, truth)
            return scores | {"rand_index": scores["adapted_rand_error"]}

    fails = ("test_known_values", "test_one_voxel")


class TestSplitsAreMerges(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            scores = super().score(segmentation, truth)
            return scores | {"voi_split": scores["voi_merge"], "voi_merge": scores["voi_split"]}

    fails = ("test_known_values",)


class TestPrefersFewerSegments(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            scores = super().score(segmentation, truth)
            more = 10 < len(truth.ids()) < len(np.unique(segmentation.array[truth.inside]))
            return scores | {"voi_merge": scores["voi_merge"] * (1.1 if more else 1)}

    fails = ("test_exchanged",)


class TestPerfectionDependsOnTheVolume(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            scores = super().score(segmentation, truth)
            first = np.unique(truth.array[truth.inside], return_counts=True)[1][0]
            return scores | {"first": int(first) if truth.array.size > 100 else 1}

    fails = ("test_perfect",)


class TestCountsOutside(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            filled = np.where(truth.inside, truth.array, np.uint64(2**63 + 5))
            return super().score(segmentation, replace(truth, array=filled))

    fails = ("test_outside", "test_nothing_counts", "test_perfect")


class TestNamesCount(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            scores = super().score(segmentation, truth)
            ids, counts = np.unique(segmentation.array[truth.inside], return_counts=True)
            return scores | {"largest": int(ids[counts.argmax()]) if len(ids) == 20 else 0}

    fails = ("test_names",)


class TestIdsThroughFloats(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            array = segmentation.array.astype(np.float64).clip(0, 2.0**63).astype(np.uint64)
            return super().score(Labels(array, segmentation.grid), truth)

    fails = ("test_large_ids",)


class TestOrientationCounts(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            return super().score(segmentation, truth) | {"first": float(truth.array[0].any()) * len(truth.array)}

    fails = ("test_orientation",)


class TestTakesWhatDoesNotFit(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            array = np.resize(segmentation.array, truth.shape)
            return super().score(Labels(array, truth.grid), truth)

    fails = ("test_misaligned",)


class TestNaN(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            scores = super().score(segmentation, truth)
            return scores | {"ratio": np.nan if scores["voi_split"] == 0 else 1.0}

    fails = ("test_finite_scores",)


class TestGivesATuple(Broken):
    class made(Cremi):
        def score(self, segmentation, truth):
            return tuple(super().score(segmentation, truth).values())

    fails = ("test_finite_scores", "test_known_values", "test_exchanged", "test_one_voxel")
