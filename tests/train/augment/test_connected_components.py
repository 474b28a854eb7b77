from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import segkit
from segkit.protocols import Prediction
from segkit.train.augment.connected_components import connected_components, grow_boundary, renumber_components
from segkit.train.augment.finish import affinity_targets


def brute_rim(labels, mask, axes):
    result = labels.copy()
    for v in product(*map(range, labels.shape)):
        for axis, step in product(axes, (-1, 1)):
            w = list(v)
            w[axis] += step
            if 0 <= w[axis] < labels.shape[axis] and mask[v] and mask[tuple(w)] and labels[v] != labels[tuple(w)]:
                result[v] = 0
    return result


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 2), (0, 1, 2)]), st.integers(0, 2))
def test_boundaries_grow_as_by_brute_force(seed, axes, steps):
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 3, (3, 3, 2)), 3, axis=2)
    mask = rng.random(labels.shape) < 0.8
    expected = labels
    for _ in range(steps):
        expected = brute_rim(expected, mask, axes)
    tensors = (torch.from_numpy(each) for each in (labels, mask))
    assert np.array_equal(grow_boundary(*tensors, steps, axes), expected)


def by_scipy(labels):
    """Pieces, one object at a time."""
    pieces, last = np.zeros(labels.shape, int), 0
    for i in np.unique(labels[labels > 0]):
        found, count = ndimage.label(labels == i)
        pieces[found > 0] = found[found > 0] + last
        last += count
    return pieces


def same_partition(one, other):
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other)) and ((one == 0) == (other == 0)).all()


@pytest.mark.parametrize("made_by", [renumber_components, connected_components])
@given(seed=st.integers(0, 2**32 - 1))
def test_pieces_are_those_of_scipy(made_by, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rng.integers(1, 9, 3)).astype(np.int32)
    pieces = made_by(torch.from_numpy(labels))
    assert pieces.dtype == torch.int64
    assert same_partition(pieces.numpy(), by_scipy(labels))


def test_a_neurite_that_winds_is_one_piece():
    labels = np.zeros((1, 21, 21), np.int32)
    labels[:, ::2] = 1
    labels[:, 1::4, -1] = labels[:, 3::4, 0] = 1
    assert len(connected_components(torch.from_numpy(labels)).unique()) == 2


@pytest.mark.parametrize("components", [False, True])
def test_constrained_malis_pulls_every_edge_towards_its_target_with_and_without_components(components):
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(ndimage.zoom(rng.integers(1, 4, (3, 4, 4)), 3, order=0))
    labels = renumber_components(labels) if components else labels
    assert (len(labels.unique()) > 3) == components
    offsets = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    mask = torch.ones(labels.shape, dtype=torch.bool)
    target, edges = affinity_targets(labels[None], mask[None], offsets)
    logits = torch.from_numpy(rng.normal(size=target.shape).astype(np.float32)).requires_grad_()
    value, _ = segkit.load("losses", "constrained-malis")(
        Prediction(logits, target, labels[None], mask[None], edges, offsets)
    )
    value.backward()
    assert (logits.grad[target == 1] <= 0).all() and logits.grad[target == 1].any()
    assert (logits.grad[edges & (target == 0)] >= 0).all() and logits.grad[target == 0].any()
