from itertools import product

import numpy as np
import pytest

from segkit import Affinities, Grid, Labels
from segkit.health.agreement import agreement_figures


def by_hand(affinities, first, second):
    """Edges of every square, one after the other, cut (True) or not: p at v, p at v + q, q at v, q at v + p."""
    array, (p, q) = affinities.array, affinities.neighborhood[[first, second]]
    for v in product(*map(range, affinities.shape)):
        corners = [np.array(v), v + p, v + q, v + p + q]
        if all((c >= 0).all() and (c < affinities.shape).all() for c in corners):
            places = [(first, *v), (first, *(v + q)), (second, *v), (second, *(v + p))]
            yield [array[place] < 0.5 for place in places]


@pytest.mark.parametrize("neighborhood", [[(-1, 0, 0), (0, -1, 0), (0, 0, -1)], [(0, 1, 0), (0, 0, -2), (1, -1, 0)]])
def test_against_a_walk_over_all_squares(neighborhood):
    rng = np.random.default_rng(1)
    affinities = Affinities.convert(rng.random((3, 4, 5, 6)).astype(np.float32), neighborhood)
    for figures, pair in zip(agreement_figures(affinities), [(0, 1), (0, 2), (1, 2)], strict=True):
        squares = np.array(list(by_hand(affinities, *pair)))
        cuts = squares.sum(1)
        assert figures.cut == np.mean(cuts > 0)
        assert figures.contradictions == (cuts == 1).sum() / (cuts > 0).sum()
        p, q = squares[:, :2].mean(), squares[:, 2:].mean()
        single = sum(
            np.prod([share if cut else 1 - share for cut, share in zip(square, (p, p, q, q), strict=True)])
            for square in product((0, 1), repeat=4)
            if sum(square) == 1
        )
        assert figures.chance == pytest.approx(single / (1 - (1 - p) ** 2 * (1 - q) ** 2))


def test_a_segmentation_contradicts_itself_nowhere():
    labels = Labels.convert(np.random.default_rng(2).integers(1, 4, (5, 6, 7)), Grid())
    for figures in agreement_figures(Affinities.from_labels(labels)):
        assert figures.contradictions == 0 < figures.cut


def test_correlations():
    rng = np.random.default_rng(3)
    array = rng.random((2, 1, 40, 40)).astype(np.float32)
    array[1, :, :, 1:] = 1 - array[0, :, :, 1:]
    array[0, :, 0] = array[1, :, :, 0] = 0
    (figures,) = agreement_figures(Affinities(array, [(0, -1, 0), (0, 0, -1)], Grid()))
    assert figures.correlation == pytest.approx(-1) and abs(figures.opposed) < 0.1


def test_nothing_to_compare():
    array = np.ones((2, 1, 3, 3), np.float32)
    array[0, :, 0] = array[1, :, :, 0] = 0
    (figures,) = agreement_figures(Affinities(array, [(0, -1, 0), (0, 0, -1)], Grid()))
    assert (figures.correlation, figures.opposed, figures.cut, figures.chance) == (None, None, 0, None)
    along = Affinities(np.zeros((2, 1, 1, 9), np.float32), [(0, 0, -1), (0, 0, -2)], Grid())
    assert agreement_figures(along) == ()
