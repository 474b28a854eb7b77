import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.data import NEAREST, Affinities, Grid, Labels, edge_mask, edge_slices
from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, InvalidShape

SHAPES = st.tuples(*[st.integers(1, 4)] * 3)
OFFSETS = st.tuples(*[st.integers(-5, 5)] * 3).filter(any)


def voxels(shape):
    return itertools.product(*map(range, shape))


@given(SHAPES, OFFSETS)
def test_edge_slices_against_a_loop(shape, offset):
    number = np.arange(np.prod(shape)).reshape(shape)
    source, target = edge_slices(shape, offset)
    found = list(zip(number[source].ravel(), number[target].ravel(), strict=True))
    ends = [(v, tuple(np.add(v, offset))) for v in voxels(shape)]
    assert found == [(number[v], number[w]) for v, w in ends if all(0 <= i < n for i, n in zip(w, shape, strict=True))]


@given(SHAPES, OFFSETS, st.integers(0, 2**32))
def test_edge_mask_and_from_labels_against_a_loop(shape, offset, seed):
    array = np.random.default_rng(seed).choice(np.array([0, 1, 2, 2**64 - 1, 2**64 - 2], np.uint64), shape)
    mask = np.random.default_rng(seed).random(shape) < 0.7
    affinities = Affinities.from_labels(Labels(array, Grid((4, 4, 4))), [offset])
    edges, masked = edge_mask(shape, [offset])[0], edge_mask(shape, [offset], mask)[0]
    for v in voxels(shape):
        w = tuple(int(i) for i in np.add(v, offset))
        exists = all(0 <= i < n for i, n in zip(w, shape, strict=True))
        assert edges[v] == exists
        assert masked[v] == (exists and mask[v] and mask[w])
        assert affinities.array[0][v] == (exists and array[v] == array[w] and array[v] in (1, 2))
    affinities.check()
    assert affinities.grid == Grid((4, 4, 4))


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([[0, 0, 0]], "zero offset"),
        ([[0, 0, 1], [0, 0, 1]], "once"),
        ([[0, 0, 1], [0, 0, -1]], "once"),
        ([[0, 0, 1.0]], "integer"),
        ([0, 0, 1], "list"),
        ([], "list"),
        ([[0, 1]], "list"),
    ],
)
def test_neighborhoods_that_are_none(offsets, message):
    with pytest.raises(InvalidInput, match=message):
        as_neighborhood(offsets)


def test_a_neighborhood_is_a_copy_that_cannot_be_written():
    given_offsets = np.array(NEAREST)
    found = as_neighborhood(given_offsets)
    given_offsets[:] = 9
    assert found.tolist() == [list(offset) for offset in NEAREST] and found.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_channels():
    with pytest.raises(InvalidShape, match=r"one channel an offset, 3, first, not 2, of shape \(2, 4, 5, 6\)$"):
        Affinities(np.zeros((2, 4, 5, 6), np.float32), NEAREST, Grid())
    with pytest.raises(InvalidShape, match="channels seem to be last"):
        Affinities(np.zeros((4, 5, 6, 3), np.float32), NEAREST, Grid())
    with pytest.raises(InvalidInput, match="must be float32, not float64"):
        Affinities(np.zeros((3, 1, 1, 1)), NEAREST, Grid())


@pytest.mark.parametrize(("dtype", "top"), [("u1", 255), ("u2", 65535), ("f2", 1), ("f4", 1), ("f8", 1)])
def test_convert(dtype, top):
    array = np.array([0, top, top, top], dtype).reshape(1, 1, 1, 4)
    found = Affinities.convert(array, [(0, 0, -2)])
    assert found.array.ravel().tolist() == [0, 0, 1, 1] and found.array.dtype == np.float32
    assert array.ravel().tolist() == [0, top, top, top]


@pytest.mark.parametrize(
    ("value", "message"), [(-0.1, "0..1"), (1.1, "sigmoid"), (np.nan, r"NaN at .* \(0, 1, 2, 1\)"), (np.inf, "0..1")]
)
def test_values(value, message):
    array = np.zeros((3, 2, 3, 3), np.float32)
    array[0, 1, 2, 1] = value
    for check in (lambda: Affinities.convert(array), Affinities(array, NEAREST, Grid()).check):
        with pytest.raises(InvalidInput, match=message):
            check()


@pytest.mark.parametrize("offset", [(0, 0, 1), (0, 0, -1), (0, 2, 0), (-2, 0, 0), (0, 0, 9), (0, -9, 0)])
def test_every_voxel_whose_edge_leaves_is_found(offset):
    for v in voxels((3, 4, 5)):
        array = np.zeros((1, 3, 4, 5), np.float32)
        array[(0, *v)] = 1
        affinities = Affinities(array, [offset], Grid())
        if edge_mask((3, 4, 5), [offset])[(0, *v)]:
            affinities.check()
        else:
            with pytest.raises(InvalidInput, match=re.escape(f"(channel, z, y, x) {(0, *v)}")):
                affinities.check()


@given(SHAPES, OFFSETS, st.integers(0, 2**32))
def test_an_edge_that_leaves_the_volume(shape, offset, seed):
    array = np.random.default_rng(seed).integers(0, 2, (1, *shape)).astype(np.float32)
    leaves = bool((array[0] * ~edge_mask(shape, [offset])[0]).any())
    given_affinities = Affinities(array, [offset], Grid())
    if leaves:
        with pytest.raises(InvalidInput, match="leaves the volume") as caught:
            given_affinities.check()
        where = eval(str(caught.value).partition("(channel, z, y, x) ")[2].partition(";")[0])
        assert array[where] == 1 and not edge_mask(shape, [offset])[where]
    else:
        given_affinities.check()
    cleaned = Affinities.convert(array, [offset])
    np.testing.assert_array_equal(cleaned.array, array * edge_mask(shape, [offset]))
