from itertools import product

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels
from segkit.train.augment.finish import affinity_targets
from segkit.train.data import compact


@given(st.integers(0, 2**32 - 1))
def test_targets_are_the_affinities_of_the_labels(seed):
    rng = np.random.default_rng(seed)
    labels, mask = rng.integers(0, 3, (2, 2, 4, 4)), rng.random((2, 2, 4, 4)) < 0.8
    labels[~mask] = 0
    offsets = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1], [1, -3, 2]])
    target, edges = affinity_targets(torch.from_numpy(labels), torch.from_numpy(mask), offsets)
    for b in range(2):
        expected = Affinities.from_labels(Labels.convert(labels[b], Grid()), offsets).array
        assert np.array_equal(target[b], expected)
        for c, v in product(range(4), product(*map(range, labels.shape[1:]))):
            w = tuple(np.add(v, offsets[c]))
            inside = all(0 <= i < n for i, n in zip(w, labels.shape[1:], strict=True))
            assert edges[(b, c, *v)] == (inside and mask[b][v] and mask[b][w])


def test_masked_objects_have_no_edges():
    labels, mask = torch.ones(1, 1, 1, 3, dtype=torch.int64), torch.tensor([[[[True, True, False]]]])
    target, edges = affinity_targets(labels, mask, [[0, 0, -1]])
    assert target.ravel().tolist() == [0, 1, 0] and edges.ravel().tolist() == [False, True, False]


def test_ids_are_compacted_and_background_stays():
    labels = np.array([[[0, 2**63 + 5, 7, 2**63 + 5, 0]]], np.uint64)
    assert compact(labels).tolist() == [[[0, 1, 2, 1, 0]]]
    assert compact(labels).dtype == np.int32
    assert compact(labels[..., 1:4]).tolist() == [[[1, 2, 1]]]
