"""waterz' hierarchical agglomeration."""

import math
from typing import Literal

import numpy as np
from segkit.data import Affinities, Labels, MergeTree, check_aligned
from segkit.errors import InvalidParameter, sentence
from segkit.protocols import Agglomerator
from segkit.timing import phase

from segkit_waterz.adapter import MOST_QUEUE_BINS, call, compacted, to_waterz

ABOVE_ALL_SCORES = 2.0
HISTOGRAM_BINS = 256


class Waterz(Agglomerator):
    """Agglomeration by waterz (Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450), in C++.

    At each step the contact of lowest score is merged; score = 1 - statistic of the affinities of the whole contact,
    in float32. Affinities must be those of nearest neighbours. The altitude of a merge is the highest score so far.

    Parameters
    ----------
    score
        The statistic. "median" is "quantile" with 0.5. "max" and "min" need a C++ compiler and boost.
    quantile
        For "quantile": a fraction in whole percent, 0.01 to 0.99. waterz ships 0.1, 0.15, ... 0.95 compiled; others
        need a compiler. A quantile is the centre of its bin in a histogram of 256 bins, so it is off by up to 1/512.
    histogram_init
        For quantiles: "all" counts every affinity of a contact; "max", waterz' own default, counts only the largest
        of each contact between two fragments, so that it is a quantile of maxima.
    queue_bins
        0 merges in the order of the scores. Otherwise the queue has so many bins and within a bin takes contacts as
        they come, which is faster; 0 and 256 are shipped compiled, others need a compiler.
    """

    segkit_api = "1"

    def __init__(
        self,
        *,
        score: Literal["mean", "max", "min", "median", "quantile"] = "mean",
        quantile: float = 0.5,
        histogram_init: Literal["all", "max"] = "all",
        queue_bins: int = 0,
    ) -> None:
        if not 0 <= queue_bins <= MOST_QUEUE_BINS:
            raise InvalidParameter(sentence("queue_bins", f"must lie in 0..{MOST_QUEUE_BINS}", queue_bins))
        self.score = score
        self.quantile = quantile
        self.histogram_init = histogram_init
        self.queue_bins = queue_bins
        self.scoring_function = _scoring_function(score, quantile, histogram_init)

    def agglomerate(self, affinities: Affinities, fragments: Labels) -> MergeTree:
        """All merges, best first; the ids of `fragments` may be any uint64.

        Without bins, cutting at t gives the segmentation that waterz itself yields when asked for t alone; with
        `queue_bins` it does so at multiples of 1 / queue_bins. See the README for the reasons.
        """
        check_aligned(affinities=affinities, fragments=fragments)
        with phase("converting"):
            converted = to_waterz(affinities)
            leaf_ids, compact = compacted(fragments)
        if len(leaf_ids) < 2:
            return MergeTree.from_merges(leaf_ids, [], [])
        options = {"scoring_function": self.scoring_function, "discretize_queue": self.queue_bins}
        with phase("waterz"):
            history = call(converted, ABOVE_ALL_SCORES, fragments=compact, return_merge_history=True, **options)[1]
        with phase("converting"):
            return _tree(leaf_ids, history)


def _scoring_function(score: str, quantile: float, histogram_init: str) -> str:
    """The C++ type that waterz compiles."""
    percent = round(100 * quantile) if math.isfinite(quantile) else 0
    if not 1 <= percent <= 99 or not math.isclose(percent, 100 * quantile):
        next_step = "choose a value such as 0.5"
        raise InvalidParameter(sentence("quantile", "must be a whole percentage, 0.01 to 0.99", quantile, next_step))
    if score in ("mean", "max", "min"):
        return f"OneMinus<{score.capitalize()}Affinity<RegionGraphType, ScoreValue>>"
    percent = 50 if score == "median" else percent
    from_maxima = "true" if histogram_init == "max" else "false"
    return (
        f"OneMinus<HistogramQuantileAffinity<RegionGraphType, {percent}, ScoreValue, {HISTOGRAM_BINS}, {from_maxima}>>"
    )


def _tree(leaf_ids: np.ndarray, history: list[dict]) -> MergeTree:
    """The merge tree of waterz' history, in which a cluster is called by the number of one of its fragments."""
    node = np.arange(-1, len(leaf_ids)).tolist()  # of the cluster that is called so; number 1 is leaf 0
    merges = np.empty((len(history), 2), np.int64)
    for k, merge in enumerate(history):
        merges[k] = node[merge["a"]], node[merge["b"]]
        node[merge["c"]] = len(leaf_ids) + k
    scores = np.fromiter((merge["score"] for merge in history), np.float64, len(history))
    return MergeTree.from_merges(leaf_ids, merges, np.clip(scores, 0, 1))
