"""Multicut of the region graph."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from segkit.agglomerate.rag import mean_affinity
from segkit.data import MergeTree, RegionAdjacencyGraph
from segkit.errors import InvalidParameter, sentence
from segkit.protocols import RagAgglomerator
from segkit.threads import thread_count

from segkit_bioimage.levels import Contraction, check_thresholds, nested_levels, tree_of_levels

if TYPE_CHECKING:
    from bioimage_cpp.graph.multicut import MulticutSolver


class Multicut(RagAgglomerator):
    """Multicut by bioimage-cpp (Beier et al. 2017, doi:10.1038/nmeth.4151): the cheapest partition of the region graph.

    A contact of mean affinity p costs c = log(p / (1 - p)) + log(t / (1 - t)) to cut at the threshold t (1 - t is
    known as the boundary bias beta), so that contacts with 1 - p < t would rather be joined. All contacts decide
    together, unlike in an agglomeration, and a partition has no order of merges: with the one default threshold every
    cut of the tree above 0 gives the same segmentation. With several, each starts from the segments of the one before,
    and a cut at t gives the partition of the first threshold that is at least t; only for the first it is the
    multicut without constraints. The solvers are heuristics, and the result need not be the optimum.

    Parameters
    ----------
    solver
        "kernighan-lin" improves the greedy solution by moving and joining; "greedy-additive" joins the contact of
        highest cost first; "greedy-fixation" also keeps apart those of lowest cost.
    thresholds
        At which it is solved, increasing, between 0 and 1.
    size_weighted
        Multiply the cost of a contact by the number of its affinities, as if each had the mean; else all count alike.
    clip
        Means are brought into clip..1 - clip, so that no cost is infinite.
    decompose
        Solve what costs above 0 connect part by part, on all threads, with the same optimum.
    """

    segkit_api = "1"
    segkit_claims: ClassVar[dict[str, object]] = {"merges_all": False, "ties_by_id": True}
    features = ("count", "sum")

    def __init__(
        self,
        *,
        solver: Literal["kernighan-lin", "greedy-additive", "greedy-fixation"] = "kernighan-lin",
        thresholds: tuple[float, ...] = (0.5,),
        size_weighted: bool = True,
        clip: float = 0.001,
        decompose: bool = True,
    ) -> None:
        if not 0 < clip < 0.5:
            raise InvalidParameter(sentence("clip", "must lie between 0 and 0.5", clip))
        self.solver = solver
        self.thresholds = check_thresholds(thresholds)
        self.size_weighted = size_weighted
        self.clip = clip
        self.decompose = decompose

    def cluster(self, rag: RegionAdjacencyGraph) -> MergeTree:
        """The tree; altitudes are 0 and those of `thresholds` but the last."""
        from bioimage_cpp.graph.multicut import MulticutObjective

        solver = self._solver()

        def solve(contraction: Contraction, threshold: float) -> np.ndarray:
            costs = contraction.total(self.costs(rag, threshold))
            return solver.optimize(MulticutObjective(contraction.graph(), costs))

        level = nested_levels(rag, self.thresholds, solve)
        return tree_of_levels(rag, level, self.thresholds, mean_affinity(rag))

    def costs(self, rag: RegionAdjacencyGraph, threshold: float) -> np.ndarray:
        """What it costs to cut each contact, float64 (E,); below 0 it pays."""
        mean = np.clip(mean_affinity(rag), self.clip, 1 - self.clip)
        costs = np.log(mean / (1 - mean)) + np.log(threshold / (1 - threshold))
        return costs * rag.features["count"] if self.size_weighted else costs

    def _solver(self) -> "MulticutSolver":
        from bioimage_cpp.graph import multicut

        solvers = {
            "kernighan-lin": multicut.KernighanLinMulticut,
            "greedy-additive": multicut.GreedyAdditiveMulticut,
            "greedy-fixation": multicut.GreedyFixationMulticut,
        }
        solver = solvers[self.solver]()
        return multicut.MulticutDecomposer(solver, number_of_threads=thread_count()) if self.decompose else solver
