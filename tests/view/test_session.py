"""What the server serves, and what the session does, without a browser."""

import io as streams
import json
import os
import subprocess
import sys
import zlib
from urllib.error import HTTPError
from urllib.request import urlopen

import h5py
import numpy as np
import pytest
import zarr

from segkit import Affinities, Grid, Labels, io
from segkit.data import NEAREST
from segkit.errors import InvalidInput
from segkit.evaluate import sweep, worst
from segkit.memory import resident
from segkit.segment import segment, uncertain
from segkit.view import Session, things
from segkit.view.served import averaging


@pytest.fixture
def opened(folder):
    def call(*names, **options):
        return Session(things([str(folder / name) for name in names]), **options)

    return call


def address(session, name):
    served = session.volumes[name]
    home = session.url.split("/v/")[0]
    return home, session.viewer.volume_manager.get_volume_key(served)


def chunk(session, name, start, end, factor=(1, 1, 1)):
    """What the page receives, over HTTP, in the axes of the file."""
    home, key = address(session, name)
    served = session.volumes[name]
    scale, begin, stop = (",".join(map(str, each)) for each in (factor, start, end))
    data = urlopen(f"{home}/neuroglancer/{served.encoding}/{key}/{scale}/{begin}/{stop}").read()
    if served.encoding == "npz":
        return np.load(streams.BytesIO(zlib.decompress(data)))
    return np.frombuffer(data, served.data_type).reshape(np.subtract(end, start), order="F")


def test_chunks_are_what_the_files_hold(folder, opened):
    session = opened("d.h5", "a.h5", "f.h5")
    start, end = (2, 5, 7), (9, 33, 48)
    part = tuple(map(slice, start, end))
    assert np.array_equal(chunk(session, "raw", start, end), io.read_volume(folder / "d.h5").array[part])
    assert np.array_equal(chunk(session, "truth", start, end), io.read_labels(folder / "d.h5").array[part])
    values = chunk(session, "affinities", (0, *start), (3, *end), (1, 1, 1, 1))
    expected = io.read_affinities(folder / "a.h5").array[(slice(None), *part)] * 255
    assert values.dtype == np.uint8 and np.abs(values - expected).max() <= 0.5


@pytest.mark.parametrize("piece", [5, 64])
def test_coarse_chunks_are_means_of_images_and_voxels_of_labels(folder, opened, monkeypatch, piece):
    monkeypatch.setattr("segkit.view.served.PIECE", piece)
    session = opened("d.h5")
    raw, truth = io.read_volume(folder / "d.h5").array, io.read_labels(folder / "d.h5").array
    start, end, factor = (1, 3, 0), (6, 20, 12), (2, 2, 4)
    assert np.array_equal(chunk(session, "truth", start, end, factor), truth[::2, ::2, ::4][1:6, 3:20, 0:12])
    found = chunk(session, "raw", start, end, factor)
    means = raw.reshape(6, 2, 20, 2, 12, 4).mean(axis=(1, 3, 5))[1:6, 3:20, 0:12]
    assert np.abs(found - means).max() <= 0.5


def test_averages_at_the_end_are_of_fewer_voxels():
    array = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    found = averaging(array, np.array([1, 2, 3]))
    assert found.shape == (2, 2, 2) and found[1, 1, 1] == array[1, 2:, 3:].mean()
    assert found[0, 0, 0] == array[0, :2, :3].mean()


def test_other_places_and_strangers_are_refused(opened):
    session = opened("d.h5")
    for start, end in (((0, 0, 0), (13, 1, 1)), ((3, 0, 0), (2, 1, 1))):
        with pytest.raises(HTTPError):
            chunk(session, "raw", start, end)
    home, key = address(session, "raw")
    assert home.startswith("http://127.0.0.1:") and len(session.url.split("/v/")[1]) > 30
    stranger = ("1" if key[0] == "0" else "0") + key[1:]
    with pytest.raises(HTTPError):
        urlopen(f"{home}/neuroglancer/raw/{stranger}/1,1,1/0,0,0/1,1,1")


def press(session, action):
    session.viewer.actions.invoke(action, {})
    session.wait()


def test_a_change_between_threshold_and_slider_does_not_undo_a_key(opened, monkeypatch):
    session = opened("d.h5", "t.h5", threshold=0.6)
    slide = session._slide

    def slide_after_another_change(state):
        session._slider_was_moved()  # as when the page moves meanwhile: the slider is where it was
        slide(state)

    monkeypatch.setattr(session, "_slide", slide_after_another_change)
    press(session, "higher")
    assert session.threshold == pytest.approx(0.61)


def test_the_threshold_is_live(folder, opened):
    session = opened("d.h5", "t.h5", threshold=0.6)
    tree, fragments = io.read_merge_tree(folder / "t.h5"), io.read_labels(folder / "f.h5", "fragments")
    seen = []
    for action, threshold in (("", 0.6), ("higher", 0.61), ("much-higher", 0.71), ("lower", 0.7), ("much-lower", 0.6)):
        if action:
            press(session, action)
        assert session.threshold == pytest.approx(threshold)
        expected = segment(tree, fragments, session.threshold).array
        assert np.array_equal(chunk(session, "segments", (0, 0, 0), expected.shape), expected)
        seen.append(session.volumes["segments"].info()["generation"])
    assert seen == sorted(set(seen)), "the page is told each time to fetch the chunks anew"
    for _ in range(12):
        press(session, "much-lower")
    assert session.threshold == 0


def test_the_slider_moves_it_too(opened):
    session = opened("d.h5", "t.h5", threshold=0.6)
    assert session.viewer.state.layers["raw"].layer.shader_controls.to_json()["threshold"] == 0.6
    with session.viewer.txn() as state:
        state.layers["raw"].layer.shader_controls = {"threshold": 0.25}
    session.wait()
    session.wait()
    assert session.threshold == 0.25
    press(session, "higher")
    assert session.viewer.state.layers["raw"].layer.shader_controls.to_json()["threshold"] == 0.26


def test_scores_and_the_worst_mistakes_at_the_threshold(folder, opened):
    session = opened("d.h5", "t.h5", threshold=0.6)
    tree, fragments = io.read_merge_tree(folder / "t.h5"), io.read_labels(folder / "f.h5", "fragments")
    truth = io.read_labels(folder / "d.h5")
    for action in ("", "much-higher"):
        if action:
            press(session, action)
        session.wait()
        splits, merges = worst(segment(tree, fragments, session.threshold), truth, count=20)
        expected = sorted(splits + merges, key=lambda mistake: -mistake.bits)
        assert [mark.position for mark in session.marks] == [mistake.position for mistake in expected]
        points = session.viewer.state.layers["places to look at"].layer.annotations
        for point, mistake in zip(points, expected, strict=True):
            assert np.allclose(point.point, np.array(mistake.position[::-1]) / (4, 4, 40))
        (row,) = sweep(tree, fragments, truth).at([session.threshold])
        said = session.viewer.config_state.state.status_messages["threshold"]
        assert f"threshold {session.threshold:.2f}" in said and f"CREMI {row['cremi_score']:.3f}" in said


def test_marks_go_when_there_are_no_mistakes_any_more_and_an_error_is_said(opened):
    session = opened("d.h5", "t.h5", threshold=0.6)
    session.wait()
    assert len(session.viewer.state.layers["places to look at"].layer.annotations) == len(session.marks) > 0
    session._scored.worst = lambda cut: []
    press(session, "higher")
    session.wait()
    assert len(session.viewer.state.layers["places to look at"].layer.annotations) == 0
    session._scored.worst = lambda cut: 1 // 0
    press(session, "higher")
    session.wait()
    assert "ZeroDivisionError" in session.viewer.config_state.state.status_messages["error"]


def test_without_a_truth_the_merges_on_which_most_hangs(folder, opened):
    session = opened("t.h5", threshold=0.6)
    session.wait()
    tree, fragments = io.read_merge_tree(folder / "t.h5"), io.read_labels(folder / "f.h5", "fragments")
    expected = uncertain(tree, fragments.array.__getitem__, fragments.shape, fragments.grid, 0.6)
    assert [mark.position for mark in session.marks] == [each.position for each in expected if each.position]
    press(session, "next-mistake")
    assert np.allclose(session.viewer.state.position, np.array(expected[0].position[::-1]) / (4, 4, 40))
    press(session, "previous-mistake")
    assert np.allclose(session.viewer.state.position, np.array(session.marks[-1].position[::-1]) / (4, 4, 40))


def test_meshes_lie_where_the_object_lies(folder, opened):
    session = opened("d.h5")
    truth = io.read_labels(folder / "d.h5").array
    home, key = address(session, "truth")
    for label in np.unique(truth)[1:].tolist():
        data = urlopen(f"{home}/neuroglancer/mesh/{key}/{label}").read()
        count = int(np.frombuffer(data[:4], np.uint32)[0])
        vertices = np.frombuffer(data[4 : 4 + 12 * count], np.float32).reshape(-1, 3) / (40e-9, 4e-9, 4e-9)
        low, high = (f(np.argwhere(truth == label), axis=0) for f in (np.min, np.max))
        assert np.abs(vertices.min(axis=0) - low).max() <= 0.51
        assert np.abs(vertices.max(axis=0) - (high + 1)).max() <= 1.01, "surfaces are simplified"


def test_the_largest_segments_are_selected(folder, opened):
    session = opened("d.h5", "t.h5", threshold=0.9)
    cut = segment(io.read_merge_tree(folder / "t.h5"), io.read_labels(folder / "f.h5", "fragments"), 0.9).array
    ids, counts = np.unique(cut, return_counts=True)
    expected = ids[np.argsort(-counts, kind="stable")][:2].tolist()
    assert session.select_largest(2) == expected
    assert set(session.viewer.state.layers["segments"].layer.segments) == set(expected)
    assert opened("a.h5").select_largest(2) == []


def test_a_chunk_that_cannot_be_read_is_said(tmp_path):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file["volumes/affinities"] = np.full((3, 2, 3, 4), 7, np.float32)
        file["volumes/affinities"].attrs["neighborhood"] = NEAREST
        file["volumes/affinities"].attrs["resolution"] = (1.0, 1.0, 1.0)
    session = Session(things([str(tmp_path / "bad.h5")]))
    with pytest.raises(HTTPError):
        chunk(session, "affinities", (0, 0, 0, 0), (3, 2, 3, 4), (1, 1, 1, 1))
    assert "affinities" in (said := session.viewer.config_state.state.status_messages["error"]) and "0..1" in said


def test_fragments_of_another_tree_are_refused(folder, tmp_path):
    fragments = io.read_labels(folder / "f.h5", "fragments")
    io.write(tmp_path / "f.h5", Labels(fragments.array + np.uint64(1000), fragments.grid), "fragments")
    io.write(tmp_path / "t.h5", io.read_merge_tree(folder / "t.h5"), notes={"fragments": str(tmp_path / "f.h5")})
    session = Session(things([str(tmp_path / "t.h5")]))
    session.wait()
    assert "must be leaves of the merge tree" in session.viewer.config_state.state.status_messages["error"]
    with pytest.raises(HTTPError):
        chunk(session, "segments", (0, 0, 0), fragments.shape)


def test_axes_without_edges_are_black(tmp_path):
    values = np.full((2, 2, 3, 4), 0.6, np.float32)
    io.write(tmp_path / "flat.h5", Affinities(values, [(0, 0, -1), (0, -1, 0)], Grid((1, 1, 1))))
    seen = chunk(Session(things([str(tmp_path / "flat.h5")])), "affinities", (0, 0, 0, 0), (3, 2, 3, 4), (1, 1, 1, 1))
    assert seen[0].max() == 0 and seen[1:, 1, 1, 1].tolist() == [153, 153]


def test_grids_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    labels = Labels(rng.integers(1, 9, (4, 5, 6)).astype(np.uint64), Grid((40, 4, 4), (80, 6, -8)))
    io.write(tmp_path / "s.h5", labels, "segmentation")
    session = Session(things([str(tmp_path / "s.h5")]), at=(1, 2, 3))
    layer = session.viewer.state.layers["segmentation"]
    assert session.volumes["segmentation"].info()["voxelOffset"].tolist() == [2, 2, -2]
    assert layer.source[0].transform.matrix[:, -1].tolist() == [0, -0.5, 0]
    assert np.allclose(session.viewer.state.position, [(3.5 * 4 - 8) / 4, (2.5 * 4 + 6) / 4, (1.5 * 40 + 80) / 40])
    again = Session(things([str(tmp_path / "s.h5")]), position=(140, 16, 6))
    assert np.allclose(again.viewer.state.position, session.viewer.state.position)
    with pytest.raises(InvalidInput, match="at must be a voxel z,y,x of the first volume, which has 4,5,6, not 4,0,0"):
        Session(things([str(tmp_path / "s.h5")]), at=(4, 0, 0))


def test_what_is_written_anew_is_shown_anew(tmp_path):
    for value in (3, 4):
        io.write(tmp_path / "s.h5", Labels(np.full((2, 3, 4), value, np.uint64), Grid((1, 1, 1))), "segmentation")
        if value == 3:
            session = Session(things([str(tmp_path / "s.h5")]))
            session.refresh()
            before = session.volumes["segmentation"].info()["generation"]
        session.refresh()
    assert session.volumes["segmentation"].info()["generation"] == before + 1
    assert (chunk(session, "segmentation", (0, 0, 0), (2, 3, 4)) == 4).all()
    io.write(tmp_path / "a.h5", Labels(np.full((2, 3, 4), 5, np.uint64), Grid((1, 1, 1))), "fragments")
    session.refresh(things([str(tmp_path / "s.h5"), str(tmp_path / "a.h5")]))
    assert (chunk(session, "fragments", (0, 0, 0), (2, 3, 4)) == 5).all(), "what is there only now"
    io.write(tmp_path / "t.h5", Labels(np.full((2, 3, 4), 6, np.uint64), Grid((1, 1, 1))), "segmentation")
    session.refresh(things([str(tmp_path / name) for name in ("s.h5", "a.h5", "t.h5")]))  # names have files now
    assert list(session.volumes) == ["segmentation", "fragments", "segmentation (t)"]


LARGE = """
import json, sys
from segkit.memory import forget_peak, peak
from segkit.view import Session, things
from concurrent.futures import ThreadPoolExecutor
session = Session(things([sys.argv[1]]))
session.wait()
name, = session.volumes
served = session.volumes[name]
import numpy as np
def ask(corner):
    served.get_encoded_subvolume("npz", np.array(corner), np.array(corner) + 64, "4,4,4")
with ThreadPoolExecutor(2) as pool:
    list(pool.map(ask, [(z, y, 128) for z in (0, 64) for y in (0, 64, 128)]))
print(peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(resident() is None, reason="needs a system that says how much memory a process takes")
def test_a_large_volume_takes_little_memory(tmp_path):
    group = zarr.open_group(tmp_path / "large.zarr", mode="w")
    array = group.create_array("ids", shape=(1024,) * 3, chunks=(128,) * 3, dtype=np.uint64)
    array[:512, :512, :512] = np.broadcast_to(np.arange(512, dtype=np.uint64) // 64, (512,) * 3)
    words = [sys.executable, "-c", LARGE, f"{tmp_path}/large.zarr"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) < 500 * 2**20
