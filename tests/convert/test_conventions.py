"""Conventions of affinities: every edge, voxel by voxel, against a dictionary of edges."""

import json
from itertools import product

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segkit import io
from segkit.cli.convert import PRESETS as NAMED
from segkit.convert import PRESETS, Convention, convention, convert
from segkit.data import NEAREST, Affinities, Grid
from segkit.errors import InvalidInput

GRID = Grid((40, 4, 4), (80, 8, 4))
SHAPE = (4, 5, 6)
LONG = [[-1, 0, 0], [0, 2, -1], [0, 0, 3]]


def all_edges(neighborhood, shape=SHAPE, seed=0):
    """A value k/255 for every edge, by the pair of voxels that it joins: what no convention can change."""
    rng = np.random.default_rng(seed)
    edges = {}
    for v in product(*map(range, shape)):
        for offset in neighborhood:
            w = tuple(int(a + b) for a, b in zip(v, offset, strict=True))
            if all(0 <= b < size for b, size in zip(w, shape, strict=True)):
                edges[frozenset((v, w))] = int(rng.integers(256)) / 255
    return edges


def stored(edges, neighborhood, edges_at, value_of, dtype, shape=SHAPE):
    """The array (C, Z, Y, X) of a convention, one voxel after another; leaving edges are split."""
    array = np.zeros((len(neighborhood), *shape), dtype)
    for c, offset in enumerate(neighborhood):
        for v in product(*map(range, shape)):
            sign = 1 if edges_at == "start" else -1
            w = tuple(int(a + sign * b) for a, b in zip(v, offset, strict=True))
            array[(c, *v)] = value_of(edges.get(frozenset((v, w)), 0.0))
    return array


def write_hdf5(path, array, **attributes):
    with h5py.File(path, "w") as file:
        file["data"] = array
        file["data"].attrs.update({"resolution": GRID.voxel_size, "offset": GRID.offset, **attributes})
    return f"{path}:data"


SCALES = {
    ("plain", "f4"): lambda p: p,
    ("plain", "f8"): lambda p: p,
    ("plain", "u1"): lambda p: round(p * 255),
    ("plain", "u2"): lambda p: round(p * 65535),
    ("signed", "f4"): lambda p: 2 * p - 1,
    ("logits", "f4"): lambda p: np.log((p + 1e-9) / (1 - p + 1e-9)),
}


@pytest.mark.parametrize("edges_at", ["start", "end"])
@pytest.mark.parametrize("polarity", ["same", "split"])
@pytest.mark.parametrize("scale", SCALES, ids="-".join)
def test_import_voxel_by_voxel(tmp_path, edges_at, polarity, scale):
    edges = all_edges(LONG)
    flip = (lambda p: p) if polarity == "same" else (lambda p: 1 - p)
    array = stored(edges, LONG, edges_at, lambda p: SCALES[scale](flip(p)), scale[1])
    expected = stored(edges, LONG, "start", float, "f4")
    before = {"neighborhood": LONG, "edges_at": edges_at, "polarity": polarity, "scale": scale[0]}
    for axes in ("czyx", "zyxc", "xyzc", "cxyz", "yczx"):
        foreign = write_hdf5(tmp_path / f"{axes}.h5", array.transpose(["czyx".index(axis) for axis in axes]))
        convert(foreign, tmp_path / f"from-{axes}.h5", "affinities", axes=axes, before=before)
        found = io.read_affinities(tmp_path / f"from-{axes}.h5")
        np.testing.assert_allclose(found.array, expected, atol=2e-7, err_msg=axes)
        assert found.grid == GRID and found.neighborhood.tolist() == LONG, axes
        found.check()


@pytest.mark.parametrize("edges_at", ["start", "end"])
@pytest.mark.parametrize("polarity", ["same", "split"])
@pytest.mark.parametrize("scale", SCALES, ids="-".join)
def test_export_voxel_by_voxel(tmp_path, edges_at, polarity, scale):
    edges = all_edges(LONG)
    io.write(tmp_path / "a.h5", Affinities.convert(stored(edges, LONG, "start", float, "f4"), LONG, GRID))
    after = {"neighborhood": LONG[::-1], "edges_at": edges_at, "polarity": polarity, "scale": scale[0]}
    convert(tmp_path / "a.h5", tmp_path / "b.h5", "affinities", after=after, dtype=scale[1], to_axes="xyzc")
    with h5py.File(tmp_path / "b.h5") as file:
        found = file["volumes/affinities"][()].transpose(3, 2, 1, 0)
        assert found.dtype == scale[1]
    flip = (lambda p: p) if polarity == "same" else (lambda p: 1 - p)
    expected = stored(edges, LONG[::-1], edges_at, lambda p: SCALES[scale](flip(p)), scale[1])
    if scale[0] == "logits":  # 0 and 1 have no logits
        found, expected = np.clip(found, -15, 15), np.clip(expected, -15, 15)
    np.testing.assert_allclose(found, expected, atol=2e-4 if scale[0] == "logits" else 2e-7)


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "f4"])
def test_binary(tmp_path, dtype):
    array = stored(all_edges(NEAREST), NEAREST, "start", lambda p: p > 0.5, dtype)
    before = {"name": "waterz", "scale": "binary"}
    convert(write_hdf5(tmp_path / "a.h5", array), tmp_path / "b.zarr", "affinities", before=before)
    np.testing.assert_array_equal(io.read_affinities(tmp_path / "b.zarr").array, array.astype("f4"))


values = st.fixed_dictionaries(
    {
        "edges_at": st.sampled_from(["start", "end"]),
        "polarity": st.sampled_from(["same", "split"]),
        "scale": st.sampled_from(["plain", "signed", "logits"]),
    }
)


@settings(deadline=None, max_examples=25)
@given(
    array=arrays(np.uint8, st.tuples(st.just(3), *[st.integers(1, 5)] * 3)),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    after=values,
    to_axes=st.permutations("czyx").map("".join),
)
def test_there_and_back_is_exact(tmp_path_factory, array, dtype, after, to_axes):
    folder = tmp_path_factory.mktemp("round")
    one = np.where(Affinities.convert(array / 255).array > 0, array, 0)
    if dtype == np.uint16:
        one = one.astype(dtype) * 257
    one = one.astype(dtype) / dtype(255) if dtype == np.float32 else one.astype(dtype)
    known = {"neighborhood": NEAREST, "edges_at": "start", "polarity": "same", "scale": "plain"}
    first = write_hdf5(folder / "a.h5", one)
    convert(first, folder / "b.h5", "affinities", axes="czyx", before=known, after=after, to_axes=to_axes, checks=False)
    convert(folder / "b.h5", folder / "c.h5", "affinities", dtype=np.dtype(dtype).name, checks=False)
    with h5py.File(folder / "c.h5") as file:
        found = file["volumes/affinities"][()]
    assert found.dtype == one.dtype
    if dtype == np.float32:
        np.testing.assert_allclose(found, one, atol=3e-7)
    else:
        np.testing.assert_array_equal(found, one)


def test_what_is_foreign_is_not_taken_for_ours(tmp_path):
    io.write(tmp_path / "a.h5", Affinities.convert(np.full((3, 4, 4, 4), 0.3), grid=GRID))
    for number, after in enumerate([{"edges_at": "end"}, {"polarity": "split"}, {"scale": "signed"}]):
        convert(tmp_path / "a.h5", tmp_path / f"{number}.h5", "affinities", after=after)
        with pytest.raises(InvalidInput, match="polarity"):
            io.read_affinities(tmp_path / f"{number}.h5")
        with h5py.File(tmp_path / f"{number}.h5") as file:
            said = json.loads(file["volumes/affinities"].attrs["convention"])
        assert said.items() >= after.items()


@pytest.mark.parametrize("claim", [{"edges_at": "end"}, {"name": "torch-em"}, {"neighborhood": NEAREST[::-1]}])
def test_what_the_file_states_is_not_overruled(tmp_path, claim):
    io.write(tmp_path / "a.h5", Affinities.convert(np.full((3, 4, 4, 4), 0.3), grid=GRID))
    with pytest.raises(InvalidInput, match=r"must be the one that the file states, .*edges_at start, polarity same"):
        convert(tmp_path / "a.h5", tmp_path / "b.h5", "affinities", before=claim)
    convert(tmp_path / "a.h5", tmp_path / "b.h5", "affinities", before={"name": "gunpowder", "polarity": "same"})


def test_another_direction_of_the_same_edges(tmp_path):
    edges, turned = all_edges(NEAREST), [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    io.write(tmp_path / "a.h5", Affinities.convert(stored(edges, NEAREST, "start", float, "f4"), NEAREST, GRID))
    convert(tmp_path / "a.h5", tmp_path / "b.h5", "affinities", after={"neighborhood": turned})
    np.testing.assert_allclose(io.read_affinities(tmp_path / "b.h5").array, stored(edges, turned, "start", float, "f4"))
    with pytest.raises(InvalidInput, match=r"no channel for the edge \[0, 0, 2\]"):
        convert(tmp_path / "a.h5", tmp_path / "c.h5", "affinities", after={"neighborhood": [[0, 0, 2]]})


def neighbours_of(name, v, channel):
    """Which voxel each tool joins with v in a channel of nearest neighbours, by its own documents."""
    axis = {"watershed-jl": 2 - channel}.get(name, channel)
    return tuple(a - (i == axis) for i, a in enumerate(v))


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "segkit"])
def test_presets(tmp_path, name):
    edges = all_edges(NEAREST)
    array = np.zeros((3, *SHAPE), "f4")
    for channel, v in product(range(3), product(*map(range, SHAPE))):
        same = edges.get(frozenset((v, neighbours_of(name, v, channel))), 0)
        array[(channel, *v)] = 1 - same if name == "torch-em" else same
    before = {"name": name} | ({} if PRESETS[name].neighborhood else {"neighborhood": NEAREST})
    axes = None if PRESETS[name].axes else "czyx"
    convert(write_hdf5(tmp_path / "a.h5", array), tmp_path / "b.h5", "affinities", before=before, axes=axes)
    found = io.read_affinities(tmp_path / "b.h5")
    expected = stored(edges, found.neighborhood, "start", float, "f4")
    np.testing.assert_allclose(found.array, expected, atol=1e-7)


def test_the_command_line_names_the_presets():
    assert tuple(PRESETS) == NAMED
    assert all(preset.about and preset.reference for preset in PRESETS.values())


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({}, "--from-neighborhood, --from-edges-at, --from-polarity, --from-scale"),
        ({"name": "torch-em"}, "--from-neighborhood$"),
        ({"name": "torchem"}, "did you mean 'torch-em'"),
        ({"name": "waterz", "polarity": "either"}, "polarity must be one of same, split"),
        ({"name": "waterz", "neighborhood": [[0, 0, 0]]}, "zero offset"),
    ],
)
def test_unknown_conventions(known, message):
    with pytest.raises(InvalidInput, match=message):
        convention("from", **known)


def test_what_is_given_comes_before_the_preset_and_that_before_the_file():
    stated = {"neighborhood": [[0, 0, 1]], "edges_at": "end", "polarity": "same", "scale": "signed"}
    found = convention("from", name="torch-em", stated=stated, scale="logits")
    assert found.stated() == Convention([[0, 0, 1]], "start", "split", "logits").stated()
