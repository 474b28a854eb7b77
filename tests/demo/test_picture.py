"""The picture: every panel where it should be, colours that tell ids apart."""

import numpy as np
from PIL import Image

from segkit.demo import Panel, colours, save_picture


def test_colours_are_per_id():
    labels = np.array([[0, 1, 2], [2**63, 1, 2]], np.uint64)
    image = colours(labels)
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8
    assert (image[0, 0] == 0).all() and (image[0, 1] == image[1, 1]).all()
    assert len({tuple(pixel) for pixel in image.reshape(-1, 3)}) == 4


def test_panels_stand_side_by_side(tmp_path):
    grey = np.full((4, 5), 100, np.uint8)
    colour = np.zeros((4, 6, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    save_picture(tmp_path / "picture.png", [Panel("grey", grey), Panel("colour", colour)], scale=2)
    picture = np.asarray(Image.open(tmp_path / "picture.png"))
    assert (picture[-8:, :10] == 100).all()
    assert (picture[-8:, -12:] == [10, 20, 30]).all()
