"""Places that are looked at when they are drawn: the same as those of the table."""

from itertools import product

import numpy as np
import pytest

from segkit.train import counted
from segkit.train.counted import BoxCounts, CountedPlaces
from segkit.train.data import generator
from segkit.train.places import Places, count_labelled

SHAPE = (11, 20, 17)
OUTPUTS = [(1, 1, 1), (3, 2, 4), (1, 6, 6), (6, 9, 5)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(counted, "SIDE", 5)
    monkeypatch.setattr(counted, "TILE", (3, 4, 7))


def labelled(share, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.random((3, 5, 5)) < share
    found = np.kron(coarse, np.ones((4, 4, 4), bool))[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return found & (rng.random(SHAPE) < 0.9)


class Read:
    """Reads boxes of an array, and counts the voxels."""

    def __init__(self, array):
        self.array, self.voxels = array, 0

    def __call__(self, low, high):
        found = self.array[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
        self.voxels += found.size
        return found


def both(share, output, least, seed=0):
    array = labelled(share, seed)
    places = [size - long + 1 for size, long in zip(SHAPE, output, strict=True)]
    table = count_labelled(lambda z: array[z], places, output, least)
    return table, BoxCounts(Read(array), places, output, least)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_counts_are_those_of_the_table(output, share):
    for part in (0.05, 0.9):
        (enough, most), counts = both(share, output, part * np.prod(output))
        places = list(product(*map(range, enough.shape)))[::5]
        assert all(counts.has_enough(np.array(place)) == enough[place] for place in places)
        assert (counts.any(), counts.count(), counts.most) == (enough.any(), enough.sum(), most)
        ranked = np.flatnonzero(enough)
        for rank in range(0, len(ranked), 7):
            assert counts.number(rank) == ranked[rank]


@pytest.mark.parametrize(("share", "part"), [(0.7, 0.3), (0.06, 0.9), (0.1, 0.95)])
def test_draws_are_those_of_the_table_to_the_last_random_number(share, part):
    pairs = [both(share, (3, 2, 4), part * 24, seed) for seed in (0, 1, 2)]
    table, looked_at = Places([enough for (enough, _), _ in pairs]), CountedPlaces([counts for _, counts in pairs])
    for k in range(150):
        one, other = generator(0, 0, k), generator(0, 0, k)
        assert table.draw(one) == looked_at.draw(other) and one.random() == other.random()


def test_rare_places_are_those_of_the_table(monkeypatch):
    """Where no try finds one, it is drawn among all that hold enough."""
    for module in ("places", "counted"):
        monkeypatch.setattr(f"segkit.train.{module}.TRIES", 2)
    pairs = [both(0.1, (3, 2, 4), 22, seed) for seed in (0, 1, 2)]
    table, looked_at = Places([enough for (enough, _), _ in pairs]), CountedPlaces([counts for _, counts in pairs])
    drawn = [table.draw(generator(0, 0, k)) for k in range(80)]
    assert len(set(drawn)) > 10 and drawn == [looked_at.draw(generator(0, 0, k)) for k in range(80)]
    ranks = range(table._count())
    assert looked_at._count() == len(ranks) > 20
    assert [looked_at._number(rank) for rank in ranks] == [table._number(rank) for rank in ranks]


def test_volumes_with_labels_everywhere_are_read_where_places_are_drawn_alone():
    read = Read(np.ones((400, 400, 400), bool))
    counts = BoxCounts(read, (397, 397, 397), (4, 4, 4), 3)
    assert counts.any()
    places = CountedPlaces([counts])
    for k in range(20):
        places.draw(generator(0, 0, k))
    assert read.voxels <= 21 * 8 * 5**3
    before = read.voxels
    places.draw(generator(0, 0, 3))
    assert read.voxels == before  # what is known of a block is kept
