"""Wrong claims that the values disprove, and right ones that they must not."""

import numpy as np
import pytest

from segkit.convert.borders import check_borders
from segkit.convert.conventions import Convention
from segkit.convert.source import Source
from segkit.data import NEAREST, Affinities, Grid, Labels
from segkit.errors import InvalidInput
from segkit.io import Stored

SHAPE = (8, 9, 10)
LABELS = Labels.convert(np.random.default_rng(0).integers(1, 4, SHAPE), Grid())
BLOCKS = Labels.convert(np.arange(1, 13).reshape(2, 2, 3).repeat(4, 0).repeat(5, 1).repeat(4, 2)[:, :9, :10], Grid())
OURS = Affinities.from_labels(LABELS).array
REGULAR = Affinities.from_labels(BLOCKS).array


def check(array, claimed):
    stored = Stored(array.shape, lambda part: array[part], dtype=array.dtype)
    check_borders(Source("a", stored, tuple(slice(0, size) for size in array.shape[1:]), Grid()), claimed)


def at_the_end(array):
    return np.stack([np.roll(channel, -1, axis) for axis, channel in enumerate(array)])


def repeated(array):
    """As PyTorch Connectomics pads: leaving edges are as the next ones inside."""
    array = array.copy()
    array[0, 0], array[1, :, 0], array[2, :, :, 0] = array[0, 1], array[1, :, 1], array[2, :, :, 1]
    return array


RIGHT = {
    "ours": (OURS, Convention(NEAREST)),
    "end": (at_the_end(OURS), Convention(NEAREST, "end")),
    "split": (1 - OURS, Convention(NEAREST, polarity="split")),
    "signed": (2 * OURS - 1, Convention(NEAREST, scale="signed")),
    "reversed": (OURS[::-1], Convention(NEAREST[::-1])),
    "repeated": (repeated(OURS), Convention(NEAREST)),
    "zero": (np.zeros_like(OURS), Convention(NEAREST)),
    "one": (np.ones_like(OURS), Convention(NEAREST)),
    "predicted": (np.random.default_rng(0).random(OURS.shape), Convention(NEAREST)),
    "bytes": (np.random.default_rng(0).integers(0, 256, OURS.shape).astype("u1"), Convention(NEAREST)),
    "far": (OURS, Convention([[-2, 0, 0], [0, -3, 0], [0, -1, -1]])),
    "padded": (
        np.pad(np.random.default_rng(0).random(OURS.shape), ((0, 0), (0, 2), (0, 0), (0, 0))),
        Convention(NEAREST),
    ),
    "regular": (REGULAR, Convention(NEAREST)),
    "regular at the end": (at_the_end(REGULAR), Convention(NEAREST, "end")),
    "regular split": (1 - REGULAR, Convention(NEAREST, polarity="split")),
    "thin": (OURS[:, :2], Convention(NEAREST, "end")),
}
WRONG = {
    "end taken for start": (at_the_end(OURS), Convention(NEAREST), "last face along z alone.*--from-edges-at"),
    "start taken for end": (OURS, Convention(NEAREST, "end"), "first face along z alone.*--from-edges-at"),
    "split taken for same": (1 - OURS, Convention(NEAREST), "as 1 and not as 0; give the other --from-polarity"),
    "same taken for split": (OURS, Convention(NEAREST, polarity="split"), "the other --from-polarity"),
    "x, y, z for z, y, x": (OURS[::-1], Convention(NEAREST), "looks like an edge along x; give --from-neighborhood"),
    "regular, taken for split": (
        REGULAR,
        Convention(NEAREST, polarity="split"),
        "other --from-polarity or --from-edges-at",
    ),
    "axes turned": (OURS.transpose(0, 3, 2, 1), Convention(NEAREST), "looks like an edge along x.*--axes"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_or_cannot_be_known(name):
    check(*RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(name):
    array, claimed, message = WRONG[name]
    with pytest.raises(InvalidInput, match=message):
        check(array, claimed)
