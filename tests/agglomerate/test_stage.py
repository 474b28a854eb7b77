import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import assert_same_tree

from segkit import Affinities, Grid, Labels, io, load
from segkit.agglomerate import stage as module
from segkit.agglomerate.stage import agglomerate_files
from segkit.blockwise import work as running
from segkit.blockwise.blocks import BLOCK
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.work import Work
from segkit.errors import InvalidInput, InvalidParameter

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
LONG = [*NEAREST, (0, 2, 3), (1, -1, 0), (-4, 0, 1)]
HIGH = 2**63


def volume(seed, shape, neighborhood=NEAREST, levels=5, most=6):
    """Affinities of few levels, and runs along x as fragments, with background, one "outside" and one far and wide."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.random((len(neighborhood), *shape)) * levels) / levels
    ids = (np.arange(np.prod(shape)) // rng.integers(1, most + 1)).reshape(shape).astype(np.uint64) + 1
    ids = np.where(rng.random(shape) < 0.1, np.uint64(HIGH) + ids, ids)
    ids[rng.random(shape) < 0.05] = 0
    ids[rng.random(shape) < 0.05] = 7
    ids[0, 0, 0] = 2**64 - 1
    return Affinities.convert(values, neighborhood), Labels(ids, Grid())


def stored(folder, affinities, fragments):
    """Both in a file."""
    path = folder / "data.h5"
    io.write_all(path, {"affinities": affinities, "fragments": fragments})
    return path


def by_blocks(*given, block=BLOCK, **options):
    """What came of it, and the reports of the stages."""
    work = Work(block)
    return agglomerate_files(*given, **options, work=work), work.ended


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    block=st.none() | st.tuples(*[st.integers(4, 9)] * 3),
    neighborhood=st.sampled_from([NEAREST, LONG]),
    backend=st.sampled_from([("python", {}), ("python", {"score": "max"}), ("python", {"max_size": 9}), ("higra", {})]),
    whole=st.booleans(),
)
def test_the_tree_is_that_of_the_whole(tmp_path_factory, seed, shape, block, neighborhood, backend, whole):
    folder = tmp_path_factory.mktemp("volume")
    data = volume(seed, shape, neighborhood)
    path, spec = stored(folder, *data), ComponentSpec("agglomerators", *backend)
    found, _ = by_blocks(path, path, folder / "out.zarr", spec, block=block, whole_graph=whole)
    tree = io.read_merge_tree(folder / "out.zarr")
    assert_same_tree(tree, load("agglomerators", backend[0], **backend[1]).agglomerate(*data))
    assert_same_tree(found.tree, tree)


def interrupted(monkeypatch, stage):
    """Let the run end before a stage."""
    run_stage = running.run_stage

    def run(each, *rest):
        if each.name == stage:
            raise KeyboardInterrupt
        return run_stage(each, *rest)

    monkeypatch.setattr(running, "run_stage", run)
    return lambda: monkeypatch.setattr(running, "run_stage", run_stage)


def test_goes_on_where_it_was_stopped_and_mends_what_was_damaged(tmp_path, monkeypatch):
    data = volume(3, (4, 9, 9), LONG)
    path, spec, out = stored(tmp_path, *data), ComponentSpec("agglomerators", "python"), tmp_path / "out.zarr"
    go_on = interrupted(monkeypatch, "reduce 1")
    with pytest.raises(KeyboardInterrupt):
        by_blocks(path, path, out, spec, block=(4, 5, 5))
    go_on()
    damaged, gone = sorted((out / ".segkit-work").rglob("graphs-0/*/*.npz"))[:2]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content)
    gone.unlink()
    _, reports = by_blocks(path, path, out, spec, block=(4, 5, 5))
    assert [report.kept for report in reports] == [2, 4, 0]
    assert_same_tree(io.read_merge_tree(out), load("agglomerators", "python").agglomerate(*data))
    assert sorted(each.name for each in out.iterdir()) == ["merge_tree", "zarr.json"]


def test_a_tree_that_is_there_is_made_anew_only_if_something_else_is_wanted(tmp_path):
    data = volume(4, (3, 5, 5))
    path, out = stored(tmp_path, *data), tmp_path / "out.h5"
    for score, ran in [("mean", True), ("mean", False), ("min", True)]:
        spec = ComponentSpec("agglomerators", "python", {"score": score})
        found, reports = by_blocks(path, path, out, spec, block=(3, 5, 3), notes={"by": "me"})
        assert bool(reports) == ran and len(found.tree.altitudes) > 0
        assert_same_tree(io.read_merge_tree(out), load("agglomerators", "python", score=score).agglomerate(*data))
    notes = io.read_notes(out, "merge_tree")
    assert notes["by"] == "me" and notes["fragments"] == str(path)


def test_a_tree_that_is_there_says_what_is_stated_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored(tmp_path, *volume(7, (3, 5, 5)))
    spec = ComponentSpec("agglomerators", "python")
    for out in ("out.zarr", "out.h5:trees/mine"):
        found = []
        for chosen in (0.2, 0.2, 0.4):
            _, reports = by_blocks("data.h5", "data.h5", out, spec, notes={"chosen": chosen})
            found.append((len(reports), io.read_notes(out, "merge_tree")["chosen"], io.read_merge_tree(out).parents))
            if out == "out.zarr" and not reports:
                assert io.exists(out, "segmentation")
            io.write_all("out.zarr", {"segmentation": io.read_labels("data.h5", role="fragments")})
        assert [(count > 0, chosen) for count, chosen, _ in found] == [(True, 0.2), (False, 0.2), (False, 0.4)]
        np.testing.assert_array_equal(found[0][2], found[2][2])
        assert io.read_notes(out, "merge_tree")["fragments"] == str(tmp_path / "data.h5")


def test_tasks_travel(tmp_path):
    path = stored(tmp_path, *volume(5, (3, 4, 5)))
    values, labels = io.RegionSource(path, "affinities"), io.RegionSource(path, "fragments")
    spec = ComponentSpec("agglomerators", "python", {"score": "median"})
    task = module.GraphTask(values, labels, module.Lattice((3, 4, 5), (3, 4, 4)), spec, tmp_path / "graphs-0")
    task.run(0)
    sent = pickle.loads(pickle.dumps(task))
    assert sent.digest(0) == task.digest(0) is not None and sent.digest(1) is None
    sent.run(1)
    reduce = module.ReduceTask(spec, (1, 1, 2), 1, tmp_path)
    assert pickle.loads(pickle.dumps(reduce)) == reduce
    assert reduce.place(0) == "at blocks z 0:1, y 0:1, x 0:2"


def test_bad_calls(tmp_path):
    affinities, fragments = volume(6, (3, 4, 5))
    path, spec = stored(tmp_path, affinities, fragments), ComponentSpec("agglomerators", "python")
    other = tmp_path / "other.h5"
    io.write(other, Labels(fragments.array[:2], Grid()), "fragments")
    with pytest.raises(InvalidInput, match="same shape"):
        by_blocks(path, other, tmp_path / "out.zarr", spec)
    with pytest.raises(InvalidParameter, match="by blocks"):
        by_blocks(path, path, tmp_path / "out.zarr", ComponentSpec("agglomerators", "reference"))
    assert not (tmp_path / "out.zarr").exists()
