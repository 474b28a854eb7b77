"""The suite for fragmenters."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit import io
from segkit.data import Affinities, Labels, Volume, edge_slices
from segkit.testing import strategies
from segkit.testing.conformance._base import SETTINGS, core, refused, same_or_refused
from segkit.testing.conformance._compare import assert_same
from segkit.testing.conformance._graphs import OTHER_GRIDS, AffinityConformance, successors
from segkit.testing.conformance._volumes import (
    GRID,
    REORIENTATIONS,
    random_affinities,
    reoriented,
    restored,
    same_partition,
)


class FragmenterConformance(AffinityConformance):
    """What a fragmenter promises."""

    kind = "fragmenters"
    equivariant: ClassVar[bool] = False
    """True where flipping or exchanging the axes of affinities without ties does the same to the fragments."""

    def on(self, affinities: Affinities, fragments: Labels) -> tuple:
        """The affinities alone, without a mask."""
        return (affinities,)

    def call(self, component: Any, *inputs: Any) -> Labels:
        """The fragments."""
        return component.fragment(*inputs)

    def example(self, component: Any, seed: int = 0) -> tuple:
        """Random affinities with a mask."""
        affinities = random_affinities((5, 12, 11), self.neighborhood(component), seed)
        return affinities, _random_mask(affinities.shape, seed)

    def check_result(self, result: Any, affinities: Affinities, fragments: Labels | None = None) -> None:
        """Fail unless `result` are fragments, numbered from 1 without gaps, where the affinities are."""
        assert isinstance(result, Labels), f"it returned a {type(result).__name__}, not Labels"
        assert result.shape == affinities.shape, f"the shape became {result.shape}, not {affinities.shape}"
        assert result.grid == affinities.grid, f"the grid became {result.grid}, not {affinities.grid}"
        ids = np.unique(result.array)
        ids = ids[ids > 0].tolist()
        assert ids == list(range(1, len(ids) + 1)), f"fragments are numbered {ids[:9]}, not from 1 without gaps"

    @core
    @given(data=st.data())
    @SETTINGS
    def test_valid_fragments(self, component: Any, data: st.DataObject) -> None:
        """Fragments are numbered from 1 without gaps, on the grid of the affinities, 0 where the mask is False."""
        affinities = data.draw(strategies.affinities(neighborhood=self.neighborhood(component)))
        mask = data.draw(st.none() | strategies.masks(affinities.shape, affinities.grid))
        fragments = self.call(component, affinities, mask)
        self.check_result(fragments, affinities)
        assert mask is None or not fragments.array[~mask.array].any(), "there are fragments outside the mask"

    @core
    def test_objects_apart(self, component: Any) -> None:
        """Objects with clean boundaries between them, three voxels thick, get fragments, and share none."""
        ids = np.zeros((7, 25, 25), np.uint64)
        ids[:, :11, :11], ids[:, :11, 14:], ids[:, 14:, :11], ids[:, 14:, 14:] = 1, 2, 3, 4
        truth = Labels(ids, GRID)
        fragments = self.call(component, Affinities.from_labels(truth, self.neighborhood(component))).array
        owners = [set(np.unique(fragments[truth.array == id_]).tolist()) - {0} for id_ in truth.ids()]
        for number, own in enumerate(owners):
            assert own, "an object got no fragment"
            shared = own & set().union(*owners[:number])
            assert not shared, f"fragment {min(shared, default=0)} lies in two objects"

    @core
    def test_mask(self, component: Any) -> None:
        """Outside the mask there is no fragment, and affinities there have no influence."""
        affinities, mask = self.example(component)
        fragments = self.call(component, affinities, mask)
        assert not fragments.array[~mask.array].any(), "there are fragments outside the mask"
        other = random_affinities(affinities.shape, affinities.neighborhood, seed=9).array.copy()
        for channel, old, offset in zip(other, affinities.array, affinities.neighborhood, strict=True):
            here, there = edge_slices(affinities.shape, offset)
            inside = mask.array[here] & mask.array[there]
            channel[here][inside] = old[here][inside]
        result = self.call(component, replace(affinities, array=other), mask)
        assert_same(fragments, result, "affinities outside the mask changed and")

    def test_empty_mask(self, component: Any) -> None:
        """An empty mask gives no fragment, a full one what none gives."""
        affinities, mask = self.example(component)
        empty, full = (Volume(np.full(mask.shape, value), mask.grid) for value in (False, True))
        assert not self.call(component, affinities, empty).array.any(), "there are fragments outside the mask"
        assert_same(self.call(component, affinities), self.call(component, affinities, full), "with a full mask")

    def test_misaligned(self, component: Any) -> None:
        """Masks of other shapes, voxel sizes or places and masks of floats are refused."""
        affinities, mask = self.example(component)
        bad = [Volume(mask.array[1:], mask.grid), Volume(mask.array.astype(np.float32), mask.grid)]
        bad += [Volume(mask.array, grid) for grid in OTHER_GRIDS.values()]
        for other in bad:
            refused(self.call, component, affinities, other, names=("mask", "voxel", "offset"))

    @core
    @pytest.mark.parametrize(("axes", "flips"), REORIENTATIONS, ids=str)
    def test_orientation(self, component: Any, axes: Sequence[int], flips: Sequence[int]) -> None:
        """Flips and exchanged axes do the same to the fragments."""
        if not self.equivariant:
            pytest.skip("it does not claim to be equivariant")
        inputs = self.example(component)
        expected = reoriented(self.call(component, *inputs), axes, flips)
        fragments = self.call(component, *(reoriented(each, axes, flips) for each in inputs))
        assert same_partition(expected.array, fragments.array), f"with axes {axes}, flipped {flips}, they differ"

    def test_other_ends(self, component: Any) -> None:
        """Edges stored at their other end, channels in another order: the same, or refused."""
        affinities, mask = self.example(component)
        fragments = self.call(component, affinities, mask)
        moved = restored(affinities, successors(affinities))
        same_or_refused(fragments, self.call, component, moved, mask, what="with edges stored at the other end")

    def test_files(self, component: Any, tmp_path: Path) -> None:
        """The fragments come back from a file as they were."""
        fragments = self.call(component, *self.example(component))
        io.write(tmp_path / "fragments.h5", fragments, "fragments")
        assert_same(fragments, io.read_labels(tmp_path / "fragments.h5", "fragments"), "from the file")


def _random_mask(shape: Sequence[int], seed: int) -> Volume:
    return Volume(np.random.default_rng(seed + 7).random(shape) < 0.95, GRID)
