"""Scores of files, whole and by blocks, against those of containers: equal, not nearly equal."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid, Labels, MergeTree, io, load
from segkit.blockwise.blocks import BLOCK
from segkit.blockwise.work import Work
from segkit.errors import InvalidInput, SegkitWarning
from segkit.evaluate import contingency, evaluate, evaluate_many, sweep
from segkit.evaluate.count import count_files
from segkit.evaluate.counting import CountingMetric
from segkit.evaluate.stage import evaluate_files, sweep_files
from segkit.protocols import Metric
from segkit.testing import strategies

GRID = Grid((40, 4, 6), (0, 80, 12))
RNG = np.random.default_rng(0)


def shapes():
    return strategies.shapes(8)


def blocks():
    return st.tuples(*[st.integers(3, 12)] * 3)


def ways():
    """By blocks, or whole."""
    return st.none() | blocks()


def borders():
    return st.sampled_from([0.0, 3.9, 4.0, 8.0, 12.5, 1e6])


def smooth(shape, seed=0) -> Labels:
    """Objects with an inside: boxes of a few voxels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, [-(-size // 5) for size in shape]).astype(np.uint64)
    return Labels(np.kron(coarse, np.ones((5, 5, 5), np.uint64))[tuple(map(slice, shape))], GRID)


def stored(folder, **labels):
    for role, each in labels.items():
        io.write(folder / f"{role}.zarr", each, role)
    return [folder / f"{role}.zarr" for role in labels]


class Overlaps(CountingMetric):
    """What it returns depends on every part of the table."""

    def of(self, table):
        ids = np.concatenate([table.segments, table.objects]).astype(float)
        return {"overlaps": float(table.rows @ table.counts + table.cols @ table.counts**2 + ids.sum())}


def outcome(work):
    """The result of `work`, or what it refuses."""
    try:
        return work()
    except InvalidInput as error:
        return f"{type(error).__name__}: {error}"


@settings(max_examples=15, deadline=None)
@given(shapes().flatmap(lambda shape: strategies.segmented(shape, GRID)), st.booleans(), borders(), blocks())
def test_tables_add_up(tmp_path_factory, pair, ignore_background, border, block):
    segmentation, truth = pair
    paths = stored(tmp_path_factory.mktemp("any"), segmentation=segmentation, truth=truth)
    rule = (ignore_background, border)
    tables = count_files(*paths, [rule], work=Work(block))
    found = tables.counted[rule, 0]
    expected = outcome(lambda: contingency(segmentation, truth, ignore_background=ignore_background, border=border))
    if isinstance(expected, str):
        assert "voxel that counts" in expected and not len(found.counts)
        return
    for name in ("segments", "objects", "rows", "cols", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype


def test_no_metric_gives_no_score(tmp_path):
    labels = smooth((4, 9, 9))
    paths = stored(tmp_path, segmentation=labels, truth=labels)
    assert evaluate_files(paths[0], paths[1:], {}, work=Work(BLOCK)).scores == evaluate(labels, labels, {}) == {}


@settings(max_examples=15, deadline=None)
@given(shapes().flatmap(lambda shape: strategies.segmented(shape, GRID)), st.booleans(), borders(), ways())
@pytest.mark.filterwarnings("ignore::segkit.errors.SegkitWarning")
def test_scores_and_refusals_are_those_of_the_containers(tmp_path_factory, pair, per_section, border, block):
    paths = stored(tmp_path_factory.mktemp("any"), segmentation=pair[0], truth=pair[1])
    metrics = {
        "cremi": load("metrics", "cremi", border=border),
        "overlaps": Overlaps(ignore_background=True),
    }
    expected = outcome(lambda: evaluate(*pair, metrics, per_section))
    options = {"per_section": per_section, "work": Work(block)}
    found = outcome(lambda: evaluate_files(paths[0], paths[1:], metrics, **options).scores)
    assert found == expected


@pytest.mark.parametrize("block", [(4, 16, 16), (3, 7, 11), (1, 50, 50)])
@pytest.mark.parametrize("border", [4.0, 10.0, 25.0])
def test_borders_reach_over_the_faces_of_blocks(tmp_path, block, border):
    segmentation, truth = smooth((5, 33, 40), 1), smooth((5, 33, 40), 2)
    paths = stored(tmp_path, segmentation=segmentation, truth=truth)
    metrics = {"cremi": load("metrics", "cremi", border=border)}
    expected = outcome(lambda: evaluate(segmentation, truth, metrics))
    assert border > 4 or expected["voi_merge"] > 0
    assert outcome(lambda: evaluate_files(paths[0], paths[1:], metrics, work=Work(block)).scores) == expected


@pytest.mark.parametrize("per_section", [False, True])
def test_several_annotators(tmp_path, per_section):
    shape = (4, 20, 20)
    empty = Labels(np.zeros(shape, np.uint64), GRID)
    truths = [smooth(shape, 2), empty, smooth(shape, 3)]
    for k, truth in enumerate(truths):
        io.write(f"{tmp_path}/truth.zarr:annotator_{k}", truth, "truth")
    (path,) = stored(tmp_path, segmentation=smooth(shape, 1))
    metrics = {"voi": load("metrics", "voi"), "rand": load("metrics", "rand", ignore_background=False)}
    expected = evaluate_many(smooth(shape, 1), truths, metrics, per_section)
    addresses = [f"{tmp_path}/truth.zarr:annotator_{k}" for k in range(3)]
    work = Work((3, 8, 8))
    found = evaluate_files(path, addresses, metrics, per_section=per_section, work=work)
    assert found.scores == expected and len(work.ended) == 3
    assert not list(tmp_path.rglob("*segkit-work*"))


def test_sections_within_the_border_are_named(tmp_path):
    truth = smooth((3, 30, 30), 2).array.copy()
    truth[1] = np.arange(30)[:, None] + 1
    pair = smooth((3, 30, 30), 1), Labels(truth, GRID)
    paths = stored(tmp_path, segmentation=pair[0], truth=pair[1])
    metrics = {"voi": load("metrics", "voi", border=6)}
    with pytest.warns(SegkitWarning, match="sections 1 are left out"):
        found = evaluate_files(paths[0], paths[1:], metrics, per_section=True, work=Work((2, 16, 16))).scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found == evaluate(*pair, metrics, per_section=True)


@settings(max_examples=15, deadline=None)
@given(strategies.merge_trees(), st.integers(0, 2**32 - 1), shapes(), ways(), borders())
def test_a_sweep(tmp_path_factory, tree, seed, shape, block, border):
    folder, rng = tmp_path_factory.mktemp("any"), np.random.default_rng(seed)
    fragments = Labels(rng.choice(np.array([0, *tree.leaf_ids], np.uint64), shape), GRID)
    truth = Labels(np.repeat(rng.integers(1, 4, (*shape[:2], 1)), shape[2], axis=2).astype(np.uint64), GRID)
    io.write_all(folder / "a.h5", {"fragments": fragments, "merge_tree": tree, "truth": truth})
    expected = outcome(lambda: sweep(tree, fragments, truth, border=border))
    found = outcome(lambda: sweep_files(folder / "a.h5", None, folder / "a.h5", border=border, work=Work(block)))
    if isinstance(expected, str):
        assert found == expected
        return
    assert found.fragments == expected.fragments and found.oracle == expected.oracle
    for name in ("thresholds", "voi_split", "voi_merge", "rand_index", "adapted_rand_error", "cremi_score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_crops_are_placed_by_their_offsets(tmp_path):
    shape = (4, 20, 20)
    paths = stored(tmp_path, segmentation=smooth(shape, 1), truth=smooth(shape, 2))
    metrics = {"cremi": load("metrics", "cremi")}
    crops = [
        f"{path}:{name}[1:3,2:19,:]"
        for path, name in zip(paths, ("volumes/segmentation", "volumes/labels/neuron_ids"), strict=True)
    ]
    whole = [io.read_labels(crop, role) for crop, role in zip(crops, ("segmentation", "truth"), strict=True)]
    assert evaluate_files(crops[0], crops[1:], metrics, work=Work((4, 8, 8))).scores == evaluate(*whole, metrics)
    shifted = crops[1].replace("1:3", "2:4")
    for found in (
        outcome(lambda: evaluate_files(crops[0], [shifted], metrics, work=Work(BLOCK))),
        outcome(lambda: evaluate(whole[0], io.read_labels(shifted), metrics)),
    ):
        assert "must lie at the same place" in found


def test_refusals(tmp_path):
    class Voxels(Metric):
        def score(self, segmentation, truth):
            return {}

    paths = stored(tmp_path, segmentation=smooth((2, 9, 9)), truth=smooth((2, 9, 9)))
    with pytest.raises(InvalidInput, match="metric must be one of the contingency table, by blocks, not 'mine'"):
        evaluate_files(paths[0], paths[1:], {"mine": Voxels()}, work=Work(BLOCK))
    with pytest.raises(InvalidInput, match="truths must be at least one"):
        evaluate_files(paths[0], [], {"voi": load("metrics", "voi")}, work=Work(BLOCK))
    tree = MergeTree.from_merges([99], [], [])
    io.write_all(tmp_path / "a.h5", {"fragments": smooth((2, 9, 9)), "merge_tree": tree})
    with pytest.raises(InvalidInput, match="must be leaves of the merge tree"):
        sweep_files(tmp_path / "a.h5", None, paths[1], work=Work(BLOCK))


def test_a_damaged_table_is_counted_again(tmp_path):
    from segkit.blockwise.blocks import Lattice
    from segkit.blockwise.engine import Stage, run_stage
    from segkit.evaluate.count import CountTask, table_path
    from segkit.io.reader import RegionSource

    paths = stored(tmp_path, segmentation=smooth((4, 9, 9), 1), truth=smooth((4, 9, 9), 2))
    lattice = Lattice((4, 9, 9), (2, 9, 9))
    sources = RegionSource(paths[0], "segmentation"), RegionSource(paths[1], "truth")
    task = CountTask(*sources, lattice, ((True, 0.0),), False, tmp_path / "work")
    stage = Stage("evaluate", task, [each.voxels for each in lattice], tmp_path / "marks", "k")
    assert run_stage(stage).kept == 0 and run_stage(stage).kept == 2
    table_path(tmp_path / "work", 1).write_bytes(b"damaged")
    assert run_stage(stage).kept == 1
