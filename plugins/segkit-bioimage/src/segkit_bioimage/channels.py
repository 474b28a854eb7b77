"""Which channels attract and which repel."""

from collections.abc import Sequence

import numpy as np
from segkit.data import Affinities
from segkit.errors import InvalidInput, InvalidParameter, sentence


def check_channels(attractive: Sequence[int] | None) -> tuple[int, ...] | None:
    """The channels in increasing order; raises InvalidParameter if one is negative or given twice."""
    if attractive is None:
        return None
    if not attractive or min(attractive) < 0 or len(set(attractive)) < len(attractive):
        rule = "must be numbers of channels, from 0, each once"
        raise InvalidParameter(sentence("attractive", rule, list(attractive)))
    return tuple(sorted(attractive))


def divided(affinities: Affinities, attractive: Sequence[int] | None) -> tuple[list[int], list[int]]:
    """The channels that attract and those that repel, both in an order that their numbers and ends do not change.

    Without `attractive` the edges between direct neighbours attract. Raises InvalidInput if a channel does not exist,
    or if all or none of them attract.
    """
    steps = np.abs(affinities.neighborhood).sum(axis=1)
    offsets = affinities.neighborhood.tolist()
    pulling = np.flatnonzero(steps == 1).tolist() if attractive is None else list(attractive)
    pushing = sorted(set(range(len(steps))) - set(pulling))
    if pulling and pulling[-1] >= len(steps):
        raise InvalidInput(sentence("attractive", f"must be channels of the affinities, 0..{len(steps) - 1}", pulling))
    if not pulling or not pushing:
        rule = "must have edges that attract and, as a rule longer, edges that repel"
        next_step = "predict long-range affinities too, or say by attractive=[...] which channels attract"
        raise InvalidInput(sentence("neighborhood", rule, offsets, next_step))
    rank = {channel: tuple(offset) for channel, offset in enumerate(predecessors(affinities.neighborhood).tolist())}
    return sorted(pulling, key=rank.__getitem__), sorted(pushing, key=rank.__getitem__)


def predecessors(offsets: np.ndarray) -> np.ndarray:
    """The offsets of the same edges, int64 (..., 3), stored at their later end: the first step but 0 is negative.

    >>> predecessors(np.array([[0, 0, 3], [-1, 2, 0]])).tolist()
    [[0, 0, -3], [-1, 2, 0]]
    """
    first = np.take_along_axis(offsets, (offsets != 0).argmax(axis=-1)[..., None], axis=-1)
    return np.where(first > 0, -offsets, offsets)
