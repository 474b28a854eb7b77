"""The picture: every panel where it should be, colours that tell ids apart."""

import numpy as np
from PIL import Image

from segkit.picture import HEAD, PAPER, Panel, Row, colours, save_picture


def test_colours_are_per_id():
    labels = np.array([[0, 1, 2], [2**63, 1, 2]], np.uint64)
    image = colours(labels)
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8
    assert (image[0, 0] == 0).all() and (image[0, 1] == image[1, 1]).all()
    assert len({tuple(pixel) for pixel in image.reshape(-1, 3)}) == 4


def test_panels_stand_side_by_side_and_rows_under_each_other(tmp_path):
    grey = np.full((4, 5), 100, np.uint8)
    colour = np.zeros((4, 6, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    rows = [Row([Panel("grey", grey), Panel("colour", colour)]), Row([Panel("colour", colour)], "a caption")]
    save_picture(tmp_path / "picture.png", rows, scale=2)
    picture = np.asarray(Image.open(tmp_path / "picture.png"))
    first = HEAD + 8
    assert picture.shape == (first + 2 * HEAD + 8, 28, 3)
    assert (picture[HEAD:first, :10] == 100).all()
    assert (picture[HEAD:first, -12:] == [10, 20, 30]).all()
    assert (picture[-8:, :12] == [10, 20, 30]).all() and (picture[-8:, 12:] == PAPER).all()
    assert (picture[first : first + HEAD] < 128).any()  # the caption


def test_a_file_without_a_known_ending_is_a_png(tmp_path):
    save_picture(tmp_path / "half.tmp", [Row([Panel("", np.zeros((2, 2), np.uint8))])])
    assert Image.open(tmp_path / "half.tmp").format == "PNG"
