"""Merging in rounds: by hand, beside plain loops, and the altitudes that it promises."""

import numpy as np
import pytest
from segkit.agglomerate.rag import mean_affinity
from segkit.data import RegionAdjacencyGraph

from segkit_learned.merging import LEVELS, best_pairs, merge_in_rounds


def random_graph(seed, nodes=20, edges=45):
    rng = np.random.default_rng(seed)
    pairs = np.unique(np.sort(rng.integers(0, nodes, (edges, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    count = rng.integers(1, 20, len(pairs))
    total = np.rint(rng.random(len(pairs)) ** 0.5 * count * 2**30).astype(np.int64)
    ids = np.sort(rng.choice(2**40, nodes, replace=False)).astype(np.uint64) + np.uint64(1)
    return RegionAdjacencyGraph(ids, pairs, {"count": count, "sum": total}, {"size": rng.integers(1, 99, nodes)})


def judge(graph):
    """Large contacts of the same mean score worse: what a mean linkage cannot do."""
    return np.clip((1 - mean_affinity(graph)) * (1 + 0.02 * np.log(graph.features["count"])), 0, 1)


def plainly(graph):
    """The clusters after each level, by dictionaries of sets."""
    members = {n: frozenset([n]) for n in range(len(graph.node_ids))}
    contacts = {
        frozenset([members[a], members[b]]): [int(c), int(s), row]
        for row, ((a, b), c, s) in enumerate(
            zip(graph.edges.tolist(), graph.features["count"], graph.features["sum"], strict=True)
        )
    }

    def score(count, total):
        return float(np.clip((1 - total / 2**30 / count) * (1 + 0.02 * np.log(count)), 0, 1))

    done = []
    for level in LEVELS:
        while True:
            order = sorted(contacts, key=lambda pair: (score(*contacts[pair][:2]), contacts[pair][2]))
            best = {}
            for pair in order:
                for side in pair:
                    best.setdefault(side, pair)
            now = [p for p in order if all(best[side] == p for side in p) and score(*contacts[p][:2]) < level]
            if not now:
                break
            into = {side: frozenset.union(*pair) for pair in now for side in pair}
            united = {}
            for pair, (count, total, row) in contacts.items():
                ends = frozenset(into.get(side, side) for side in pair)
                if len(ends) == 2:
                    before = united.get(ends, [0, 0, row])
                    united[ends] = [before[0] + count, before[1] + total, min(before[2], row)]
            contacts = united
            members = {n: into.get(cluster, cluster) for n, cluster in members.items()}
        done.append(set(members.values()))
    return done


@pytest.mark.parametrize("seed", range(8))
def test_beside_plain_loops(seed):
    graph = random_graph(seed)
    tree = merge_in_rounds(graph, judge)
    tree.check()
    assert (np.diff(tree.altitudes) >= 0).all()
    for level, expected in zip(LEVELS, plainly(graph), strict=True):
        roots = tree.roots(level)
        found = {frozenset(np.flatnonzero(roots == root).tolist()) for root in np.unique(roots)}
        assert found == expected, f"at {level}"


def test_by_hand():
    """Fragments 0 and 1 merge first; their contacts with 2 then score 0.5 together, and 3 is alone."""
    edges = [[0, 1], [0, 2], [1, 2]]
    unit = 2**30
    features = {"count": np.array([1, 1, 3]), "sum": np.array([9 * unit // 10, unit // 8 * 7, 9 * unit // 8])}
    graph = RegionAdjacencyGraph(np.array([5, 6, 7, 9], np.uint64), edges, features)
    tree = merge_in_rounds(graph, lambda each: 1 - mean_affinity(each))
    assert tree.parents.tolist() == [4, 4, 5, 3, 5, 5]
    assert tree.altitudes == pytest.approx([0.1, 0.5], abs=1e-9)


def test_scores_that_fall_do_not_lower_altitudes():
    graph = random_graph(3)
    nodes = len(graph.node_ids)

    def falling(each):
        return np.full(len(each.edges), 0.9 * len(each.node_ids) / nodes)

    tree = merge_in_rounds(graph, falling)
    tree.check()
    assert (tree.altitudes == 0.9).all()


def test_ties_go_by_the_lowest_row():
    edges = np.array([[0, 1], [0, 2], [1, 2], [2, 3]])
    assert best_pairs(edges, np.full(4, 0.5), 1.0).tolist() == [0]
    assert best_pairs(edges, np.array([0.5, 0.5, 0.5, 0.4]), 1.0).tolist() == [0, 3]
    assert best_pairs(edges, np.full(4, 0.5), 0.5).tolist() == []


def test_each_graph_is_watched_once():
    """The first of them too, at whatever level its first merge is: it is what examples are weighed by."""
    graph, watched = random_graph(1), []
    merge_in_rounds(graph, lambda each: np.full(len(each.edges), 0.5), lambda each, _: watched.append(each))
    assert watched[0] is graph
    sizes = [len(each.node_ids) for each in watched]
    assert len(sizes) > 2 and (np.diff(sizes) < 0).all()


def test_nothing_to_merge():
    tree = merge_in_rounds(RegionAdjacencyGraph([4], [], {"count": [], "sum": []}), judge)
    assert tree.leaf_ids.tolist() == [4] and len(tree.altitudes) == 0
