"""Agglomeration: from fragments to segments, by merging the pair that most surely belongs together.

All backends follow one definition:

- The *contact* of two clusters is the set of all affinity edges (any offset of the neighborhood) between them. Two
  clusters are neighbours if their contact is not empty.
- The *score* of a contact is 1 - a statistic of its affinities: mean, max, min, median or another quantile. 0 = surely
  the same neuron.
- While there are neighbours, those with the lowest score are merged. The contacts of both with a common neighbour are
  united and scored anew. A threshold ends nothing: the tree is complete, and is cut later.
- Ties go to the contact that holds the lowest edge of the region adjacency graph, the edges being in lexicographic
  order of the fragment ids. So equal graphs give equal trees, and so do ids renumbered in the same order. (A tie rule
  that looked at the ids of the growing clusters would change the place of all their contacts in the queue at each
  merge, and cost quadratic time.)

A score of 0.4 for "mean" says that the affinities of the whole contact average 0.6, whatever the history of the
clusters: J. Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450. The principle of merging regions by a queue of edges:
P. Salembier and L. Garrido 2000, doi:10.1109/83.841934.
"""

from typing import Literal, get_args

from segkit.errors import InvalidParameter, sentence

Score = Literal["mean", "max", "min", "median", "quantile"]
"""The statistic of a contact's affinities; the score is 1 - statistic."""

MILLION = 1_000_000
"""Quantiles are counted in millionths, in integers: 0.29 * 100 is 28.999... in floating point."""
MAX_BINS = 65536


def check_parameters(score: str, quantile: float, bins: int, histogram_init: str) -> None:
    """Raise InvalidParameter for values out of range."""
    if score not in get_args(Score):
        raise InvalidParameter(sentence("score", f"must be one of {', '.join(get_args(Score))}", repr(score)))
    if not 0 <= quantile <= 1:
        next_step = "give it as a fraction, 0.5 for the median"
        raise InvalidParameter(sentence("quantile", "must lie in 0..1", quantile, next_step))
    if not 0 <= bins <= MAX_BINS:
        next_step = "0 stands for exact quantiles"
        raise InvalidParameter(sentence("bins", f"must lie in 0..{MAX_BINS}", bins, next_step))
    if histogram_init not in ("all", "max"):
        raise InvalidParameter(sentence("histogram_init", "must be 'all' or 'max'", repr(histogram_init)))


def check_constraints(max_size: int | None, mutex_above: float | None) -> None:
    """Raise InvalidParameter for values out of range."""
    if max_size is not None and max_size < 1:
        raise InvalidParameter(sentence("max_size", "must be a positive number of voxels", max_size))
    if mutex_above is not None and not 0 <= mutex_above <= 1:
        raise InvalidParameter(sentence("mutex_above", "must be a score, 0..1", mutex_above))


def millionths(score: str, quantile: float) -> int:
    """The quantile that `score` asks for, in millionths."""
    return MILLION // 2 if score == "median" else round(quantile * MILLION)
