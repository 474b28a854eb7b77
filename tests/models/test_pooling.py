import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.errors import InvalidParameter
from segkit.models import load_model, save_model
from segkit.models._pooling import pooling_for
from segkit.models.unet3d import UNet3D
from segkit.registry import find


@pytest.mark.parametrize(
    ("voxel_size", "expected"),
    [
        ((10, 10, 10), [(2, 2, 2)] * 4),
        ((40, 4, 4), [(1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2)]),
        ((50, 4.6, 4.6), [(1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2)]),
        ((8, 4, 4), [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
        ((4, 4, 4.1), [(2, 2, 2)] * 4),
        ((4, 16, 8), [(2, 1, 1), (2, 1, 2), (2, 2, 2), (2, 2, 2)]),
    ],
)
def test_by_hand(voxel_size, expected):
    assert pooling_for(voxel_size, 4) == tuple(expected)


@given(st.tuples(*[st.floats(1, 100)] * 3))
def test_voxels_become_cubes_and_stay_so(voxel_size):
    """The ratio of the longest to the shortest edge falls to 2 at most, or where two edges are alike to sqrt 2."""
    for size, most in ((voxel_size, 2), ((voxel_size[0], *voxel_size[1:2] * 2), math.sqrt(2))):
        edges = list(size)
        ratio = max(edges) / min(edges)
        for factors in pooling_for(size, 8):
            edges = [edge * factor for edge, factor in zip(edges, factors, strict=True)]
            assert max(edges) / min(edges) <= max(ratio, most) * (1 + 1e-5)
            ratio = max(edges) / min(edges)
        assert ratio <= most * (1 + 1e-5)


def test_a_network_with_automatic_pooling_is_that_with_the_factors():
    auto = UNet3D(features=2, growth=2, pooling="auto", voxel_size=(40, 4, 4), levels=3)
    plain = UNet3D(features=2, growth=2, pooling=((1, 2, 2), (1, 2, 2)))
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (auto, plain)]
    assert shapes[0] == shapes[1]
    assert auto.stride == plain.stride == (1, 4, 4) and auto.context == plain.context
    assert UNet3D(features=1, growth=1, pooling="auto", voxel_size=(10, 10, 10)).stride == (8, 8, 8)


def test_a_checkpoint_keeps_the_voxel_size(tmp_path):
    parameters = {"features": 2, "growth": 2, "pooling": "auto", "voxel_size": [40, 4, 4], "levels": 2}
    network = find("models", "unet3d").create(channels=3, **parameters)
    save_model(
        tmp_path / "m", network, name="unet3d", parameters=parameters, neighborhood=[[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    )
    loaded = load_model(tmp_path / "m")
    assert loaded.module.stride == (1, 2, 2) and loaded.parameters["voxel_size"] == [40, 4, 4]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "auto"}, "'voxel_size' must be given"),
        ({"pooling": "auto", "voxel_size": (40, 4, 0)}, "three positive lengths"),
        ({"pooling": "auto", "voxel_size": (40, 4, 4), "levels": 0}, "'levels' must be at least 1"),
        ({"pooling": ((2, 2, 2),), "levels": 4}, "'levels' must be one more than the factors of pooling, 2"),
        ({"pooling": "automatic"}, "'auto'"),
    ],
)
def test_refusals(parameters, message):
    with pytest.raises(InvalidParameter, match=message):
        find("models", "unet3d").create(**parameters)
