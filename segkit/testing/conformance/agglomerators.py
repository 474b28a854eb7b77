"""The suite for agglomerators."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit import io
from segkit.agglomerate.pieces import Linkage, reduce_piece, tree_of
from segkit.data import Affinities, Labels, MergeTree
from segkit.errors import InvalidInput
from segkit.parameters import parameters
from segkit.protocols import RagAgglomerator
from segkit.testing import strategies
from segkit.testing.conformance._base import SETTINGS, core, refused, same_or_refused
from segkit.testing.conformance._compare import assert_apart, assert_same, snapshot
from segkit.testing.conformance._graphs import OTHER_GRIDS, AffinityConformance, successors
from segkit.testing.conformance._volumes import (
    EDGE_IDS,
    GRID,
    OUTSIDE,
    REORIENTATIONS,
    fragmented,
    groups,
    renamed,
    reoriented,
    restored,
    tie_free,
)

TOLERANCE = 1e-5
"""Of altitudes, where float32 sums come in another order."""


class AgglomeratorConformance(AffinityConformance):
    """What an agglomerator promises.

    Claims that the plug point does not make, but that hold unless the class says otherwise: see the attributes.
    """

    kind = "agglomerators"
    merges_all: ClassVar[bool] = True
    """Fragments that edges join, directly or through others, end in one tree; False where a constraint forbids it."""
    ties_by_id: ClassVar[bool] = False
    """True where scores tie in bins, so that the order of ids and of axes matters even if no two affinities tie."""

    any_voxels: ClassVar[bool] = True
    """False where it takes voxels of one size only, and that is 40 x 8 x 4 nm: what it learned speaks of these."""

    def on(self, affinities: Affinities, fragments: Labels) -> tuple:
        """Both."""
        return affinities, fragments

    def call(self, component: Any, *inputs: Any) -> MergeTree:
        """The tree."""
        return component.agglomerate(*inputs)

    def check_result(self, result: Any, affinities: Affinities, fragments: Labels) -> None:
        """Fail unless `result` is a valid tree of the fragments."""
        assert isinstance(result, MergeTree), f"it returned a {type(result).__name__}, not a MergeTree"
        try:
            result.check()
        except InvalidInput as error:
            pytest.fail(f"the tree is not valid: {error}")
        assert_same(fragments.ids(), result.leaf_ids, "the leaves are not the fragments")
        heights = result.altitudes
        assert not len(heights) or (heights[0] >= 0 and heights[-1] <= 1), f"altitudes lie in {heights[[0, -1]]}"

    @core
    @given(data=st.data())
    @SETTINGS
    def test_valid_trees(self, component: Any, data: st.DataObject) -> None:
        """Trees are valid: altitudes in 0..1 never decrease, the leaves are the fragments."""
        grid = None if self.any_voxels else GRID
        affinities, fragments = data.draw(strategies.fragmented(None, self.neighborhood(component), grid))
        self.check_result(self.call(component, affinities, fragments), affinities, fragments)

    def test_forest(self, component: Any) -> None:
        """Fragments that no edge joins stay in separate trees, all others end in one."""
        affinities, fragments = fragmented(self.neighborhood(component), (5, 9, 16), 40)
        array = fragments.array.copy()
        array[:, :, 5:9] = 0
        fragments = Labels(array, fragments.grid)
        tree = self.call(component, affinities, fragments)
        found = clusters(tree, 2.0)
        expected = groups(affinities, fragments)
        assert len(expected) > 1
        for cluster in found:
            assert any(cluster <= group for group in expected), f"{sorted(cluster)[:9]} are one tree without edges"
        assert not self.merges_all or found == expected, f"there are {len(found)} trees instead of {len(expected)}"

    def test_cuts(self, component: Any) -> None:
        """A cut at t does the merges of altitude below t, and segments of higher cuts hold those of lower ones."""
        tree = self.call(component, *self.example(component))
        assert len(tree.altitudes), "nothing was merged"
        thresholds = [0.0, *np.quantile(tree.altitudes, [0, 0.2, 0.5, 0.8, 1.0]), 2.0]
        for threshold in thresholds:
            assert clusters(tree, threshold) == replayed(tree, threshold), f"the cut at {threshold} differs"
        for low, high in pairwise(thresholds):
            coarse = clusters(tree, high)
            assert all(any(fine <= one for one in coarse) for fine in clusters(tree, low))

    @core
    def test_high_affinities_first(self, component: Any) -> None:
        """Fragments of high affinity merge first: 1 = same object."""
        fragments = Labels.convert([[[7, 7, 5, 5, 2, 2]]], GRID)
        offsets = np.asarray(self.neighborhood(component))
        array = np.zeros((len(offsets), 1, 1, 6), np.float32)
        steps = [1, 0.9, 1, 0.3, 1]  # between neighbours; across several, the lowest of them
        for channel, (z, y, x) in zip(array, offsets, strict=True):
            for voxel in range(max(0, -x), min(6, 6 - x)) if (z, y) == (0, 0) else ():
                channel[0, 0, voxel] = min(steps[min(voxel, voxel + x) : max(voxel, voxel + x)])
        affinities = Affinities(array, offsets, GRID)
        tree = self.call(component, affinities, fragments)
        assert len(tree.altitudes), "it merged nothing, not even fragments of affinity 0.9"
        first = sorted(tree.leaf_ids[tree.merges[0]].tolist())
        assert first == [5, 7], f"it merged {first} first; 5 and 7 have affinity 0.9, 5 and 2 have 0.3"

    @core
    def test_large_ids(self, component: Any) -> None:
        """Ids up to 2^64 - 3 are as good as small ones; 0, 2^64 - 2 and 2^64 - 1 are no fragments."""
        affinities, fragments = tie_free(self.neighborhood(component))
        array = fragments.array.copy()
        array[0, 0, :3] = 0, *OUTSIDE
        array[array > 30] = 30
        small = Labels(array, fragments.grid)
        names = dict(zip(small.ids().tolist(), EDGE_IDS, strict=True))
        tree, other = (self.call(component, affinities, each) for each in (small, renamed(small, names)))
        assert other.leaf_ids.tolist() == list(EDGE_IDS), f"the leaves are {other.leaf_ids.tolist()}"
        assert_same((tree.parents, tree.altitudes), (other.parents, other.altitudes), "with large ids")

    @core
    def test_permuted_ids(self, component: Any) -> None:
        """Without ties the ids of the fragments do not matter."""
        self._needs_no_ties()
        affinities, fragments = tie_free(self.neighborhood(component))
        ids = fragments.ids()
        names = dict(zip(ids.tolist(), np.random.default_rng(5).permutation(ids).tolist(), strict=True))
        tree = self.call(component, affinities, fragments)
        other = self.call(component, affinities, renamed(fragments, names))
        assert_same_merges(tree, other, "with other ids", names)

    @core
    @pytest.mark.parametrize(("axes", "flips"), REORIENTATIONS, ids=str)
    def test_orientation(self, component: Any, axes: Sequence[int], flips: Sequence[int]) -> None:
        """Without ties flips and exchanged axes do not matter."""
        self._needs_no_ties()
        pair = tie_free(self.neighborhood(component))
        tree = self.call(component, *pair)
        other = self.call(component, *(reoriented(each, axes, flips) for each in pair))
        assert_same_merges(tree, other, f"with axes {axes}, flipped {flips}")

    def test_other_ends(self, component: Any) -> None:
        """Edges stored at their other end, channels in another order: the same, or refused."""
        self._needs_no_ties()
        affinities, fragments = tie_free(self.neighborhood(component))
        tree = self.call(component, affinities, fragments)
        moved = restored(affinities, successors(affinities))
        what = "with edges stored at the other end"
        same_or_refused(tree, self.call, component, moved, fragments, what=what, compare=assert_same_merges)

    @pytest.mark.parametrize("id_", [0, *OUTSIDE, 1, 2**64 - 3])
    def test_one_label(self, component: Any, id_: int) -> None:
        """A volume without fragments has an empty tree, one with a single fragment a tree of one leaf."""
        affinities, fragments = fragmented(self.neighborhood(component), (2, 3, 4), 1)
        fragments = Labels(np.full(fragments.shape, id_, np.uint64), fragments.grid)
        tree = self.call(component, affinities, fragments)
        self.check_result(tree, affinities, fragments)
        assert len(tree.altitudes) == 0

    def test_misaligned(self, component: Any) -> None:
        """Affinities and fragments of different shapes, voxel sizes or places are refused."""
        affinities, fragments = fragmented(self.neighborhood(component), (3, 4, 5), 6)
        bad = [Labels(fragments.array[1:], fragments.grid)]
        bad += [Labels(fragments.array, grid) for grid in OTHER_GRIDS.values()]
        for other in bad:
            refused(self.call, component, affinities, other, names=("fragments", "voxel", "offset"))

    @core
    def test_graph(self, component: Any) -> None:
        """The region adjacency graph, handed in directly, gives the same tree and is left alone."""
        if not isinstance(component, RagAgglomerator):
            pytest.skip("it does not work on the region adjacency graph")
        affinities, fragments = self.example(component)
        rag = component.graph(affinities, fragments)
        before = snapshot((rag.node_ids, rag.edges, dict(rag.features)))
        try:
            tree = component.cluster(rag)
        except InvalidInput as error:
            pytest.skip(f"it takes no graph with these parameters: {error}")
        assert_same(before, snapshot((rag.node_ids, rag.edges, dict(rag.features))), "the graph changed")
        assert_apart(tree, (rag.node_ids, rag.edges, *rag.features.values()), "the graph")
        assert_same(self.call(component, affinities, fragments), tree, "from the graph")

    @core
    def test_parts_of_a_graph(self, component: Any) -> None:
        """Where it says that it is reducible: merging inside two halves first gives the tree of the whole."""
        if not (isinstance(component, RagAgglomerator) and component.reducible):
            pytest.skip("it does not say that it is reducible")
        affinities, fragments = self.example(component)
        linkage = Linkage(component)
        parts = [linkage.piece(*half) for half in _halves(affinities, fragments)]
        ids = [part.graph.node_ids for part in parts]
        first = [reduce_piece(part, ~np.isin(part.graph.node_ids, ids[1 - k]), linkage) for k, part in enumerate(parts)]
        rest = linkage.unite([reduction.piece for reduction in first])
        last = reduce_piece(rest, np.ones(len(rest.graph.node_ids), bool), linkage)
        merges = np.concatenate([reduction.merges for reduction in (*first, last)])
        assert_same(self.call(component, affinities, fragments), tree_of(np.union1d(*ids), merges), "from parts")

    def test_files(self, component: Any, tmp_path: Path) -> None:
        """The tree comes back from a file as it was."""
        tree = self.call(component, *self.example(component))
        io.write(tmp_path / "tree.h5", tree)
        assert_same(tree, io.read_merge_tree(tmp_path / "tree.h5"), "from the file")

    @core
    @pytest.mark.gpu
    def test_devices(self, component: Any, values: Mapping[str, object]) -> None:
        """A GPU gives the tree of the CPU."""
        if "device" not in parameters(type(component)):
            pytest.skip("it has no parameter 'device'")
        inputs = self.example(component)
        cpu, gpu = (self.create(**{**values, "device": device}).agglomerate(*inputs) for device in ("cpu", "cuda"))
        assert_same_merges(cpu, gpu, "on the GPU")

    def _needs_no_ties(self) -> None:
        if self.ties_by_id:
            pytest.skip("by its own account scores tie in bins, and ids decide")


def clusters(tree: MergeTree, threshold: float) -> set[frozenset[int]]:
    """The fragments of each segment at a threshold."""
    found: dict[int, set[int]] = {}
    for leaf, segment in zip(tree.leaf_ids.tolist(), tree.cut(threshold).tolist(), strict=True):
        found.setdefault(segment, set()).add(leaf)
    return {frozenset(members) for members in found.values()}


def history(tree: MergeTree) -> list[tuple[frozenset[int], float]]:
    """The fragments that each merge has united, and its altitude, in order."""
    members = [frozenset([leaf]) for leaf in tree.leaf_ids.tolist()]
    for a, b in tree.merges.tolist():
        members.append(members[a] | members[b])
    return list(zip(members[len(tree.leaf_ids) :], tree.altitudes.tolist(), strict=True))


def replayed(tree: MergeTree, threshold: float) -> set[frozenset[int]]:
    """The segments once all merges below the threshold are done, one after the other."""
    current = {frozenset([leaf]) for leaf in tree.leaf_ids.tolist()}
    for united, altitude in history(tree):
        if altitude < threshold:
            current = {cluster for cluster in current if not cluster <= united} | {united}
    return current


def assert_same_merges(tree: MergeTree, other: MergeTree, what: str, names: dict[int, int] | None = None) -> None:
    """Fail unless both unite the same fragments at the same altitudes; `names` says how `other` calls them."""
    names = names or {}
    expected = {frozenset(names.get(id_, id_) for id_ in united): altitude for united, altitude in history(tree)}
    found = dict(history(other))
    extra = expected.keys() ^ found.keys()
    assert not extra, f"{what}: only one of the trees unites {sorted(min(extra, key=sorted))[:9]}"
    for united, altitude in expected.items():
        close = abs(found[united] - altitude) <= TOLERANCE
        assert close, f"{what}: {sorted(united)[:9]} unite at {found[united]} instead of {altitude}"


def _halves(affinities: Affinities, fragments: Labels) -> list[tuple]:
    """The affinities of either half along the longest axis, all fragments, and where the half is in these."""
    axis = int(np.argmax(fragments.shape))
    middle, halves = fragments.shape[axis] // 2, []
    for start, stop in ((0, middle), (middle, fragments.shape[axis])):
        box = tuple(slice(start, stop) if a == axis else slice(0, size) for a, size in enumerate(fragments.shape))
        grid = affinities.grid.crop([along.start for along in box])
        part = Affinities(affinities.array[(slice(None), *box)], affinities.neighborhood, grid)
        halves.append((part, fragments, box))
    return halves
