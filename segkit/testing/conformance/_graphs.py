"""What fragmenters and agglomerators share: affinities of a neighborhood that they take, and bad ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from segkit.data import Affinities, Grid, Labels
from segkit.errors import InvalidInput
from segkit.testing.conformance._base import Conformance, core, refused
from segkit.testing.conformance._compare import assert_same, laid_out
from segkit.testing.conformance._volumes import LONG, NEAREST, Neighborhood, fragmented

BAD_VALUES = (float("nan"), 1.5, -0.5, float("inf"))
OTHER_GRIDS = {
    "voxel size": Grid((40.0, 8.0, 5.0), (80.0, -16.0, 0.0)),
    "place": Grid((40.0, 8.0, 4.0), (120.0, -16.0, 0.0)),
    "part of a voxel": Grid((40.0, 8.0, 4.0), (80.0, -16.0, 1.0)),
}


class AffinityConformance(Conformance):
    """A suite for components that take affinities."""

    neighborhoods: ClassVar[Sequence[Neighborhood]] = (NEAREST, LONG)
    """The tests use the first of these that the component does not refuse."""

    def neighborhood(self, component: Any) -> Neighborhood:
        """The neighborhood of the tests."""
        *others, last = self.neighborhoods
        for neighborhood in others:
            try:
                self.call(component, *self.on(*fragmented(neighborhood, (3, 4, 5), 4)))
            except InvalidInput:
                continue
            return neighborhood
        return last

    def on(self, affinities: Affinities, fragments: Labels) -> tuple:
        """The inputs of a call: those of the two that it takes."""
        raise NotImplementedError

    def example(self, component: Any, seed: int = 0) -> tuple:
        """Affinities of random cells."""
        return self.on(*fragmented(self.neighborhood(component), seed=seed))

    @core
    @pytest.mark.parametrize("value", BAD_VALUES)
    def test_bad_values(self, component: Any, value: float) -> None:
        """NaN and affinities outside 0..1 are refused, and the error names them."""
        affinities, fragments = fragmented(self.neighborhood(component), (4, 5, 6), 20)
        array = affinities.array.copy()
        array[:, 2, 2:4, 2:5] = value
        names = ("affinities", "affinity")
        refused(self.call, component, *self.on(replace(affinities, array=array), fragments), names=names)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (5, 1, 1), (1, 6, 7)], ids=str)
    def test_thin_volumes(self, component: Any, shape: tuple[int, int, int]) -> None:
        """One voxel, one row and one section are volumes too, whatever the stride of an axis of one voxel."""
        affinities, fragments = fragmented(self.neighborhood(component), shape, 3)
        result = self.call(component, *self.on(affinities, fragments))
        self.check_result(result, affinities, fragments)
        turned = self.call(component, *laid_out(self.on(affinities, fragments), "reversed"))
        assert_same(result, turned, "with reversed inputs", self.layout_tolerance)

    def check_result(self, result: Any, affinities: Affinities, fragments: Labels) -> None:
        """Fail unless this is a valid result for these inputs."""
        raise NotImplementedError


def successors(affinities: Affinities) -> np.ndarray:
    """The offsets of the same edges, stored at their other ends and in another order."""
    return -affinities.neighborhood[::-1]
