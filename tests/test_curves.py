"""Curves: every point where its numbers say."""

import numpy as np
import pytest
from PIL import ImageColor

from segkit.curves import BOTTOM, COLOURS, LEFT, RIGHT, TOP, draw_curves, ticks


@pytest.mark.parametrize("highest", [0.0, 1e-4, 0.07, 0.3, 1.0, 2.3, 5.0, 9.99, 123.0])
def test_ticks_are_round_and_reach_the_top(highest):
    found = ticks(highest)
    steps = np.diff(found)
    assert found[0] == 0 and found[-1] >= highest and 2 <= len(found) <= 8
    assert np.allclose(steps, steps[0])
    assert f"{steps[0]:.6e}"[0] in "125"


def drawn(image, k):
    """The pixels of the colour of the k-th curve, below its name: rows and columns."""
    distance = np.abs(image.astype(int) - np.array(ImageColor.getrgb(COLOURS[k]))).sum(axis=2)
    distance[: TOP - 6] = 999
    return np.nonzero(distance < 60)


def test_points_lie_where_their_numbers_say():
    width, height = LEFT + 400 + RIGHT, TOP + 200 + BOTTOM
    image = draw_curves({"loss": [(100, 1.0)], "other": [(50, 0.25), (100, float("nan"))]}, width, height)
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    for k, (row, column) in enumerate([(TOP, LEFT + 400), (TOP + 150, LEFT + 200)]):  # axes 0 to 100, and 0 to 1
        rows, columns = drawn(image, k)
        assert (np.median(rows), np.median(columns)) == pytest.approx((row, column), abs=1.5)


def test_values_below_zero_are_seen():
    rows, _ = drawn(draw_curves({"loss": [(0, 1.0), (50, 0.0), (100, -1.0)]}, 300, TOP + 100 + BOTTOM), 0)
    assert (min(rows), max(rows)) == pytest.approx((TOP, TOP + 100), abs=3)


def test_the_height_from_which_a_loss_falls_does_not_flatten_the_rest():
    falling = [(0, 1000.0), *((step, 1.0) for step in range(20, 101, 20))]
    rows, columns = drawn(draw_curves({"loss": falling}, 300, 200), 0)
    assert np.ptp(rows[columns > 150]) < 10 and max(rows) < 100  # a level line, in the upper half


def test_a_curve_without_points_is_named():
    image = draw_curves({"CREMI score": []}, 300, 100)
    assert (image[:TOP] < 200).any() and not len(drawn(image, 0)[0])
