"""Expected run length against its definition, counted edge by edge, and worked by hand."""

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Grid
from segkit.data.skeletons import STEP, Skeletons
from segkit.errors import InvalidInput, SegkitWarning
from segkit.evaluate.run_length import placed, run_length_scores
from segkit.testing import strategies

TOLERANCES = [0, 1, 3]


def by_definition(skeletons, segments, tolerance) -> dict[str, float]:
    """NERL and ERL in exact arithmetic, with nothing but dictionaries."""
    segments = [0 if each >= 2**64 - 2 else int(each) for each in segments]
    ids = skeletons.ids.tolist()
    shared = Counter(zip(segments, ids, strict=True))
    merging = {
        segment for segment in segments if sum(shared[segment, skeleton] > tolerance for skeleton in set(ids)) > 1
    }
    runs, whole = defaultdict(Fraction), defaultdict(Fraction)
    for (a, b), length in zip(skeletons.edges.tolist(), skeletons.lengths.tolist(), strict=True):
        whole[ids[a]] += Fraction(length)
        if segments[a] == segments[b] != 0 and segments[a] not in merging:
            runs[ids[a], segments[a]] += Fraction(length)
    squares, perfect = (sum(each**2 for each in lengths.values()) for lengths in (runs, whole))
    total = sum(whole.values())
    found = {f"nerl_{tolerance}": float(squares / perfect), f"erl_um_{tolerance}": float(squares / total / 1000)}
    return found | {"erl_um_perfect": float(perfect / total / 1000)}


@settings(deadline=None, max_examples=200)
@given(strategies.skeletons(), st.data())
def test_scores_are_their_definition(skeletons, data):
    names = st.sampled_from([0, 1, 2, 6, 2**64 - 3, 2**64 - 1])
    segments = data.draw(st.lists(names, min_size=len(skeletons.ids), max_size=len(skeletons.ids)))
    if not skeletons.steps.sum():
        with pytest.raises(InvalidInput, match="skeletons must hold an edge"):
            run_length_scores(skeletons, np.array(segments, np.uint64), TOLERANCES)
        return
    found = run_length_scores(skeletons, np.array(segments, np.uint64), TOLERANCES)
    expected = {}
    for tolerance in TOLERANCES:
        expected |= by_definition(skeletons, segments, tolerance)
    assert found == expected


@settings(deadline=None)
@given(strategies.skeletons(), st.randoms(use_true_random=False))
def test_the_order_of_nodes_and_edges_does_not_matter(skeletons, random):
    if not skeletons.steps.sum():
        return
    order = list(range(len(skeletons.ids)))
    random.shuffle(order)
    places = np.argsort(order)
    edges = places[skeletons.edges].tolist()
    random.shuffle(edges)
    turned = Skeletons(skeletons.nodes[order], [edge[::-1] for edge in edges], skeletons.ids[order])
    segments = np.arange(len(order)) // 5 + 1
    scores = run_length_scores(skeletons, segments.astype(np.uint64), TOLERANCES)
    assert run_length_scores(turned, segments[order].astype(np.uint64), TOLERANCES) == scores


@settings(deadline=None)
@given(strategies.skeletons())
def test_one_segment_a_skeleton_is_perfect(skeletons):
    if not skeletons.steps.sum():
        return
    found = run_length_scores(skeletons, skeletons.rows.astype(np.uint64) + np.uint64(1), TOLERANCES)
    assert all(found[f"nerl_{t}"] == 1 and found[f"erl_um_{t}"] == found["erl_um_perfect"] for t in TOLERANCES)


def row(*sizes) -> Skeletons:
    """Straight skeletons of so many nodes, 10 nm apart."""
    nodes = [[0, 100 * k, 10 * x] for k, size in enumerate(sizes) for x in range(size)]
    ids = np.repeat(np.arange(len(sizes)), sizes)
    edges = [[n, n + 1] for n in range(len(ids) - 1) if ids[n] == ids[n + 1]]
    return Skeletons(nodes, edges, ids)


def test_a_split_by_hand():
    found = run_length_scores(row(5), np.array([1, 1, 1, 2, 2], np.uint64))  # runs of 20 and 10 of 40 nm
    assert found == {"nerl_0": 500 / 1600, "erl_um_0": 500 / 40 / 1000, "erl_um_perfect": 0.04}


def test_a_segment_counts_as_one_run_wherever_it_is():
    found = run_length_scores(row(6), np.array([1, 1, 2, 1, 1, 1], np.uint64))
    assert found["nerl_0"] == 30**2 / 50**2


def test_one_node_in_a_foreign_neuron_is_a_merger_and_the_tolerance_forgives_it():
    segments = np.array([1] * 5 + [1] + [2] * 4, np.uint64)
    found = run_length_scores(row(5, 5), segments, [0, 1])
    assert found["nerl_0"] == 30**2 / (2 * 40**2)  # that one node costs the whole of the first neuron
    assert found["nerl_1"] == (40**2 + 30**2) / (2 * 40**2)


def test_the_tolerance_is_the_largest_number_of_nodes_that_is_forgiven():
    segments = np.array([1] * 5 + [1, 1, 1] + [2] * 2, np.uint64)
    found = run_length_scores(row(5, 5), segments, [2, 3])
    assert found["nerl_2"] == 10**2 / (2 * 40**2)
    assert found["nerl_3"] == (40**2 + 20**2 + 10**2) / (2 * 40**2)


def test_in_a_merging_segment_no_edge_is_correct_those_of_a_third_skeleton_neither():
    segments = np.array([1] * 5 + [1] * 5 + [1, 1, 3, 3, 3], np.uint64)
    assert run_length_scores(row(5, 5, 5), segments, [2])["nerl_2"] == 20**2 / (3 * 40**2)


def test_background_is_no_segment_and_merges_nothing():
    segments = np.array([0, 0, 1, 1, 1, 0, 0, 2, 2, 2], np.uint64)
    assert run_length_scores(row(5, 5), segments)["nerl_0"] == 20**2 / 40**2


def test_lengths_are_exact_to_a_millionth_of_a_nm():
    skeletons = Skeletons([[0, 0, 0], [1, 1, 1]], [[0, 1]], [1, 1])
    assert abs(skeletons.lengths[0] - 3**0.5) <= STEP / 2
    assert run_length_scores(skeletons, np.array([4, 4], np.uint64))["erl_um_0"] == skeletons.lengths[0] / 1000


def test_nodes_outside_of_the_volume_are_left_out_and_told():
    grid = Grid((10, 10, 10), (0, 0, 20))
    with pytest.warns(SegkitWarning, match="3 of 6 nodes of the skeletons lie outside"):
        left, voxels = placed(row(6), grid, (1, 1, 3))
    assert voxels.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]] and left.lengths.tolist() == [10, 10]
    with pytest.raises(InvalidInput, match="skeletons must hold an edge inside the volume"):
        placed(row(6), Grid((10, 10, 10), (500, 0, 0)), (1, 1, 3))
