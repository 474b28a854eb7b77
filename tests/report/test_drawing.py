"""Charts and pictures: SVG that stands inside a page, and tells series apart without colour."""

import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from segkit.report.blocks import Mark, Number, Picture, Table
from segkit.report.charts import chart, series
from segkit.report.page import cell
from segkit.report.pictures import as_grey, as_svg


def test_charts_of_a_page_share_no_id():
    charts = [chart(lambda axes: axes.plot([0, 1], [1, 0], marker="o"), "one & <two>") for _ in range(2)]
    ids = [set(re.findall(r' id="([^"]+)"', each.svg)) for each in charts]
    assert ids[0] and not ids[0] & ids[1]
    for each in charts:
        root = xml.fromstring(each.svg)
        assert root.get("aria-label") == "one & <two>" and "http" not in each.svg


def test_neighbouring_series_differ_by_marker_and_by_dashes():
    looks = [series(number) for number in range(4)]
    for key in ("color", "marker", "linestyle"):
        assert len({str(look[key]) for look in looks}) == 4


def test_marks_lie_on_their_voxels():
    """A picture of 2 x 4 voxels that are three times as high as wide."""
    picture = Picture(np.zeros((2, 4), np.uint8), "words", "", (30.0, 10.0), (Mark("M1", 1, 3, diamond=True),))
    root = xml.fromstring(as_svg(picture))
    assert root.get("viewBox") == "0 0 4 6"
    corners = [tuple(map(float, pair.split(","))) for pair in root.find("polygon").get("points").split()]
    assert np.allclose(np.mean(corners, axis=0), (3.5, 4.5))
    assert [text.text for text in root.iter("text")] == ["M1", "10 nm"]


def test_the_scale_bar_has_its_length():
    picture = Picture(np.zeros((50, 200), np.uint8), "words", "", (8.0, 8.0))
    root = xml.fromstring(as_svg(picture))
    assert [text.text for text in root.iter("text")] == ["500 nm"]
    assert float(root.find("rect").get("width")) == pytest.approx(500 / 8, abs=0.01)


def test_raw_data_of_other_types_are_spread():
    values = np.arange(1000, dtype=np.uint16).reshape(10, 100) * 60
    assert abs(int(as_grey(values)[5, 0]) - 127) <= 1  # the middle stays in the middle
    image = as_grey(np.linspace(-1, 1, 1000).reshape(10, 100))
    assert image.dtype == np.uint8 and image.min() == 0 and image.max() == 255
    assert as_grey(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


def test_the_best_of_a_column_is_marked():
    table = Table.of([{"name": "a", "score": 0.5}, {"name": "b", "score": 0.25}, {"name": "c"}], lowest=["score"])
    assert table.best == {(1, 1)} and table.rows[2] == ["c", ""]
    assert not Table.of([{"score": 0.5}], lowest=["score"]).best  # of one there is no best


def test_numbers_of_a_column_have_equal_decimals():
    assert [cell(value) for value in (0.25, 12.5, Number(1234.567, 1), 12345, "text")] == [
        "0.2500",
        "12.5000",
        "1,234.6",
        "12,345",
        "text",
    ]
