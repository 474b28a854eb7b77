"""Affinities of a box of a volume against those of the whole volume."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid, Volume
from segkit.data.source import Held
from segkit.infer import predict, predict_parts
from segkit.infer.slabs import Slabs
from segkit.infer.symmetry import Symmetry
from segkit.models.unet2d import UNet2D
from segkit.models.unet2d_padded import UNet2D3Sections
from segkit.models.unet3d import UNet3D

NEIGHBORHOOD = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 0), (0, -3, 0), (0, 0, -3)]
SHAPE = (19, 33, 41)


@pytest.fixture(scope="module")
def raw() -> Volume:
    return Volume(np.random.default_rng(5).integers(0, 256, SHAPE, np.uint8), Grid((40, 4, 4), (0, 8, 8)))


def network(kind, **parameters):
    torch.manual_seed(1)
    return kind(channels=len(NEIGHBORHOOD), **parameters).eval()


NETWORKS = {
    "anisotropic": lambda: network(UNet3D, features=2, growth=2, pooling=((1, 2, 2), (1, 2, 3))),
    "isotropic": lambda: network(UNet3D, features=2, growth=2, pooling=((2, 2, 2),)),
    "planar": lambda: network(UNet2D, features=2, levels=2),
    "padded": lambda: network(UNet2D3Sections, features=2, levels=2),
}


def of_part(model, raw, part, **options) -> np.ndarray:
    ((where, array),) = predict_parts(model, Held(raw), NEIGHBORHOOD, thickness=max(raw.shape), part=part, **options)
    assert where == tuple(slice(0, size) for size in array.shape)
    return array


def random_part(rng) -> tuple[slice, ...]:
    starts = [int(rng.integers(0, size)) for size in SHAPE]
    return tuple(slice(a, int(rng.integers(a + 1, size + 1))) for a, size in zip(starts, SHAPE, strict=True))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("augment", ["none", "flips"])
def test_a_part_is_a_part_of_the_whole(raw, kind, augment):
    model, rng = NETWORKS[kind](), np.random.default_rng(2)
    whole = predict(model, raw, NEIGHBORHOOD, augment=augment).array
    assert whole.std() > 0.01
    corners = tuple(slice(0, 5) for _ in SHAPE), tuple(slice(size - 5, size) for size in SHAPE)
    for part in (*corners, *(random_part(rng) for _ in range(3 if augment == "none" else 1))):
        found = of_part(model, raw, part, augment=augment)
        np.testing.assert_allclose(found, whole[(slice(None), *part)], atol=2e-6)


@pytest.mark.parametrize("kind", ["anisotropic", "planar"])
def test_tiles_of_one_shape_give_the_same_bits(raw, kind):
    model = NETWORKS[kind]()
    tile = model.output_shape(model.input_shape([2 * step for step in model.stride]))
    whole = predict(model, raw, NEIGHBORHOOD, tile_shape=tile).array
    step = tile if model.ndim == 3 else (1, *tile)
    part = tuple(slice(a, min(3 * a, size)) for a, size in zip(step, SHAPE, strict=True))
    np.testing.assert_array_equal(of_part(model, raw, part, tile_shape=tile), whole[(slice(None), *part)])


def test_what_lies_far_from_a_part_is_not_read(raw):
    model, reads = NETWORKS["anisotropic"](), []

    class Watched(Held):
        def __init__(self, volume):
            super().__init__(volume)
            self.read = lambda part: reads.append(part) or volume.array[part]

    part = (slice(8, 10), slice(12, 18), slice(0, 12))
    list(predict_parts(model, Watched(raw), NEIGHBORHOOD, part=part))
    for axis, (along, context) in enumerate(zip(part, model.context, strict=True)):
        assert min(read[axis].start for read in reads) >= along.start - context - model.stride[axis]
        assert max(read[axis].stop for read in reads) <= along.stop + context + model.stride[axis]


@pytest.mark.parametrize("kind", ["anisotropic", "padded"])
@pytest.mark.parametrize("augment", ["none", pytest.param("flips", marks=pytest.mark.slow)])
def test_where_raw_data_are_0_nothing_is_computed(monkeypatch, kind, augment):
    """Edges without an end in an empty tile are what they are otherwise."""
    model, blank = NETWORKS[kind](), []
    array = np.random.default_rng(5).integers(1, 256, (19, 33, 140), np.uint8)
    array[:, :, 40:] = 0
    raw = Volume(array, Grid((40, 4, 4)))
    tile = model.output_shape(model.input_shape((9, 16, 16)[-model.ndim :]))
    options = {"tile_shape": tile, "augment": augment}
    expected = predict(model, raw, NEIGHBORHOOD, **options).array
    forward = type(model).forward

    def watched(self, raw):
        if raw.device.type == "cpu":  # and not to count memory
            blank.append(raw.max() == -1)
        return forward(self, raw)

    monkeypatch.setattr(type(model), "forward", watched)
    found = predict(model, raw, NEIGHBORHOOD, skip_empty=True, **options).array
    assert blank and not any(blank)
    np.testing.assert_array_equal(found[..., :37], expected[..., :37])
    assert not found[..., 120:].any() and expected[..., 120:].mean() > 0.2


@settings(deadline=None)
@given(st.permutations([0, 1, 2]), st.sets(st.integers(0, 2)), st.tuples(*[st.integers(1, 5)] * 3), st.data())
def test_boxes_are_changed_as_their_volume(order, mirrored, shape, data):
    symmetry, array = Symmetry(tuple(order), tuple(sorted(mirrored))), np.arange(np.prod(shape)).reshape(shape)
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    part = tuple(slice(a, data.draw(st.integers(a + 1, size))) for a, size in zip(starts, shape, strict=True))
    changed = symmetry.changed(part, shape)
    assert symmetry.box(changed, shape) == part
    np.testing.assert_array_equal(symmetry.apply(array)[changed], symmetry.apply(array[part]))


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 6)] * 3), st.integers(0, 2), st.integers(1, 3), st.data())
def test_slabs_of_a_part(shape, axis, thickness, data):
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    part = tuple(slice(a, data.draw(st.integers(a + 1, size))) for a, size in zip(starts, shape, strict=True))
    found = []
    for chosen, thick in ((None, max(shape)), (part, thickness)):
        slabs = Slabs(shape, np.array(NEIGHBORHOOD), axis, thick, 0.5, chosen)
        for channel in range(len(NEIGHBORHOOD)):
            slabs.add(channel, (-1, 0, -2), np.ones([size + 3 for size in shape], np.float32))
        sizes = slabs.shape
        result = np.full((len(NEIGHBORHOOD), *sizes), np.nan, np.float32)
        for where, values in slabs.complete(shape[axis]):
            result[where] = values
        found.append(result)
    np.testing.assert_array_equal(found[1], found[0][(slice(None), *part)])
