"""The suite for metrics."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given

from segkit.data import Grid, Labels
from segkit.testing import strategies
from segkit.testing.conformance._base import SETTINGS, Conformance, core, refused
from segkit.testing.conformance._compare import assert_same
from segkit.testing.conformance._graphs import OTHER_GRIDS
from segkit.testing.conformance._volumes import EDGE_IDS, OUTSIDE, REORIENTATIONS, cells, renamed, reoriented

Scores = Mapping[str, float]

PERFECT: Scores = {
    "rand_index": 1.0,
    "adapted_rand_error": 0.0,
    "voi_split": 0.0,
    "voi_merge": 0.0,
    "cremi_score": 0.0,
}
HALVED: Scores = {
    "rand_index": 2 / 3,  # 8 pairs in both, 8 in one segment, 16 in one object
    "adapted_rand_error": 1 / 3,
    "voi_split": 1.0,
    "voi_merge": 0.0,
    "cremi_score": math.sqrt(1 / 3),
}
"""Four voxels of one object in two segments of two."""
CROSSED: Scores = {
    "rand_index": 1 / 2,  # 4 pairs in both, 8 and 8
    "adapted_rand_error": 1 / 2,
    "voi_split": 1.0,
    "voi_merge": 1.0,
    "cremi_score": 1.0,
}
"""Two objects of two voxels, two segments that hold half of each."""
WHOLE: Scores = {**HALVED, "voi_split": 0.0, "voi_merge": 1.0}
KNOWN: Sequence[tuple[list[int], list[int], Scores]] = (
    ([9, 9, 4, 4], [5, 5, 5, 5], HALVED),
    ([3, 3, 3, 3], [8, 8, 2, 2], WHOLE),
    ([1, 2, 1, 2], [7, 7, 6, 6], CROSSED),
    ([1, 1, 5, 2], [4, 4, 9, 2**64 - 3], PERFECT),
)
TOLERANCE = 1e-9


class MetricConformance(Conformance):
    """What a metric promises."""

    kind = "metrics"
    symmetric: ClassVar[Sequence[str]] = ("rand_index", "adapted_rand_error", "cremi_score")
    """Scores that stay if segmentation and truth are exchanged; of those that the metric gives."""
    exchanged: ClassVar[Sequence[tuple[str, str]]] = (("voi_split", "voi_merge"),)
    """Scores that become each other then."""
    known: ClassVar[Sequence[tuple[list[int], list[int], Scores]]] = KNOWN
    """Segments and objects of four voxels, and their scores; a metric is checked for those that it gives."""

    def example(self, component: Any, seed: int = 0) -> tuple:
        """A segmentation and a truth of random cells, the latter with background and some outside."""
        segmentation = cells((5, 12, 11), 20, seed + 10, background=0)
        return replace(segmentation, grid=segmentation.grid), cells((5, 12, 11), 25, seed)

    def call(self, component: Any, *inputs: Any) -> Scores:
        """The scores."""
        return component.score(*inputs)

    @core
    @given(pair=strategies.segmented())
    @SETTINGS
    def test_finite_scores(self, component: Any, pair: tuple[Labels, Labels]) -> None:
        """It gives finite numbers by name, the same names each time."""
        scores = self.call(component, *pair)
        assert isinstance(scores, Mapping) and scores, f"it returned {scores!r}, not scores by name"
        for name, value in scores.items():
            assert isinstance(name, str) and isinstance(value, float | int), f"{name!r} is {value!r}, no number"
            assert math.isfinite(value), f"{name} is {value}"
        assert scores.keys() == self.call(component, *self.example(component)).keys(), "the names differ"

    @core
    def test_known_values(self, component: Any) -> None:
        """Hand-worked examples come out right."""
        checked = set()
        for segments, objects, expected in self.known:
            scores = self.call(component, *(_row(ids) for ids in (segments, objects)))
            for name in expected.keys() & scores.keys():
                right = math.isclose(scores[name], expected[name], abs_tol=1e-6)
                assert right, f"{name} of {segments} against {objects} is {scores[name]}, not {expected[name]}"
                checked.add(name)
        if not checked:
            pytest.skip("no value of its scores is known here: state them in `known`")

    @core
    def test_perfect(self, component: Any) -> None:
        """Identical segmentations without background are perfect, whatever the volume and the names of the segments."""
        scores = []
        for seed in (0, 1):
            truth = renamed(cells((5, 12, 11), 25, seed), {0: 1})
            names = {id_: 2**40 + 7 * id_ for id_ in truth.ids().tolist()}
            scores += [self.call(component, each, truth) for each in (truth, renamed(truth, names))]
        for other in scores[1:]:
            assert_same(scores[0], other, "two perfect segmentations differ", TOLERANCE)

    def test_exchanged(self, component: Any) -> None:
        """Exchanging segmentation and truth exchanges splits and merges, and leaves what is symmetric."""
        one, other = cells((5, 12, 11), 20, 1, background=0), cells((5, 12, 11), 25, 2, background=0)
        one, other = (renamed(each, {OUTSIDE[0]: 1, OUTSIDE[1]: 1}) for each in (one, other))
        there, back = self.call(component, one, other), self.call(component, other, one)
        pairs = [(name, name) for name in self.symmetric] + list(self.exchanged)
        pairs = [pair for pair in pairs if set(pair) <= there.keys()]
        if not pairs:
            pytest.skip("it has no score whose symmetry is known: state it in `symmetric` or `exchanged`")
        for a, b in pairs:
            close = math.isclose(there[a], back[b], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            assert close, f"{a} is {there[a]}, and {b} the other way round {back[b]}"

    @core
    def test_outside(self, component: Any) -> None:
        """Voxels outside the annotation of the truth do not count, whatever the segmentation says there."""
        segmentation, truth = self.example(component)
        array = segmentation.array.copy()
        array[~truth.inside] = np.random.default_rng(0).integers(0, 99, int((~truth.inside).sum()))
        scores = self.call(component, segmentation, truth)
        other = self.call(component, replace(segmentation, array=array), truth)
        assert_same(scores, other, "the segmentation changed outside and")

    def test_names(self, component: Any) -> None:
        """The names of segments and objects do not matter."""
        segmentation, truth = self.example(component)
        rng = np.random.default_rng(4)
        pair = []
        for labels in (segmentation, truth):
            ids = labels.ids()
            pair.append(renamed(labels, dict(zip(ids.tolist(), rng.permutation(ids).tolist(), strict=True))))
        assert_same(self.call(component, segmentation, truth), self.call(component, *pair), "renamed", TOLERANCE)

    @core
    def test_large_ids(self, component: Any) -> None:
        """Ids up to 2^64 - 3 are kept apart."""
        small = cells((4, 8, 9), len(EDGE_IDS), 3)
        names = dict(zip(small.ids().tolist(), EDGE_IDS, strict=True))
        pairs = [(small, small), (small, renamed(small, names)), (renamed(small, names), renamed(small, names))]
        scores = [self.call(component, *pair) for pair in pairs]
        for other in scores[1:]:
            assert_same(scores[0], other, "with large ids", TOLERANCE)

    @pytest.mark.parametrize(("axes", "flips"), REORIENTATIONS, ids=str)
    def test_orientation(self, component: Any, axes: Sequence[int], flips: Sequence[int]) -> None:
        """Flips and exchanged axes do not matter."""
        pair = self.example(component)
        other = self.call(component, *(reoriented(each, axes, flips) for each in pair))
        assert_same(self.call(component, *pair), other, f"with axes {axes}, flipped {flips}", TOLERANCE)

    def test_misaligned(self, component: Any) -> None:
        """A segmentation of another shape, voxel size or place than the truth is refused."""
        segmentation, truth = self.example(component)
        bad = [replace(segmentation, array=segmentation.array[1:])]
        bad += [replace(segmentation, grid=grid) for grid in OTHER_GRIDS.values()]
        for other in bad:
            refused(self.call, component, other, truth, names=("segmentation", "voxel", "offset"))

    @pytest.mark.parametrize("id_", OUTSIDE)
    def test_nothing_counts(self, component: Any, id_: int) -> None:
        """A truth without a voxel that counts is refused."""
        segmentation, truth = self.example(component)
        empty = replace(truth, array=np.full(truth.shape, id_, np.uint64))
        refused(self.call, component, segmentation, empty, names=("truth",))

    def test_one_voxel(self, component: Any) -> None:
        """One voxel is a volume too, and perfect."""
        scores = self.call(component, _row([7]), _row([3]))
        for name in PERFECT.keys() & scores.keys():
            assert math.isclose(scores[name], PERFECT[name], abs_tol=TOLERANCE), f"{name} is {scores[name]}"


def _row(ids: list[int]) -> Labels:
    return Labels(np.array([[ids]], np.uint64), Grid())
