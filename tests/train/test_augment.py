from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit import Affinities, Grid, Labels
from segkit.train import augment
from segkit.train.patch import Patch
from segkit.train.targets import affinity_targets, compact

CUBE = Patch((4, 4, 4), (6, 6, 6), 3)


@pytest.mark.parametrize(
    ("patch", "voxel", "expected"),
    [
        (CUBE, (4, 4, 4), (0, 1, 2)),
        (CUBE, (40, 4, 4), (1, 2)),
        (Patch((4, 4, 4), (5, 6, 6), 3), (4, 4, 4), (1, 2)),
        (Patch((4, 4, 5), (6, 6, 7), 3), (4, 4, 4), ()),
        (Patch((1, 4, 4), (1, 6, 6), 2), (4, 4, 4), (1, 2)),
    ],
)
def test_axes_that_may_change_places(patch, voxel, expected):
    assert augment.exchangeable(patch, Grid(voxel)) == expected


def test_every_symmetry_is_drawn_as_often():
    rng = np.random.default_rng(1)
    drawn = [augment.draw_symmetry(rng, ["z", "y", "x"], (0, 1, 2)) for _ in range(4800)]
    counts = {symmetry: drawn.count(symmetry) for symmetry in set(drawn)}
    assert len(counts) == 48
    assert max(abs(c - 100) for c in counts.values()) < 50


def test_axes_not_named_stay():
    rng = np.random.default_rng(1)
    drawn = {augment.draw_symmetry(rng, ["x"], (1, 2)) for _ in range(200)}
    assert drawn == {(order, m) for order, m in product([(0, 1, 2), (0, 2, 1)], [(), (2,)])}
    assert {augment.draw_symmetry(rng, [], ()) for _ in range(20)} == {((0, 1, 2), ())}


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("mirrored", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_symmetry_moves_every_voxel_where_it_says(order, mirrored):
    array = np.arange(27).reshape(3, 3, 3)
    moved = augment.apply_symmetry(array, (order, mirrored))
    for new in product(range(3), repeat=3):
        place = [2 - i if axis in mirrored else i for axis, i in enumerate(new)]
        old = [0, 0, 0]
        for axis, i in zip(order, place, strict=True):
            old[axis] = i
        assert moved[new] == array[tuple(old)]


def test_intensity_stays_in_its_range():
    raw = np.linspace(-1, 1, 5, dtype=np.float32)
    changed = [augment.change_intensity(raw, np.random.default_rng(k), 0.2, 0.1) for k in range(300)]
    slopes = np.array([(c[-1] - c[0]) / 2 for c in changed])
    shifts = np.array([c[2] for c in changed])
    assert changed[0].dtype == np.float32
    assert 0.8 <= slopes.min() < 0.82 and 1.18 < slopes.max() <= 1.2
    assert -0.1 <= shifts.min() < -0.09 and 0.09 < shifts.max() <= 0.1


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
    labels = np.repeat(rng.integers(0, 3, (3, 3, 2)).astype(np.uint64), 3, axis=2)
    mask = rng.random(labels.shape) < 0.8
    expected = labels
    for _ in range(steps):
        expected = brute_rim(expected, mask, axes)
    assert np.array_equal(augment.grow_boundary(labels, mask, steps, axes), expected)


@given(st.integers(0, 2**32 - 1))
def test_targets_are_the_affinities_of_the_labels(seed):
    rng = np.random.default_rng(seed)
    labels, mask = rng.integers(0, 3, (2, 4, 4)), rng.random((2, 4, 4)) < 0.8
    labels[~mask] = 0
    offsets = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1], [1, -3, 2]])
    target, edges = affinity_targets(labels, mask, offsets)
    assert np.array_equal(target, Affinities.from_labels(Labels.convert(labels, Grid()), offsets).array)
    for c, v in product(range(4), product(*map(range, labels.shape))):
        w = tuple(np.add(v, offsets[c]))
        inside = all(0 <= i < n for i, n in zip(w, labels.shape, strict=True))
        assert edges[(c, *v)] == (inside and mask[v] and mask[w])


def test_ids_are_compacted_and_background_stays():
    labels = np.array([[[0, 2**63 + 5, 7, 2**63 + 5, 0]]], np.uint64)
    assert compact(labels).tolist() == [[[0, 1, 2, 1, 0]]]
    assert compact(labels).dtype == np.int64
    assert compact(labels[..., 1:4]).tolist() == [[[1, 2, 1]]]
