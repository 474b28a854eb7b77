from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.errors import InvalidShape
from segkit.infer.memory import TileMemory
from segkit.infer.settings import MEMORY
from segkit.infer.tiles import check_tile, default_tile, margins_of, reflected, spans
from segkit.models.unet2d_padded import UNet2DPadded
from segkit.models.unet3d import UNet3D


def _meta(model, **parameters):
    import torch

    with torch.device("meta"):
        return model(**parameters)


def _default(model, shape, memory):
    return default_tile(model, shape, TileMemory(model, 1), memory)


@given(st.integers(1, 400), st.integers(1, 30), st.integers(0, 29), st.integers(1, 5))
def test_spans_of_a_valid_model_write_each_voxel_once(size, stride, remainder, times):
    tile = times * stride + remainder % stride
    written = np.zeros(size, int)
    for span in spans(size, tile, stride, blended=False):
        assert span.start % stride == 0 and span.start <= span.low < span.high <= min(span.start + tile, size)
        written[span.low : span.high] += 1
    assert (written == 1).all()


@given(st.integers(1, 400), st.integers(1, 16), st.integers(1, 40), st.none() | st.integers(0, 40))
def test_spans_of_a_padding_model_sum_to_one(size, stride, times, given):
    tile = times * stride + (0 if given is None else 2 * margins_of(0, stride, given)[0])
    total = np.zeros(size)
    for span in spans(size, tile, stride, blended=True, given=given):
        assert span.start % stride == 0 and span.start <= span.low < span.high <= min(span.start + tile, size)
        total[span.low : span.high] += 1 if span.weights is None else span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_blending_is_smooth_and_keeps_off_the_rim():
    first, second, *_ = spans(200, 64, 8, blended=True)
    assert first.start == -8 and second.start == 40
    overlap = second.weights[: first.high - second.low]
    assert overlap[0] < 0.01 and (np.diff(overlap) > 0).all() and overlap[-1] > 0.99


def test_margins_keep_off_the_rim_of_each_tile():
    """But for the rims that nobody else computes, voxels next to a rim count for nothing."""
    for margin, (inside, border) in ((None, (16, 8)), (24, (24, 24)), (0, (0, 0))):
        found = spans(500, 160, 8, blended=True, given=margin)
        assert found[0].start == -border and found[-1].start + 160 >= 500 + border
        assert all(after.start - before.start == 160 - 2 * inside for before, after in pairwise(found))
        if inside:
            assert all(span.weights[0] < 0.01 for span in found[1:])


@pytest.mark.parametrize("margins", [None, (0, 0, 0), (3, 20, 33)])
def test_a_default_tile_covers_a_volume_with_its_margins(margins):
    model, shape = _meta(UNet3D, padding="same", pooling=((1, 2, 2), (2, 2, 2))), (33, 70, 110)
    least = [2 * margins_of(0, step, each)[0] for step, each in zip(model.stride, margins or (0, 0, 0), strict=True)]
    for memory in (10**9, 10**8, 10**7):
        tile = default_tile(model, shape, TileMemory(model, 1), memory, margins)
        assert check_tile(model, tile, shape, margins) == tile
        assert all(size > small for size, small in zip(tile, least, strict=True))
    with pytest.raises(InvalidShape, match=r"tile_shape must be at least .* for margins of \(0, 0, 30\)"):
        check_tile(model, (16, 16, 16), shape, (0, 0, 30))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_reflection_is_numpys(size):
    values = np.arange(size)
    np.testing.assert_array_equal(reflected(-7, size + 14, size), np.pad(values, 7, mode="reflect"))


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 250, 250), (125, 1250, 1250), (4000, 4000, 4000)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_default_tiles_are_valid_and_bounded(shape, padding):
    model = _meta(UNet3D, padding=padding)
    taken = TileMemory(model, batch_size=1)
    tile = default_tile(model, shape, taken, MEMORY)
    assert model.output_shape(model.input_shape(tile)) == tile == check_tile(model, tile, shape)
    assert taken(tile) <= MEMORY


def test_default_tiles_waste_little_on_context():
    """Along z the context is 28, along y and x 212: here it is cheapest to divide z alone."""
    tile = _default(_meta(UNet3D), (40, 250, 250), MEMORY)
    assert tile[0] < 40 and tile[1:] == (272, 272)


def test_a_default_tile_where_even_the_smallest_is_over_the_bound():
    assert _default(_meta(UNet3D), (500, 500, 500), 10**6) == (1, 29, 29)


def test_default_tile_of_one_section_of_cremi():
    model = _meta(UNet2DPadded)
    height, width = _default(model, (1250, 1250), MEMORY)
    assert height < 1250 < width and height % 16 == width % 16 == 0


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        ((56, 56, 60), r"\(56, 56, 56\) and \(56, 83, 83\)|nearest"),
        ((56, 56), "positive sizes z, y, x"),
        ((0, 56, 56), "positive"),
        ((1, 2, 56), r"stride.*nearest is \(1, 29, 56\)"),
    ],
)
def test_bad_tiles(tile, message):
    with pytest.raises(InvalidShape, match=message):
        check_tile(_meta(UNet3D), tile, (100, 300, 300))


def test_a_tile_shorter_than_the_stride_serves_a_volume_that_is_no_larger():
    assert check_tile(_meta(UNet3D), (1, 2, 29), (9, 2, 29)) == (1, 2, 29)


def test_one_section_may_be_written_out_for_2d_models():
    assert check_tile(_meta(UNet2DPadded), (1, 64, 32), (99, 99)) == (64, 32)
