"""A new agglomerator in one class, tried on a volume, and checked with segkit's own suite of tests.

How it becomes a plugin: `segkit plugins new my-linkage --kind agglomerator` writes a small distribution around a class
like this one. A line in its pyproject.toml makes it known; once installed, `--backend static-linkage` finds it:

    [project.entry-points."segkit.agglomerators"]
    static-linkage = "my_linkage:StaticLinkage"
"""

import os
import sys

import numpy as np
import pytest

from segkit import MergeTree, RegionAdjacencyGraph, load
from segkit.agglomerate.rag import mean_affinity
from segkit.errors import InvalidParameter, sentence
from segkit.evaluate import sweep
from segkit.infer import oracle_affinities
from segkit.protocols import RagAgglomerator
from segkit.testing import AgglomeratorConformance, neurites


class StaticLinkage(RagAgglomerator):
    """Merges contacts in the order of their mean affinity, and never scores a contact anew.

    This is Kruskal's algorithm on the region adjacency graph: single linkage of mean affinities. Equal scores go by the
    lowest edge.

    Parameters
    ----------
    prior
        Affinities of 0 that are added to each contact, so that small contacts merge later.
    """

    segkit_api = "1"
    features = ("count", "sum")  # the statistics of each contact that the graph shall hold

    def __init__(self, *, prior: float = 0.0) -> None:
        if not 0 <= prior < float("inf"):
            raise InvalidParameter(sentence("prior", "must be a number of affinities, 0 or more", prior))
        self.prior = prior

    def cluster(self, rag: RegionAdjacencyGraph) -> MergeTree:
        """All merges, best first; merge k makes node L + k, L being the number of fragments."""
        count = rag.features["count"]
        scores = 1 - mean_affinity(rag) * (count / (count + self.prior))
        order = np.argsort(scores, kind="stable")
        parents = np.arange(2 * len(rag.node_ids))  # of each node the one that it was merged into
        merges, heights = [], []
        for edge in order.tolist():
            first, second = (root(parents, node) for node in rag.edges[edge].tolist())
            if first != second:
                parents[[first, second]] = len(rag.node_ids) + len(merges)
                merges.append((first, second))
                heights.append(scores[edge])
        return MergeTree.from_merges(rag.node_ids.copy(), merges, heights)  # shares no memory with the input


def root(parents: np.ndarray, node: int) -> int:
    """The node that `node` has become part of; paths are halved on the way."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = int(parents[node])
    return node


class TestStaticLinkage(AgglomeratorConformance):
    """Every promise of an agglomerator, tested with each of the parameters."""

    parameters = ({}, {"prior": 2.0})

    def create(self, **values):
        """The component; once it is installed, `name = "static-linkage"` does instead of this method."""
        return StaticLinkage(**values)


if __name__ == "__main__":
    truth = neurites((24, 64, 64), count=12, seed=1).truth
    affinities = oracle_affinities(truth, noise=0.15, seed=1)
    fragments = load("fragmenters", "watershed", seed_distance=5).fragment(affinities)
    for name, agglomerator in (("static-linkage", StaticLinkage()), ("python", load("agglomerators", "python"))):
        best = sweep(agglomerator.agglomerate(affinities, fragments), fragments, truth).best()
        print(f"{name}: CREMI score {best['cremi_score']:.3f} at threshold {best['threshold']:g}", flush=True)
    plain = ["-q", "-c", os.devnull, "--rootdir=.", "--import-mode=importlib", "--disable-warnings"]
    sys.exit(pytest.main([*plain, "-p", "no:cacheprovider", "-p", "no:benchmark", __file__]))
