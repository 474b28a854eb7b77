"""What is known of each contact of two clusters, and how two contacts become one.

A quantile needs the affinities themselves. They are int32 here, the number of their bin or their bits, which are in the
same order, and lie in runs: a value and how often it occurs, and the run of the next higher value. Most contacts of
fragments hold equal affinities only, and need no run until they are united with others.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from segkit.agglomerate import MILLION
from segkit.agglomerate._kernels_rag import UNIT

MEAN, MIN, MAX, QUANTILE = 0, 1, 2, 3
NONE = -1
DEAD = np.inf
"""What a contact that is gone has as `queued`."""
RECORD = np.dtype([("count", "i8"), ("sum", "i8"), ("score", "f8"), ("queued", "f8")])
"""Of a contact, in half a line of the cache: how many affinities it has, and their sum (of QUANTILE the value that all
have, or ~ its first run); its score; and the score at which a queue holds it, if that is lower. The sum of one that is
gone is the contact that it is part of now."""
RUN = np.dtype([("value", "i4"), ("next", "i4"), ("count", "i8")])
"""Of a contact: a value, the run of the next higher value or NONE, and how many affinities have the value."""


class Rule(NamedTuple):
    """What the score of a contact is made of."""

    mode: int
    per_million: int
    """The quantile of QUANTILE, in millionths."""
    bins: int
    """The values of QUANTILE are so many bins of 0..1; 0: they are the bits of the affinities."""


@njit(cache=True, nogil=True)
def count_runs(starts, numbers):
    """How many runs contacts of several values need; see `fill_runs`."""
    total = 0
    for e in range(len(starts) - 1):
        distinct = 1
        for i in range(starts[e] + 1, starts[e + 1]):
            distinct += numbers[i] != numbers[i - 1]
        total += distinct if distinct > 1 else 0
    return total


@njit(cache=True, nogil=True)
def fill_runs(starts, numbers, weights, records, runs):
    """Fill in the counts and runs of contacts. `runs` has room for those of `count_runs`, and one for each contact.

    Contact e has the values numbers[starts[e] : starts[e + 1]], in increasing order; each counts as often as `weights`
    say, or once if that is empty.
    """
    used = 0
    for e in range(len(records)):
        record = records[e]
        record.count = 0
        first, last = starts[e], starts[e + 1] - 1
        several = numbers[first] != numbers[last]
        record.sum = ~used if several else numbers[first]
        for i in range(first, last + 1):
            weight = weights[i] if len(weights) else 1
            record.count += weight
            if not several:
                continue
            if i > first and numbers[i] == numbers[i - 1]:
                runs[used - 1].count += weight
                continue
            if i > first:
                runs[used - 1].next = used
            runs[used].value, runs[used].count, runs[used].next = numbers[i], weight, NONE
            used += 1


@njit(cache=True, nogil=True)
def score_contacts(rule, records, runs):
    """Fill in the score of each contact; MIN and MAX have it already."""
    for e in range(len(records)):
        if rule.mode == MEAN:
            records[e].score = 1.0 - records[e].sum / UNIT / records[e].count
        elif rule.mode == QUANTILE:
            records[e].score = _score_of_quantile(rule, records[e], runs)
        records[e].queued = records[e].score


@njit(cache=True, nogil=True)
def unite(rule, kept, lost, records, runs):
    """Add the affinities of one contact to another, score it, and have the other gone.

    `rule` (see :class:`Rule`) says what the score is made of.
    """
    one, two = records[kept], records[lost]
    if rule.mode == MEAN:
        one.count += two.count
        one.sum += two.sum
        one.score = 1.0 - one.sum / UNIT / one.count
    elif rule.mode == MAX:
        one.score = min(one.score, two.score)
    elif rule.mode == MIN:
        one.score = max(one.score, two.score)
    else:
        if one.sum < 0 or two.sum < 0 or one.score != two.score:
            one.sum = ~_merged(_first_run(kept, records, runs), _first_run(lost, records, runs), runs)
        one.count += two.count
        if one.score != two.score:
            one.score = _score_of_quantile(rule, one, runs)
    two.queued, two.sum = DEAD, kept


@njit(cache=True, nogil=True)
def _score_of_quantile(rule, record, runs):
    """1 - the value at the place of the quantile."""
    value = record.sum
    if value < 0:
        pivot = min(record.count * rule.per_million // MILLION + 1, record.count)
        run = ~record.sum
        below = runs[run].count
        while below < pivot:
            run = np.int64(runs[run].next)
            below += runs[run].count
        value = np.int64(runs[run].value)
    if rule.bins:
        return 1.0 - (value + 0.5) / rule.bins
    return 1.0 - np.float64(np.int32(value).view(np.float32))


@njit(cache=True, nogil=True)
def _first_run(e, records, runs):
    """The first run of a contact; its own, at the end of all, if it has none yet."""
    if records[e].sum < 0:
        return ~records[e].sum
    run = len(runs) - len(records) + e
    runs[run].value, runs[run].count, runs[run].next = records[e].sum, records[e].count, NONE
    return np.int64(run)


@njit(cache=True, nogil=True)
def _merged(a, b, runs):
    """Merge two lists of runs in place: no memory is taken, and equal values become one run. Gives the first."""
    if runs[b].value < runs[a].value:
        a, b = b, a
    first = a
    while b != NONE:  # the run b comes after a, or has the same value
        following, rest = np.int64(runs[a].next), np.int64(runs[b].next)
        if runs[b].value == runs[a].value:
            runs[a].count += runs[b].count
            b = rest
        elif following == NONE:
            runs[a].next = b
            break
        elif runs[following].value <= runs[b].value:
            a = following
        else:
            runs[a].next, runs[b].next = b, following
            a, b = b, rest
    return first
