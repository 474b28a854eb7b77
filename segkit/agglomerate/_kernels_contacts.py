"""What is known of each contact of two clusters, and how two contacts become one.

A quantile needs the affinities themselves. They are int32 here, the number of their bin or their bits, which are in the
same order, and lie in lists: a value and how often it occurs, in increasing order. Contacts of equal affinities need no
list until they are united with others.

A list lies in one piece, since most of the time goes to waiting for memory: a chain of values would have it waited for
at each value. So a list that grows beyond its room moves to a place behind those in use, with as much room again.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from segkit.agglomerate import MILLION
from segkit.agglomerate._kernels_rag import UNIT

MEAN, MIN, MAX, QUANTILE, SIGNED = 0, 1, 2, 3, 4
NONE = -1
DEAD = np.inf
"""What a contact that is gone has as `queued`."""
APART = 2.0
"""The score of a contact of SIGNED whose clusters do not touch: behind all others."""
RECORD = np.dtype([("count", "i8"), ("sum", "i8"), ("score", "f8"), ("queued", "f8")])
"""Of a contact, in half a line of the cache: how many affinities it has, and their sum (of QUANTILE the value that all
have, or ~ the place of its list); its score; and the score at which a queue holds it, if that is lower. The sum of one
that is gone is the contact that it is part of now."""
COUNT = np.int64(2**32 - 1)
"""An entry of a list is value << 32 | count; values that occur more often have several. Before the first entry stands
room << 32 | length, in entries."""
TOP, END, ENTRIES, MOST, HOME = range(5)
"""What is counted of a part of all lists, at the home of whoever unites contacts: the first place that is free, and the
last + 1; how many entries the contacts have that may be united here, and how many a list may have."""


class Rule(NamedTuple):
    """What the score of a contact is made of."""

    mode: int
    per_million: int
    """The quantile of QUANTILE, in millionths."""
    bins: int
    """The values of QUANTILE are so many bins of 0..1; 0: they are the bits of the affinities."""
    home: int = 0
    """Where it is counted how much room there is for lists, of QUANTILE."""


@njit(cache=True, nogil=True)
def count_places(starts, numbers, weights):
    """How many places the lists of contacts take at most; see `fill_lists`."""
    places = 0
    for e in range(len(starts) - 1):
        first, last = starts[e], starts[e + 1] - 1
        if numbers[first] == numbers[last]:
            continue
        places += 2
        for i in range(first + 1, last + 1):
            places += numbers[i] != numbers[i - 1]
        for i in range(first, last + 1 if len(weights) else first):
            places += weights[i] // COUNT
    return places


@njit(cache=True, nogil=True)
def count_inside(edges, cuts, starts):
    """How many contacts lie inside each piece, and their affinities; int64 (2, P).

    Piece p are the nodes cuts[p] to cuts[p + 1] - 1.
    """
    found = np.zeros((2, len(cuts) - 1), np.int64)
    for e in range(len(edges)):
        p = np.searchsorted(cuts, edges[e, 0], "right") - 1
        if edges[e, 1] >= cuts[p] and edges[e, 1] < cuts[p + 1]:
            found[0, p] += 1
            found[1, p] += starts[e + 1] - starts[e]
    return found


@njit(cache=True, nogil=True)
def fill_lists(starts, numbers, weights, records, runs, place):
    """Fill in the counts and lists of contacts, the lists from `place` on: as many places as `count_places` says.

    Contact e has the values numbers[starts[e] : starts[e + 1]], in increasing order; each counts as often as `weights`
    say, or once if that is empty, and then values may come again.
    """
    for e in range(len(records)):
        record = records[e]
        first, last = starts[e], starts[e + 1] - 1
        record.count = weights[first : last + 1].sum() if len(weights) else last + 1 - first
        if numbers[first] == numbers[last]:
            record.sum = numbers[first]
            continue
        record.sum, end = ~place, place + 1
        for i in range(first, last + 1):
            weight = weights[i] if len(weights) else np.int64(1)
            if i > first and numbers[i] == numbers[i - 1] and (runs[end - 1] & COUNT) + weight <= COUNT:
                runs[end - 1] += weight
            else:
                end = _write(numbers[i], weight, runs, end)
        runs[place] = ((end - place - 1) << 32) | (end - place - 1)
        place = end


@njit(cache=True, nogil=True)
def _needed(count):
    """How many entries a value takes that occurs so often."""
    return max((count + COUNT - 1) // COUNT, 1)


@njit(cache=True, nogil=True)
def _write(value, count, runs, place):
    """Write the entries of a value that occurs so often; where they end."""
    for _ in range(_needed(count)):
        runs[place] = (np.int64(value) << 32) | min(count, COUNT)
        count -= COUNT
        place += 1
    return place


def needed_room(unions, entries, most):
    """How many places uniting so many contacts takes, whatever their lists are: all may move, with as much room again.

    The contacts have `entries` at most, and a list `most`. What is being united lies behind the lists, two at a time. A
    contact may be united several times: as its list doubles each time that it moves, all that it took are twice that.
    """
    return min(2 * most * unions, 4 * entries) + unions + min(4 * most, 2 * entries) + HOME


_needed_room = njit(cache=True, nogil=True, inline="always")(needed_room)


@njit(cache=True, nogil=True, inline="always")
def has_room(rule, unions, runs):
    """Whether so many contacts can be united."""
    if rule.mode != QUANTILE:
        return True
    home = rule.home
    return runs[home + END] - runs[home + TOP] >= _needed_room(unions, runs[home + ENTRIES], runs[home + MOST])


@njit(cache=True, nogil=True)
def score_contacts(rule, records, runs):
    """Fill in the score of each contact; MIN and MAX have it already."""
    for e in range(len(records)):
        if rule.mode == MEAN:
            records[e].score = 1.0 - records[e].sum / UNIT / records[e].count
        elif rule.mode == SIGNED:
            records[e].score = _score_of_weights(records[e])
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
    elif rule.mode == SIGNED:
        one.count += two.count
        one.sum += two.sum
        touches = min(one.score, two.score) < APART
        one.score = _score_of_weights(one) if touches else APART
    else:
        if one.sum < 0 or one.sum != two.sum:
            one.sum = ~_united_list(one, two, runs, rule.home)
        one.count += two.count
        if one.score != two.score:
            one.score = _score_of_quantile(rule, one, runs)
    two.queued, two.sum = DEAD, kept


@njit(cache=True, nogil=True, inline="always")
def _score_of_weights(record):
    """(1 - the mean weight) / 2: what is summed up of a weight w is (1 + w) / 2, in half UNITs."""
    return 1.0 - record.sum / (2 * UNIT) / record.count


@njit(cache=True, nogil=True)
def _score_of_quantile(rule, record, runs):
    """1 - the value at the place of the quantile."""
    value = record.sum
    if value < 0:
        pivot = min(record.count * rule.per_million // MILLION + 1, record.count)
        place = ~record.sum + 1
        below = runs[place] & COUNT
        while below < pivot:
            place += 1
            below += runs[place] & COUNT
        value = runs[place] >> 32
    if rule.bins:
        return 1.0 - (value + 0.5) / rule.bins
    return 1.0 - np.float64(np.int32(value).view(np.float32))


@njit(cache=True, nogil=True)
def _united_list(one, two, runs, home):
    """Merge the lists of two contacts; where that of both is: in the place of one, if that has room."""
    top = runs[home + TOP]
    first = top + 1 + _length(one, runs) + _length(two, runs)
    a, a_end = _entries(one, runs, first)
    b, b_end = _entries(two, runs, a_end if a == first else first)
    end = _merge(a, a_end, b, b_end, top + 1, runs)
    length, place = end - top - 1, top
    for record in (one, two):
        if place == top and record.sum < 0 and runs[~record.sum] >> 32 >= length:
            place = ~record.sum
            for i in range(1, length + 1):
                runs[place + i] = runs[top + i]
    room = runs[place] >> 32
    if place == top:
        room = max(min(2 * length, runs[home + MOST]), length)
        runs[home + TOP] = top + 1 + room
    runs[place] = (room << 32) | length
    return place


@njit(cache=True, nogil=True, inline="always")
def _length(record, runs):
    """How many entries a contact has."""
    return runs[~record.sum] & COUNT if record.sum < 0 else _needed(record.count)


@njit(cache=True, nogil=True, inline="always")
def _entries(record, runs, free):
    """Where the entries of a contact begin and end; those of a contact of one value are written to `free`."""
    if record.sum < 0:
        return 1 + ~record.sum, 1 + ~record.sum + (runs[~record.sum] & COUNT)
    return free, _write(record.sum, record.count, runs, free)


@njit(cache=True, nogil=True, inline="always")
def _merge(a, a_end, b, b_end, written, runs):
    """Merge entries that lie elsewhere to `written`; where they end. Equal values become one entry, if it can count."""
    while a < a_end and b < b_end:
        x, y = runs[a], runs[b]
        if x >> 32 == y >> 32 and (x & COUNT) + (y & COUNT) <= COUNT:
            runs[written] = x + (y & COUNT)
            a += 1
            b += 1
        elif x < y:
            runs[written] = x
            a += 1
        else:
            runs[written] = y
            b += 1
        written += 1
    while a < a_end:
        runs[written] = runs[a]
        a, written = a + 1, written + 1
    while b < b_end:
        runs[written] = runs[b]
        b, written = b + 1, written + 1
    return written
