"""What the scores mean, and the rules for their parameters."""

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
