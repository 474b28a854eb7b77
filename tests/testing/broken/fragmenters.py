"""Fragmenters that break one promise each, and the tests that must see it."""

from dataclasses import replace

import numpy as np

from segkit.data import Grid, Labels
from segkit.fragment.affinity_watershed import AffinityWatershed
from segkit.testing import FragmenterConformance


class Broken(FragmenterConformance):
    """A suite of the class `made`; `fails` are the tests that must fail, all others must not."""

    made: type
    fails: tuple

    def create(self, **values):
        return self.made(**values)


class Sound(AffinityWatershed):
    """Basins as they are."""

    def __init__(self, *, high: float = 0.9999) -> None:
        super().__init__(size_threshold=0, high=high)


def changed(fragments, array):
    return Labels(array.astype(np.uint64), fragments.grid)


def numbered(array):
    ids, places = np.unique(array, return_inverse=True)
    return (np.cumsum(ids > 0) * (ids > 0))[places].reshape(array.shape)


class TestSound(Broken):
    made = Sound
    equivariant = True
    fails = ()


class TestGaps(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            fragments = super().fragment(affinities, mask)
            return changed(fragments, 2 * fragments.array)

    fails = ("test_valid_fragments", "test_thin_volumes")


class TestAnotherGrid(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            return replace(super().fragment(affinities, mask), grid=Grid())

    fails = ("test_valid_fragments", "test_thin_volumes")


BUFFER = np.zeros((5, 12, 11), np.uint64)


class TestOverwritesItsBuffer(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            fragments = super().fragment(affinities, mask)
            if fragments.shape != BUFFER.shape:
                return fragments
            BUFFER[:] = fragments.array
            return Labels(BUFFER, fragments.grid)

    fails = ("test_nothing_shared", "test_repeats")


class TestIgnoresTheMask(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            super().fragment(affinities, mask)
            return super().fragment(affinities)

    fails = ("test_valid_fragments", "test_mask", "test_empty_mask")


class TestMasksTooLate(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            super().fragment(affinities, mask)
            fragments = super().fragment(affinities)
            return fragments if mask is None else changed(fragments, numbered(fragments.array * mask.array))

    fails = ("test_mask",)


class TestFullMaskIsAnotherThing(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            fragments = super().fragment(affinities, mask)
            if mask is None or not mask.array.all():
                return fragments
            return changed(fragments, fragments.array > 0)

    fails = ("test_empty_mask",)


class TestTakesAnyMask(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            if mask is not None:
                mask = replace(mask, array=np.resize(mask.array > 0, affinities.shape), grid=affinities.grid)
            return super().fragment(affinities, mask)

    fails = ("test_misaligned",)


class TestMergesObjects(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            fragments = super().fragment(affinities, mask)
            return changed(fragments, numbered((fragments.array + 1) // 2))

    fails = ("test_objects_apart",)


class TestNoFragments(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            fragments = super().fragment(affinities, mask)
            return changed(fragments, 0 * fragments.array)

    fails = ("test_objects_apart",)


class TestTakesNaN(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            return super().fragment(replace(affinities, array=np.nan_to_num(affinities.array).clip(0, 1)), mask)

    fails = ("test_bad_values",)


class TestIsNotEquivariant(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            array = affinities.array.copy()
            array[affinities.neighborhood[:, 0] != 0] /= 2
            return super().fragment(replace(affinities, array=array), mask)

    equivariant = True
    fails = ("test_orientation",)


class TestIgnoresTheNeighborhood(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            return super().fragment(replace(affinities, neighborhood=[[-1, 0, 0], [0, -1, 0], [0, 0, -1]]), mask)

    fails = ("test_other_ends",)


class TestUnitInsteadOfVoxels(Broken):
    class made(Sound):
        def fragment(self, affinities, mask=None):
            fragments = super().fragment(affinities, mask)
            return Labels(fragments.array, replace(fragments.grid, unit="voxel"))

    fails = ("test_valid_fragments", "test_thin_volumes", "test_files")
