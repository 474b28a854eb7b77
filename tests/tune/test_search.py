"""The records of a search against the components called one by one, and going on where it stopped."""

import json

import numpy as np
import pytest

from segkit import Labels, load
from segkit.errors import InvalidParameter, StorageError
from segkit.evaluate import sweep
from segkit.evaluate.sweep import SCORES
from segkit.segment import segment
from segkit.tune import Choices, Goal, Scene, Space, left_out, ranked, read_scene, search, wins
from segkit.tune.choose import THRESHOLDS


@pytest.fixture(scope="module")
def found(scenes, space, tmp_path_factory):
    out = tmp_path_factory.mktemp("search")
    return search(space.combinations, scenes, out, Goal()), out


def test_a_record_is_what_the_components_give_one_by_one(found, scenes, space):
    for number in (0, 7, 17):
        combination, record = space.combinations[number], found[0][number]
        for scene, volume in zip(scenes, record["volumes"], strict=True):
            fragments = combination.fragmenter.load().fragment(scene.affinities)
            tree = combination.agglomerator.load().agglomerate(scene.affinities, fragments)
            assert (volume["fragments"], volume["merges"]) == (len(tree.leaf_ids), len(tree.altitudes))
            for threshold in (0.0, 0.31, record["threshold"], 1.0):
                expected = load("metrics", "cremi").score(segment(tree, fragments, threshold), scene.truth)
                row = {name: volume["curves"][name][THRESHOLDS.index(threshold)] for name in SCORES}
                assert row == pytest.approx(expected, abs=1e-12)
            swept = sweep(tree, fragments, scene.truth)
            assert (volume["best"], volume["oracle"], volume["unmerged"]) == (
                swept.best(),
                swept.oracle,
                swept.fragments,
            )


def test_draws_are_of_the_segmentation_at_the_threshold(found, scenes, space):
    """Of blocks that are put together: with all blocks once, the score is that of the volume; here, each draw's."""
    from segkit.evaluate.bootstrap import block_tables, draws, scores_of_draws

    combination, record = space.combinations[5], found[0][5]
    for number, (scene, volume) in enumerate(zip(scenes, record["volumes"], strict=True)):
        fragments = combination.fragmenter.load().fragment(scene.affinities)
        tree = combination.agglomerator.load().agglomerate(scene.affinities, fragments)
        tables = block_tables(segment(tree, fragments, record["threshold"]), scene.truth)
        expected = scores_of_draws(tables, draws(len(tables.tables), 200, seed=number))["cremi_score"]
        assert volume["draws"] == pytest.approx(expected, abs=1e-12)
        assert np.std(expected) > 0


def test_a_single_block_has_no_spread(scenes, space, tmp_path):
    """Its draws are all the same, which would say that nothing depends on what was annotated."""
    ids = np.full_like(scenes[0].truth.array, 2**64 - 1)
    ids[:3, :7, :7] = scenes[0].truth.array[:3, :7, :7]
    corner = Scene(scenes[0].affinities, Labels(ids, scenes[0].truth.grid))
    records = search(space.combinations[:2], [corner, scenes[1]], tmp_path, Goal())
    for row in ranked(records, [[], []], Goal()):
        assert np.isnan(row.spread) and np.isnan(wins(row, row))


def test_it_goes_on_where_it_stopped_and_gives_the_same(found, scenes, space, tmp_path):
    def interrupt(done, total, text):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(space.combinations, scenes, tmp_path, Goal(), interrupt)
    kept = {path: path.read_bytes() for path in (tmp_path / "combinations").iterdir()}
    assert 5 <= len(kept) < 18
    seen = []
    again = search(space.combinations, scenes, tmp_path, Goal(), lambda done, total, text: seen.append(done))
    assert len(seen) == 18 - len(kept)
    assert all(path.read_bytes() == content for path, content in kept.items())
    rows, expected = (ranked(records, space.neighbours, Goal()) for records in (again, found[0]))
    assert [(row.number, row.threshold, row.value, row.spread) for row in rows] == [
        (row.number, row.threshold, row.value, row.spread) for row in expected
    ]
    assert left_out(again, space.neighbours, Goal()) == left_out(found[0], space.neighbours, Goal())


@pytest.mark.parametrize("step", ["fragment", "agglomerate"])
def test_an_interrupt_inside_a_kernel_is_no_failed_combination(step, scenes, space, tmp_path, monkeypatch):
    from segkit.agglomerate.greedy import GreedyMerging
    from segkit.fragment.watershed import Watershed

    def interrupted(self, *arguments, **options):
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    monkeypatch.setattr(Watershed if step == "fragment" else GreedyMerging, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(space.combinations[:2], scenes[:1], tmp_path, Goal())


def test_what_decides_a_record_is_in_its_name(found, scenes, space, tmp_path):
    some = space.combinations[:1]
    names = set()
    changed = Labels(np.where(scenes[0].truth.array == 1, 2, scenes[0].truth.array), scenes[0].truth.grid)
    for volumes, goal in (
        (scenes[:1], Goal()),
        (scenes[:1], Goal("voi")),
        ([Scene(scenes[0].affinities, changed)], Goal()),
        ([Scene(scenes[0].affinities, scenes[0].truth, border=20)], Goal()),
    ):
        search(some, volumes, tmp_path, goal)
        names |= {path.name for path in (tmp_path / "combinations").iterdir()}
    assert len(names) == 4


def test_a_damaged_record_is_made_again(found, scenes, space, tmp_path):
    search(space.combinations[:1], scenes, tmp_path, Goal())
    (path,) = (tmp_path / "combinations").iterdir()
    whole = json.loads(path.read_text())
    path.write_text(path.read_text()[:100])
    (again,) = search(space.combinations[:1], scenes, tmp_path, Goal())
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}


def test_one_that_fails_is_said_and_tried_again(scenes, tmp_path, monkeypatch):
    """The others go on."""
    from segkit.agglomerate.greedy import GreedyMerging

    space = Space(
        (Choices("fragmenters", "watershed"),), (Choices("agglomerators", "python", {"score": ["mean", "max"]}),)
    )
    whole = GreedyMerging.agglomerate

    def fail(self, affinities, fragments):
        if self.score == "max":
            raise InvalidParameter("it does not like this volume")
        return whole(self, affinities, fragments)

    with monkeypatch.context() as patch:
        patch.setattr(GreedyMerging, "agglomerate", fail)
        good, bad = search(space.combinations, scenes[:1], tmp_path, Goal())
    assert "volumes" in good and bad["problem"] == "it does not like this volume"
    assert [row.number for row in ranked([good, bad], space.neighbours, Goal())] == [0]
    assert "volumes" in search(space.combinations, scenes[:1], tmp_path, Goal())[1]


def test_a_fragmentation_that_fails_fails_with_all_its_agglomerators(scenes, tmp_path):
    affinities = scenes[0].affinities
    in_plane = type(affinities)(affinities.array[1:], affinities.neighborhood[1:], affinities.grid)
    space = Space(
        (Choices("fragmenters", "watershed"),), (Choices("agglomerators", "python", {"score": ["mean", "max"]}),)
    )
    records = search(space.combinations, [Scene(in_plane, scenes[0].truth)], tmp_path, Goal())
    assert all("must have the edge to the next voxel along z" in record["problem"] for record in records)
    assert ranked(records, space.neighbours, Goal()) == [] and left_out(records, space.neighbours, Goal()) == []


def test_a_disk_that_cannot_be_written_ends_the_search(scenes, space, tmp_path):
    (tmp_path / "combinations").write_text("in the way")
    with pytest.raises(StorageError):
        search(space.combinations[:1], scenes, tmp_path, Goal())


def test_a_fragmentation_is_made_once_for_its_agglomerators(scenes, space, tmp_path, monkeypatch):
    from segkit.fragment.watershed import Watershed

    calls, whole = [], Watershed.fragment

    def counted(self, affinities, mask=None):
        calls.append(self.threshold)
        return whole(self, affinities, mask)

    monkeypatch.setattr(Watershed, "fragment", counted)
    search(space.combinations[:6], scenes[:1], tmp_path, Goal())
    assert calls == [0.5, 0.5]


def test_nerl_is_that_of_the_segmentation(scenes, space, tmp_path):
    """On skeletons that are lines through the objects."""
    from segkit.data.skeletons import Skeletons
    from segkit.evaluate.run_length import placed, run_length_scores

    scene = scenes[0]
    nodes, edges, owners = [], [], []
    for label in np.unique(scene.truth.array)[1:]:
        voxels = np.argwhere(scene.truth.array == label)[::25]
        edges += [(len(nodes) + k, len(nodes) + k + 1) for k in range(len(voxels) - 1)]
        nodes += ((voxels + 0.5) * scene.truth.grid.voxel_size + scene.truth.grid.offset).tolist()
        owners += [int(label)] * len(voxels)
    traced = Scene(scene.affinities, scene.truth, skeletons=Skeletons(nodes, edges, owners))
    (record,) = search(space.combinations[:1], [traced], tmp_path, Goal("nerl"))
    (row,) = ranked([record], [[]], Goal("nerl"))
    fragments = space.combinations[0].fragmenter.load().fragment(scene.affinities)
    tree = space.combinations[0].agglomerator.load().agglomerate(scene.affinities, fragments)
    inside, places = placed(traced.skeletons, scene.truth.grid, scene.truth.shape)
    segments = segment(tree, fragments, row.threshold).array[tuple(places.T)]
    expected = run_length_scores(inside, segments, [50])["nerl_50"]
    assert -row.mean == row.scores["nerl_50"] == expected > 0
    assert np.isnan(row.spread)
    assert -row.best >= -row.mean


def test_volumes_must_be_aligned(scenes, tmp_path):
    from segkit import io
    from segkit.errors import InvalidInput

    io.write(tmp_path / "a.h5", scenes[0].affinities, "affinities")
    io.write(tmp_path / "t.h5", Labels(scenes[0].truth.array[:4].copy(), scenes[0].truth.grid), "truth")
    with pytest.raises(InvalidInput):
        read_scene(tmp_path / "a.h5", tmp_path / "t.h5")


def test_a_truth_in_which_nothing_counts_is_refused_before_the_work(scenes, tmp_path):
    from segkit import io
    from segkit.errors import InvalidInput

    affinities, truth = scenes[0].affinities, scenes[0].truth
    io.write_all(tmp_path / "a.h5", {"affinities": affinities, "truth": truth})
    io.write(tmp_path / "zero.h5", Labels(np.zeros_like(truth.array), truth.grid), "truth")
    with pytest.raises(InvalidInput, match="must hold a voxel that counts"):
        read_scene(tmp_path / "a.h5", tmp_path / "zero.h5")
    with pytest.raises(InvalidInput, match="lower the border of 5000"):
        read_scene(tmp_path / "a.h5", tmp_path / "a.h5", border=5000)
