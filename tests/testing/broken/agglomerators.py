"""Agglomerators that break one promise each, and the tests that must see it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from segkit import MergeTree, threads
from segkit.agglomerate.greedy import GreedyMerging
from segkit.data import NEAREST, Affinities, Labels
from segkit.protocols import Agglomerator
from segkit.testing import AgglomeratorConformance


class Broken(AgglomeratorConformance):
    """A suite of the class `made`; `fails` are the tests that must fail, all others must not."""

    made: type
    fails: tuple

    def create(self, **values):
        return self.made(**values)


def with_altitudes(tree, altitudes):
    return MergeTree(tree.leaf_ids, tree.parents, altitudes)


class Sabotaged(Agglomerator):
    """Works, but for what `before` does to the inputs and `after` to the tree."""

    def __init__(self, *, score: str = "mean") -> None:
        self.inner = GreedyMerging(score=score)

    def agglomerate(self, affinities, fragments):
        return self.after(self.inner.agglomerate(*self.before(affinities, fragments)), affinities, fragments)

    def before(self, affinities, fragments):
        return affinities, fragments

    def after(self, tree, affinities, fragments):
        return tree


class TestSound(Broken):
    made = Sabotaged
    fails = ()


class TestChangesInput(Broken):
    class made(Sabotaged):
        def before(self, affinities, fragments):
            array = affinities.array.view()
            array.flags.writeable = True
            array[affinities.neighborhood[:, 0] < 0, 0] = 0.5  # of edges that leave the volume: no result changes
            return affinities, fragments

    fails = ("test_input_unchanged",)


KNOWN_TREES: dict = {}


class TestReturnsItsCache(Broken):
    class made(Sabotaged):
        def agglomerate(self, affinities, fragments):
            key = affinities.array.tobytes(), fragments.array.tobytes(), str(affinities.neighborhood)
            if key not in KNOWN_TREES or affinities.grid != fragments.grid:
                KNOWN_TREES[key] = super().agglomerate(affinities, fragments)
            return KNOWN_TREES[key]

    fails = ("test_nothing_shared",)


class TestPrints(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            os.write(1, b"merged\n")
            return tree

    fails = ("test_prints_nothing",)


class TestWritesFile(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            Path("debug.txt").write_text("merged")
            return tree

    fails = ("test_writes_no_file",)


class TestTakesGlobalRandomNumbers(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            np.random.random()  # noqa: NPY002
            return tree

    fails = ("test_random_state",)


class TestCannotBePickled(Broken):
    class made(Sabotaged):
        def __init__(self, *, score: str = "mean") -> None:
            super().__init__(score=score)
            self.after = lambda tree, affinities, fragments: tree

    fails = ("test_pickle",)


class TestOldVersion(Broken):
    class made(Sabotaged):
        segkit_api = "0"

    fails = ("test_api_version",)


class TestDefaultOfAnotherType(Broken):
    class made(Sabotaged):
        def __init__(self, *, score: str = "mean", rounds: int = "two") -> None:
            super().__init__(score=score)

    fails = ("test_defaults",)


class TestNoDefault(Broken):
    class made(Sabotaged):
        def __init__(self, *, score: str) -> None:
            super().__init__(score=score)

    parameters = ({"score": "mean"},)
    fails = ("test_parameters", "test_defaults")


class TestThreadsShow(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            return with_altitudes(tree, tree.altitudes * (1 - 1e-9 * threads.thread_count()))

    fails = ("test_thread_limit",)


class TestCountsItsCalls(Broken):
    class made(Sabotaged):
        calls = 0

        def after(self, tree, affinities, fragments):
            self.calls += 1
            return with_altitudes(tree, tree.altitudes * (1 - 1e-7 * self.calls))

    fails = (
        "test_calls_at_once",
        "test_large_ids",
        "test_memory_layout",
        "test_thin_volumes",
        "test_pickle",
        "test_repeats",
        "test_thread_limit",
    )


class TestMemoryOrder(Broken):
    class made(Sabotaged):
        def before(self, affinities, fragments):
            return affinities, replace(fragments, array=fragments.array.ravel(order="K").reshape(fragments.shape))

    fails = ("test_memory_layout",)


class TestTakesNaN(Broken):
    class made(Sabotaged):
        def before(self, affinities, fragments):
            return replace(affinities, array=np.nan_to_num(affinities.array).clip(0, 1)), fragments

    fails = ("test_bad_values",)


class TestAltitudesFall(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            return with_altitudes(tree, tree.altitudes[::-1])

    fails = ("test_valid_trees", "test_thin_volumes", "test_cuts", "test_files")


class TestAltitudesAboveOne(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            return with_altitudes(tree, 1 + tree.altitudes / 2)

    fails = ("test_valid_trees", "test_thin_volumes")


class TestJoinsIslands(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            roots = np.flatnonzero(tree.parents == np.arange(len(tree.parents))).tolist()
            merges, node = tree.merges.tolist(), len(tree.parents)
            for other in roots[1:]:
                merges.append(sorted((roots[0], other)))
                roots[0], node = node, node + 1
            heights = [*tree.altitudes, *np.ones(len(roots) - 1)] if roots else []
            return MergeTree.from_merges(tree.leaf_ids, merges, heights)

    fails = ("test_forest",)


class TestLeavesPairsApart(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            kept = max(len(tree.altitudes) - 1, 0) if len(tree.leaf_ids) > 12 else len(tree.altitudes)
            return MergeTree.from_merges(tree.leaf_ids, tree.merges[:kept], tree.altitudes[:kept])

    fails = ("test_forest",)


class TestIdsThroughFloats(Broken):
    class made(Sabotaged):
        def before(self, affinities, fragments):
            ids = fragments.array.astype(np.float64).clip(0, 2.0**63).astype(np.uint64)
            return affinities, replace(fragments, array=np.where(fragments.inside, ids, fragments.array))

    fails = ("test_large_ids", "test_valid_trees", "test_one_label")


class TestOneMeansSplit(Broken):
    class made(Sabotaged):
        def before(self, affinities, fragments):
            return replace(affinities, array=1 - affinities.array), fragments

    fails = ("test_high_affinities_first",)


class TestTakesWhatDoesNotFit(Broken):
    class made(Sabotaged):
        def before(self, affinities, fragments):
            array = np.resize(fragments.array, affinities.shape)
            return affinities, Labels(array, affinities.grid)

    fails = ("test_misaligned",)


class TestIdsDecide(Broken):
    class made(Sabotaged):
        def after(self, tree, affinities, fragments):
            first, last = np.searchsorted(fragments.ids(), fragments.array.flat[[0, -1]]).tolist()
            return with_altitudes(tree, tree.altitudes * (1 - 0.01 * first - 0.003 * last))

    fails = ("test_permuted_ids", "test_orientation")


class TestOneAxisCountsLess(Broken):
    class made(Sabotaged):
        def before(self, affinities, fragments):
            along_z = np.any(affinities.neighborhood[:, :1], axis=1)[:, None, None, None]
            return replace(affinities, array=np.where(along_z, affinities.array / 2, affinities.array)), fragments

    fails = ("test_orientation",)


class TestIgnoresTheNeighborhood(Broken):
    class made(Sabotaged):
        def before(self, affinities, fragments):
            return Affinities(affinities.array, NEAREST, affinities.grid), fragments

    fails = ("test_other_ends",)


class TestAnotherTreeFromTheGraph(Broken):
    class made(GreedyMerging):
        def cluster(self, rag):
            tree = super().cluster(rag)
            return with_altitudes(tree, tree.altitudes * 0.5)

        def agglomerate(self, affinities, fragments):
            return GreedyMerging().agglomerate(affinities, fragments)

    fails = ("test_graph", "test_parts_of_a_graph")


class TestScoresContactsWrongly(Broken):
    class made(GreedyMerging):
        def scores(self, rag, lists=None):
            return np.arange(len(rag.edges), 0.0, -1.0)  # not those by which it merges

    fails = ("test_parts_of_a_graph",)
