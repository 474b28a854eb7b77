"""Contacts of clusters and their histograms: what is known of each, and how two become one.

Affinities are int32 here: the number of their bin, or their bits, which are in the same order. Most contacts of
fragments hold equal affinities only, and need no list of them.
"""

import numpy as np
from numba import njit

from segkit.agglomerate._kernels_bounds import DEAD, NONE
from segkit.agglomerate.scores import MILLION

CONTACT = np.dtype([("score", "i4"), ("queued", "f4"), ("count", "i4"), ("head", "i4")])
"""Of a contact: minus its quantile; DEAD if it is gone; how many affinities; its first run, NONE if all are equal.
`head` of one that is gone is the contact that it is part of now."""
RUN = np.dtype([("value", "i4"), ("count", "i4"), ("next", "i4")])
"""Of a histogram: a value, how many affinities have it, and the run of the next higher value."""


@njit(cache=True, nogil=True)
def count_runs(starts, numbers):
    """How many runs contacts of several values need; see `fill_contacts`."""
    total = 0
    for e in range(len(starts) - 1):
        distinct = 1
        for i in range(starts[e] + 1, starts[e + 1]):
            distinct += numbers[i] != numbers[i - 1]
        total += distinct if distinct > 1 else 0
    return total


@njit(cache=True, nogil=True)
def fill_contacts(starts, numbers, weights, per_million, contacts, runs):
    """Fill in the contacts of a graph, and the runs.

    Contact e has the values numbers[starts[e] : starts[e + 1]], in increasing order; each counts as often as `weights`
    say, or once if that is empty.
    """
    used = 0
    for e in range(len(contacts)):
        contact = contacts[e]
        contact.queued, contact.count, contact.head = 0, 0, NONE
        first, last = starts[e], starts[e + 1] - 1
        several = numbers[first] != numbers[last]
        for i in range(first, last + 1):
            weight = weights[i] if len(weights) else 1
            contact.count += weight
            if not several:
                continue
            if i > first and numbers[i] == numbers[i - 1]:
                runs[used - 1].count += weight
                continue
            if i == first:
                contact.head = used
            else:
                runs[used - 1].next = used
            runs[used].value, runs[used].count, runs[used].next = numbers[i], weight, NONE
            used += 1
        contact.score = _score(contact, runs, per_million) if several else -numbers[first]


@njit(cache=True, nogil=True)
def unite(kept, lost, contacts, runs, used, per_million):
    """Unite two contacts in the first, and score it. Gives the number of runs used, `used` before."""
    one, two = contacts[kept], contacts[lost]
    if per_million == 0:
        one.score = max(one.score, two.score)
    elif per_million == MILLION:
        one.score = min(one.score, two.score)
    else:
        if one.head != NONE or two.head != NONE or one.score != two.score:
            used = _as_run(one, runs, used)
            used = _as_run(two, runs, used)
            one.head = _merged(one.head, two.head, runs)
        one.count += two.count
        if one.score != two.score:
            one.score = _score(one, runs, per_million)
    two.queued = DEAD
    two.head = kept
    return used


@njit(cache=True, nogil=True)
def _as_run(contact, runs, used):
    """Give a contact of equal affinities a run; the number of runs used."""
    if contact.head != NONE:
        return used
    runs[used].value, runs[used].count, runs[used].next = -contact.score, contact.count, NONE
    contact.head = used
    return used + 1


@njit(cache=True, nogil=True)
def _score(contact, runs, per_million):
    """Minus the value at the place of the quantile."""
    count = np.int64(contact.count)
    pivot = min(count * per_million // MILLION + 1, count)
    run = contact.head
    below = np.int64(runs[run].count)
    while below < pivot:
        run = runs[run].next
        below += runs[run].count
    return -runs[run].value


@njit(cache=True, nogil=True)
def _merged(a, b, runs):
    """Merge two lists of runs in place: no memory is taken, and equal values become one run. Gives the first."""
    if runs[b].value < runs[a].value:
        a, b = b, a
    first = a
    while b != NONE:  # the run b comes after a, or has the same value
        following, rest = runs[a].next, runs[b].next
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
