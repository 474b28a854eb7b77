"""All components pass the suites of segkit."""

import numpy as np
import pytest
from segkit import Affinities, Grid, Labels
from segkit.testing import AgglomeratorConformance, FragmenterConformance


class TestMutexWatershed(FragmenterConformance):
    name = "mutex-watershed"
    parameters = ({}, {"smallest": 3})


class TestMutexWatershedThinnedOut(FragmenterConformance):
    name = "mutex-watershed"
    parameters = ({"strides": [2, 3, 3]}, {"strides": [1, 2, 2], "randomised": True})

    def test_objects_apart(self, component):
        """Objects with clean boundaries between them, three voxels thick, get fragments, and share none."""
        pytest.skip("strides leave out edges that would keep them apart")


class TestBioimageWatershed(FragmenterConformance):
    name = "bioimage-watershed"
    parameters = ({"seed_distance": 3}, {"per_section": True, "height": "affinity"})


class TestGasp(AgglomeratorConformance):
    name = "gasp"
    parameters = ({}, {"linkage": "sum"}, {"linkage": "mutex_watershed", "thresholds": [0.4, 0.8]})
    merges_all = False
    ties_by_id = True


class TestMulticut(AgglomeratorConformance):
    name = "multicut"
    parameters = ({}, {"solver": "greedy-additive", "thresholds": [0.3, 0.6], "decompose": False})
    merges_all = False
    ties_by_id = True


class TestMutexWatershedOfFragments(AgglomeratorConformance):
    name = "mutex-watershed"
    merges_all = False

    def test_high_affinities_first(self, component):
        """Fragments of high affinity merge first: 1 = same object; long-range affinities agree here."""
        array = np.zeros((2, 1, 1, 6), np.float32)
        array[0, 0, 0, 1:], array[1, 0, 0, 2:] = [1, 0.9, 1, 0.3, 1], 1
        affinities = Affinities(array, [(0, 0, -1), (0, 0, -2)], Grid())
        tree = component.agglomerate(affinities, Labels.convert([[[7, 7, 5, 5, 2, 2]]], Grid()))
        assert sorted(tree.leaf_ids[tree.merges[0]].tolist()) == [5, 7]
