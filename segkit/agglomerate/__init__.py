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

Affinities of edges longer than one voxel count like all others, and are a contact by themselves, unless `long_range`
asks for the signed average linkage of A. Bailoni et al. 2019, doi:10.48550/arXiv.1906.11713:

- An edge to a direct neighbour of affinity a has the weight 2a - 1, from -1 to 1: it attracts or repels. A longer edge
  has the same weight ("both"), or a - 1: it never attracts ("against").
- The score of a contact is (1 - the mean of its weights) / 2, so that 0.5 is where attraction and repulsion are even.
- Two clusters between which there are long edges alone do not touch. They are not merged, whatever their score; once
  other merges have made them touch, these edges count. A union may then score lower than both its parts, so that the
  altitudes of the tree are a running maximum.

A score of 0.4 for "mean" says that the affinities of the whole contact average 0.6, whatever the history of the
clusters: J. Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450. The principle of merging regions by a queue of edges:
P. Salembier and L. Garrido 2000, doi:10.1109/83.841934.
"""

from typing import Literal, get_args

import numpy as np

from segkit.errors import InvalidInput, InvalidParameter, sentence

Score = Literal["mean", "max", "min", "median", "quantile"]
"""The statistic of a contact's affinities; the score is 1 - statistic."""

LongRange = Literal["alike", "both", "against"]
"""How affinities of edges longer than one voxel count."""

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


def check_long_range(long_range: str, score: str) -> None:
    """Raise InvalidParameter for a value that is unknown, or has no meaning for the score."""
    if long_range not in get_args(LongRange):
        raise InvalidParameter(
            sentence("long_range", f"must be one of {', '.join(get_args(LongRange))}", repr(long_range))
        )
    if long_range != "alike" and score != "mean":
        next_step = "choose the score 'mean', which is the average linkage of signed weights"
        raise InvalidParameter(
            sentence("long_range", f"must be 'alike' for the score {score!r}", repr(long_range), next_step)
        )


def check_neighborhood(neighborhood: np.ndarray, long_range: str) -> None:
    """Raise InvalidInput unless `neighborhood`, int64 (C, 3), has the edges that `long_range` needs: short and long."""
    far = is_far(neighborhood)
    if long_range != "alike" and (far.all() or not far.any()):
        rule = f"must have edges to direct neighbours and longer ones for long_range={long_range}"
        next_step = "train with neighborhood=long-range, or leave long_range=alike"
        raise InvalidInput(sentence("neighborhood", rule, neighborhood.tolist(), next_step))


def is_far(neighborhood: np.ndarray) -> np.ndarray:
    """Whether each offset, int64 (C, 3), leads farther than to a direct neighbour, along one axis; bool (C,)."""
    return np.abs(neighborhood).sum(axis=1) > 1


def check_constraints(max_size: int | None, mutex_above: float | None) -> None:
    """Raise InvalidParameter for values out of range."""
    if max_size is not None and max_size < 1:
        raise InvalidParameter(sentence("max_size", "must be a positive number of voxels", max_size))
    if mutex_above is not None and not 0 <= mutex_above <= 1:
        raise InvalidParameter(sentence("mutex_above", "must be a score, 0..1", mutex_above))


def millionths(score: str, quantile: float) -> int:
    """The quantile that `score` asks for, in millionths."""
    return MILLION // 2 if score == "median" else round(quantile * MILLION)
