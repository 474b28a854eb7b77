"""Predictions that come part by part, against those of the whole; and who gets what goes wrong on the way."""

import threading
from contextlib import closing

import numpy as np
import pytest
import torch
from torch import nn

from segkit import Grid, Volume
from segkit.errors import InvalidInput, StorageError
from segkit.infer import predict, predict_parts
from segkit.models.unet2d_padded import UNet2D3Sections
from segkit.models.unet3d import UNet3D

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
GRID = Grid((8, 8, 8))


class Source:
    """A volume in memory that remembers what was read of it."""

    def __init__(self, array):
        self.array, self.shape, self.grid, self.largest = array, array.shape, GRID, 0

    def read(self, part):
        self.largest = max(self.largest, self.array[part].size)
        return self.array[part]


def _model(kind=UNet3D, **parameters):
    torch.manual_seed(1)
    if kind is UNet3D:
        parameters = {"features": 3, "growth": 2, "pooling": ((1, 2, 2),), **parameters}
    return kind(**parameters).eval()


def _source(*shape):
    return Source(np.random.default_rng(5).integers(0, 256, shape, np.uint8))


def _joined(parts, shape, channels=3):
    result = np.full((channels, *shape), np.nan, np.float32)
    for part, array in parts:
        assert np.isnan(result[part]).all() and array.flags.c_contiguous
        result[part] = array
    return result


@pytest.mark.parametrize("shape", [(24, 12, 13), (14, 23, 12), (12, 13, 25)])
@pytest.mark.parametrize("augment", ["none", "flips"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_parts_together_are_the_whole_to_the_last_bit(shape, augment, padding):
    model, source = _model(padding=padding), _source(*shape)
    tile = model.output_shape(model.input_shape((7, 8, 9)))
    options = {"tile_shape": tile, "augment": augment, "batch_size": 2}
    whole = predict(model, Volume(source.array, GRID), NEAREST, **options)
    parts = list(predict_parts(model, source, NEAREST, thickness=7, **options))
    np.testing.assert_array_equal(_joined(parts, shape), whole.array)
    longest = 1 + int(np.argmax(shape))
    begins = [part[longest].start for part, _ in parts]
    assert begins == list(range(0, max(shape), 7))
    assert source.largest <= np.prod(model.input_shape(tile))


def test_parts_of_a_stack_of_sections():
    model, source = _model(UNet2D3Sections, features=2, levels=2, channels=2), _source(3, 20, 24)
    planar = NEAREST[1:]
    whole = predict(model, Volume(source.array, GRID), planar, tile_shape=(16, 8), augment="all")
    parts = predict_parts(model, source, planar, thickness=10, tile_shape=(16, 8), augment="all")
    np.testing.assert_array_equal(_joined(parts, (3, 20, 24), 2), whole.array)


def test_a_part_comes_before_all_tiles_are_computed():
    model, source, seen = _model(), _source(60, 12, 14), []
    tile = model.output_shape(model.input_shape((4, 12, 14)))
    options = {"tile_shape": tile, "thickness": 8, "progress": lambda *call: seen.append(call)}
    with closing(predict_parts(model, source, NEAREST, **options)) as parts:
        next(parts)
        done, total = seen[-1]
        assert done < total / 2


def test_closing_early_gives_the_module_back_and_ends_the_threads():
    model, source, before = _model().train(), _source(60, 12, 14), threading.active_count()
    tile = model.output_shape(model.input_shape((4, 12, 14)))
    parts = predict_parts(model, source, NEAREST, tile_shape=tile, thickness=8)
    next(parts)
    assert not model.training and threading.active_count() > before
    parts.close()
    assert model.training and threading.active_count() == before


class Weak(nn.Module):
    """A network that runs out of memory."""

    ndim, sections, context, stride = 3, 1, (0, 0, 0), (1, 1, 1)

    def output_shape(self, shape):
        return tuple(shape)

    input_shape = output_shape

    def forward(self, raw):
        raise torch.OutOfMemoryError("not enough")


def test_errors_of_the_threads_are_raised_as_they_are():
    source, before = _source(6, 6, 6), threading.active_count()
    with pytest.raises(torch.OutOfMemoryError, match="not enough"):
        list(predict_parts(Weak(), source, NEAREST))

    def read(part):
        raise StorageError("raw.h5 cannot be read")

    source.read = read
    with pytest.raises(StorageError, match="cannot be read"):
        list(predict_parts(Weak(), source, NEAREST))
    assert threading.active_count() == before


def test_values_that_are_no_intensities_are_found_tile_by_tile():
    with pytest.raises(InvalidInput, match=r"intensities must lie in 0..1"):
        list(predict_parts(_model(), Source(np.full((12, 12, 12), 200.0)), NEAREST))


@pytest.mark.parametrize(("name", "value"), [("thickness", 0), ("batch_size", 0), ("precision", "fp16")])
def test_bad_options_are_refused_at_once(name, value):
    with pytest.raises(InvalidInput, match=name):
        predict_parts(_model(), _source(12, 12, 12), NEAREST, **{name: value})
