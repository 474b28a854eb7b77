"""The picture of VOI split against VOI merge."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from segkit.benchmark.plot import HEIGHT, WIDTH, Axes, save_plot
from segkit.curves import COLOURS
from segkit.errors import InvalidInput


def test_points_lie_where_they_belong():
    axes = Axes((0.0, 1.0, 2.0), (0.0, 4.0))
    left, low = axes.at(0, 0)
    right, high = axes.at(2, 4)
    assert left < right and high < low
    assert axes.at(1, 2) == pytest.approx(((left + right) / 2, (low + high) / 2))


def test_every_curve_is_drawn(tmp_path):
    def curve(shift):
        return [{"voi_merge": t + shift, "voi_split": 1 - t, "threshold": t} for t in (0.1, 0.5, 0.9)]

    save_plot(tmp_path / "plot.png", {"one": curve(0), "two": curve(0.3)}, "title")
    image = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).astype(int)
    assert image.shape == (HEIGHT, WIDTH, 3)
    for colour, drawn in zip(COLOURS, (True, True, False), strict=False):
        distance = np.abs(image - np.array(ImageColor.getrgb(colour))).sum(axis=2)
        assert ((distance < 30).sum() > 50) == drawn


def test_curves_of_one_point_or_of_none(tmp_path):
    save_plot(tmp_path / "point.png", {"one": [{"voi_merge": 0.0, "voi_split": 0.0, "threshold": 0.5}]})
    assert [file.name for file in tmp_path.iterdir()] == ["point.png"]  # and nothing temporary
    with pytest.raises(InvalidInput, match="at least one curve"):
        save_plot(tmp_path / "nothing.png", {})
