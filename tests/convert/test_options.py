"""What `convert` can be told is what type checkers know, and nothing else is taken."""

from dataclasses import fields

import numpy as np
import pytest
import zarr

from segkit import io
from segkit.convert import convert
from segkit.convert.files import Options, _Asked
from segkit.data import Affinities, Grid, Labels, Volume
from segkit.errors import InvalidInput, MissingFile

GRID = Grid((40, 4, 4), (80, 12, 20))
RAW = Volume(np.random.default_rng(0).integers(0, 200, (9, 140, 300)).astype(np.uint8), GRID)


def test_type_checkers_know_every_option():
    assert list(Options.__annotations__) == [each.name for each in fields(_Asked)]


def test_an_unknown_option_is_refused(tmp_path):
    with pytest.raises(TypeError, match="axis"):
        convert(tmp_path / "a.h5", tmp_path / "b.h5", "labels", axis="xyz")


@pytest.fixture
def raw(tmp_path):
    io.write(tmp_path / "a.h5", RAW)
    return tmp_path / "a.h5"


def scales(path):
    (image,) = zarr.open_group(str(path), mode="r").attrs["ome"]["multiscales"]
    return [scale["path"] for scale in image["datasets"]]


def test_smaller_scales_are_written_unless_they_are_not_wanted(raw, tmp_path):
    convert(raw, tmp_path / "a.zarr", "raw")
    convert(raw, tmp_path / "b.zarr", "raw", pyramid=False)
    convert(raw, tmp_path / "c.h5", "raw")
    assert scales(tmp_path / "a.zarr") == ["volumes/raw/0", "volumes/raw/1", "volumes/raw/2"]
    assert scales(tmp_path / "b.zarr") == ["volumes/raw/0"]
    for name in ("a.zarr", "b.zarr", "c.h5"):
        found = io.read_volume(tmp_path / name)
        np.testing.assert_array_equal(found.array, RAW.array)
        assert found.grid == GRID


@pytest.mark.parametrize("name", ["a.zarr", "a.precomputed"])
def test_progress_goes_on_with_the_smaller_scales(raw, tmp_path, name):
    if name == "a.precomputed":
        pytest.importorskip("tensorstore", reason="needs tensorstore")
    seen = []
    convert(raw, tmp_path / name, "raw", progress=lambda *step: seen.append(step))
    assert seen == [(0, 1), (1, 1), (1, 2), (2, 2), (1, 1)]


def test_affinities_and_masks(tmp_path):
    edges = Affinities(np.zeros((1, 9, 140, 300), np.float32), np.array([[-1, 0, 0]]), GRID)
    io.write_all(tmp_path / "a.h5", {"affinities": edges, "mask": Volume(RAW.array > 100, GRID)})
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", "affinities")
    assert scales(tmp_path / "a.zarr") == ["volumes/affinities/0"]
    convert(tmp_path / "a.h5", tmp_path / "b.zarr", "mask")
    assert len(scales(tmp_path / "b.zarr")) == 3
    low = io.read_mask(f"{tmp_path / 'b.zarr'}:volumes/labels/mask/1").array
    inside = (RAW.array > 100).reshape(9, 70, 2, 150, 2).sum((2, 4))
    np.testing.assert_array_equal(low, inside > 2)  # of four


@pytest.mark.parametrize("kind", ["raw", "truth"])
def test_shards_hold_what_single_chunks_hold(tmp_path, kind):
    pytest.importorskip("tensorstore", reason="needs tensorstore")
    array = RAW.array if kind == "raw" else RAW.array.astype(np.uint64)
    io.write(tmp_path / "a.h5", (Volume if kind == "raw" else Labels)(array, GRID), kind)
    for name, sharding in (("a.precomputed", False), ("b.precomputed", True)):
        convert(tmp_path / "a.h5", tmp_path / name, kind, sharding=sharding)
    assert len(list((tmp_path / "b.precomputed").rglob("*.shard"))) == 3
    same(kind, tmp_path, [(f"a.precomputed:{key}", f"b.precomputed:{key}") for key in ("4_4_40", "8_8_40", "16_16_40")])


def same(kind, folder, pairs):
    """The same values at the same place."""
    reader = io.read_volume if kind == "raw" else io.read_labels
    for one, other in ((reader(f"{folder}/{a}"), reader(f"{folder}/{b}")) for a, b in pairs):
        np.testing.assert_array_equal(one.array, other.array)
        assert one.grid == other.grid


@pytest.mark.parametrize("kind", ["raw", "truth"])
def test_shards_of_zarr(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("segkit.io.precomputed_layout.SHARD", 64**3 * (8 if kind == "truth" else 1) * 4)  # four chunks
    array = RAW.array if kind == "raw" else RAW.array.astype(np.uint64)
    io.write(tmp_path / "a.h5", (Volume if kind == "raw" else Labels)(array, GRID), kind)
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", kind)
    convert(tmp_path / "a.h5", tmp_path / "b.zarr", kind, sharding=True)
    name = io.datasets(tmp_path / "b.zarr")[0]
    same(kind, tmp_path, [(f"a.zarr:{name}/{level}", f"b.zarr:{name}/{level}") for level in range(3)])
    shards = [zarr.open_array(str(tmp_path / "b.zarr" / name / str(level)), mode="r").shards for level in range(3)]
    assert shards == [(9, 128, 128), (9, 128, 128), (9, 35, 128)]
    files = [
        [path for path in (tmp_path / "b.zarr" / name / str(level) / "c").rglob("*") if path.is_file()]
        for level in range(3)
    ]
    assert list(map(len, files)) == [6, 2, 1]
    files[0][-1].unlink()
    with pytest.raises(MissingFile, match="was lost"):
        (io.read_volume if kind == "raw" else io.read_labels)(tmp_path / "b.zarr")


def test_shards_of_affinities(tmp_path):
    edges = np.random.default_rng(0).random((2, 9, 140, 100)).astype(np.float32)
    io.write(tmp_path / "a.h5", Affinities(edges, np.array([[-1, 0, 0], [0, 0, -1]]), GRID))
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", "affinities", sharding=True)
    assert zarr.open_array(str(tmp_path / "a.zarr/volumes/affinities/0"), mode="r").shards == (2, 9, 192, 128)
    found, before = (io.read_affinities(tmp_path / name) for name in ("a.zarr", "a.h5"))
    np.testing.assert_array_equal(found.array, before.array)


@pytest.mark.parametrize(
    ("name", "kind", "options", "message"),
    [
        ("b.h5", "raw", {"pyramid": True}, "smaller scales are written of .* leave out --pyramid"),
        ("b.tif", "raw", {"pyramid": True}, "smaller scales are written of"),
        ("b.zarr", "affinities", {"pyramid": True}, "smaller scales are written of raw data, labels and masks"),
        ("b.h5", "raw", {"sharding": True}, "shards are written to .zarr and .precomputed; leave out --sharding"),
    ],
)
def test_what_a_format_has_not_is_refused(raw, tmp_path, name, kind, options, message):
    io.write(raw, Affinities(np.zeros((1, 2, 3, 4), np.float32), np.array([[-1, 0, 0]]), GRID))
    with pytest.raises(InvalidInput, match=message):
        convert(raw, tmp_path / name, kind, **options)
    assert not (tmp_path / name).exists()
