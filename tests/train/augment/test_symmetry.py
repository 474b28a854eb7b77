from itertools import permutations, product

import numpy as np
import pytest
import torch

from segkit import Grid
from segkit.train.augment.symmetry import apply_symmetry, draw_symmetry, exchangeable
from segkit.train.patch import Patch

CUBE = Patch((4, 4, 4), (6, 6, 6), 3)


@pytest.mark.parametrize(
    ("patch", "voxel", "expected"),
    [
        (CUBE, (4, 4, 4), (0, 1, 2)),
        (CUBE, (40, 4, 4), (1, 2)),
        (Patch((4, 4, 4), (5, 6, 6), 3), (4, 4, 4), (1, 2)),
        (Patch((4, 4, 5), (6, 6, 7), 3), (4, 4, 4), ()),
        (Patch((1, 4, 4), (1, 6, 6), 2), (4, 4, 4), (1, 2)),
        (CUBE, (40, 8, 4), ()),
    ],
)
def test_axes_that_may_change_places(patch, voxel, expected):
    assert exchangeable(patch, Grid(voxel)) == expected


def test_every_symmetry_is_drawn_as_often():
    rng = np.random.default_rng(1)
    drawn = [draw_symmetry(rng, [0.5] * 3, (0, 1, 2)) for _ in range(4800)]
    counts = {symmetry: drawn.count(symmetry) for symmetry in set(drawn)}
    assert len(counts) == 48
    assert max(abs(c - 100) for c in counts.values()) < 50


def test_each_axis_has_a_probability_of_its_own():
    rng = np.random.default_rng(1)
    drawn = [draw_symmetry(rng, [0, 1, 0.1], (1, 2)) for _ in range(1000)]
    assert {m for _, m in drawn} == {(1,), (1, 2)} and {order for order, _ in drawn} == {(0, 1, 2), (0, 2, 1)}
    assert 70 < sum(m == (1, 2) for _, m in drawn) < 130
    assert {draw_symmetry(rng, [0, 0, 0], ()) for _ in range(20)} == {((0, 1, 2), ())}


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("mirrored", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_symmetry_moves_every_voxel_where_it_says(order, mirrored):
    array = torch.arange(27).reshape(3, 3, 3)
    moved = apply_symmetry(array, (order, mirrored))
    for new in product(range(3), repeat=3):
        place = [2 - i if axis in mirrored else i for axis, i in enumerate(new)]
        old = [0, 0, 0]
        for axis, i in zip(order, place, strict=True):
            old[axis] = i
        assert moved[new] == array[tuple(old)]
