"""The picture: every panel where it should be, colours that tell ids apart."""

import numpy as np
import pytest
from PIL import Image

from segkit.picture import (
    GAP,
    HEAD,
    PAPER,
    Panel,
    Row,
    bar_length,
    colours,
    draw_rows,
    length_in_words,
    matched_colours,
    overlay,
    save_picture,
)


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


def test_what_is_not_annotated_is_black():
    assert not colours(np.array([0, 2**64 - 1, 2**64 - 2], np.uint64)).any()


def brute_force(segmentation, truth):
    """For each object its largest piece, for each such piece the object whose colour it has; lowest ids win ties."""
    pieces: dict[int, list[int]] = {}
    for item in [int(each) for each in np.unique(truth) if 0 < each < 2**64 - 2]:
        shared = [(-int(((segmentation == s) & (truth == item)).sum()), int(s)) for s in np.unique(segmentation) if s]
        most, segment = min(shared)
        if most:
            pieces.setdefault(segment, []).append(item)
    overlap = lambda s, item: -int(((segmentation == s) & (truth == item)).sum())  # noqa: E731
    return {s: min(items, key=lambda item: (overlap(s, item), item)) for s, items in pieces.items()}


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_piece_of_an_object_has_its_colour(seed):
    rng = np.random.default_rng(seed)
    shape = (2, 5, 6)
    truth = np.array([0, 3, 4, 9, 2**64 - 1], np.uint64)[rng.integers(0, 5, shape)]
    segmentation = np.array([0, 3, 5, 9, 2**63, 12], np.uint64)[rng.integers(0, 6, shape)]
    seen, expected = matched_colours(segmentation, truth), brute_force(segmentation, truth)
    assert seen.shape == (*shape, 3) and seen.dtype == np.uint8
    assert not seen[segmentation == 0].any()
    of_objects = {item: colours(np.array([item], np.uint64))[0] for item in (3, 4, 9)}
    for segment in np.unique(segmentation[segmentation > 0]):
        (colour,) = np.unique(seen[segmentation == segment], axis=0)  # one colour each
        if int(segment) in expected:
            assert (colour == of_objects[expected[int(segment)]]).all()
        else:
            overlaps = {item: ((segmentation == segment) & (truth == item)).sum() for item in of_objects}
            most = max(overlaps, key=overlaps.get)
            assert np.abs(colour.astype(int) - of_objects[most]).sum() > 100 and colour.any()


def test_splits_and_mergers_are_seen():
    truth = np.array([[1, 1, 1, 1, 2, 2, 3, 3, 3]])
    segmentation = np.array([[7, 7, 7, 8, 2, 2, 2, 2, 2]])
    seen, own = matched_colours(segmentation, truth)[0], colours(truth)[0]
    assert (seen[:3] == own[0]).all() and (seen[3] != own[0]).any()
    assert (seen[4:] == own[-1]).all()


def test_an_overlay_is_transparent_but_for_boundaries():
    raw = np.full((4, 6), 100, np.uint8)
    labels = np.array([[0, 0, 1, 1, 1, 2]] * 4)
    coloured = np.zeros((4, 6, 3), np.uint8)
    coloured[labels == 1], coloured[labels == 2] = (200, 0, 0), (0, 200, 0)
    seen = overlay(raw, coloured, 0.5)
    assert (seen[labels == 0] == 100).all()
    assert (seen[:, [2, 4]] == (200, 0, 0)).all()  # beside the background; beside the other segment
    assert (seen[:, 3] == (150, 50, 50)).all()
    assert (seen[:, 5] == (50, 150, 50)).all()


@pytest.mark.parametrize(("width", "length", "words"), [(128 * 10, 500, "500 nm"), (900, 200, "200 nm")])
def test_the_scale_bar_is_as_long_as_it_says(width, length, words):
    assert (bar_length(width), length_in_words(length)) == (length, words)
    voxel = width / 100
    panel = Panel("", np.full((40, 100), 60, np.uint8), (voxel, voxel), scale_bar=True)
    drawn = np.asarray(draw_rows([Row([panel])], scale=3))
    white = (drawn[-2 * GAP - 2] == 255).all(axis=-1)
    assert abs(white.sum() * voxel / 3 - length) <= voxel / 2
    assert (drawn == 60).all(axis=-1)[GAP:].mean() > 0.8  # the rest is untouched
    bare = np.asarray(draw_rows([Row([Panel("", panel.image, panel.voxel_size)])], scale=3))
    assert (bare[GAP:] == 60).all()


@pytest.mark.parametrize(("length", "words"), [(1000, "1 µm"), (20000, "20 µm"), (5, "5 nm")])
def test_lengths_have_the_usual_unit(length, words):
    assert length_in_words(length) == words


def test_panels_have_the_proportions_of_the_world():
    side = np.array([[10, 20], [30, 40]], np.uint8)
    drawn = np.asarray(draw_rows([Row([Panel("", side, (40, 16))])], scale=2))[GAP:, :, 0]
    assert np.array_equal(drawn, np.kron(side, np.ones((5, 2), np.uint8)))
