"""The table against a dictionary filled voxel by voxel."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segkit import Grid, Labels
from segkit.errors import InvalidInput
from segkit.evaluate import contingency
from segkit.evaluate.contingency import count, sum_of_squares, unite
from segkit.testing import strategies

OUTSIDE = 2**64 - 1
IDS = st.sampled_from([0, 1, 2, 3, 2**32, 2**63, 2**64 - 3, 2**64 - 2, OUTSIDE])


def labels(ids, grid: Grid | None = None) -> Labels:
    return Labels(np.array(ids, np.uint64), grid or Grid())


def entries(table) -> dict:
    pairs = zip(table.segments[table.rows].tolist(), table.objects[table.cols].tolist(), strict=True)
    return dict(zip(pairs, table.counts.tolist(), strict=True))


def by_hand(segmentation: np.ndarray, truth: np.ndarray, ignore_background: bool) -> Counter:
    found = Counter()
    for segment, label in zip(segmentation.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if label < 2**64 - 2 and (label or not ignore_background):
            found[segment if segment < 2**64 - 2 else 0, label] += 1
    return found


@settings(deadline=None)
@given(st.data(), array_shapes(min_dims=3, max_dims=3, max_side=5), st.booleans())
def test_every_pair_is_counted(data, shape, ignore_background):
    segmentation, truth = (data.draw(arrays(np.uint64, shape, elements=IDS)) for _ in range(2))
    expected = by_hand(segmentation, truth, ignore_background)
    if not expected:
        with pytest.raises(InvalidInput, match="truth must hold a voxel that counts"):
            contingency(labels(segmentation), labels(truth), ignore_background=ignore_background)
        return
    table = contingency(labels(segmentation), labels(truth), ignore_background=ignore_background)
    assert entries(table) == expected
    assert table.total == sum(expected.values())
    assert (np.diff(table.segments.astype(object)) > 0).all()
    assert (np.diff(table.rows * len(table.objects) + table.cols) > 0).all()


def test_more_pairs_than_the_first_table_holds():
    rng = np.random.default_rng(0)
    segmentation, truth = rng.integers(1, 2**64 - 2, (2, 1, 300, 400), np.uint64)
    truth[0, :5] = truth[0, 5:10]
    segmentation[0, :5] = segmentation[0, 5:10]
    assert entries(contingency(labels(segmentation), labels(truth))) == by_hand(segmentation, truth, True)


def test_memory_layout_does_not_matter_and_inputs_stay_as_they_are():
    rng = np.random.default_rng(1)
    segmentation, truth = rng.integers(0, 9, (2, 4, 5, 6), np.uint64)
    copies = segmentation.copy(), truth.copy()
    expected = entries(contingency(labels(segmentation), labels(truth)))
    fortran = Labels(np.asfortranarray(segmentation), Grid())
    strided = Labels(np.repeat(truth, 2, axis=1)[:, ::2], Grid())
    assert entries(contingency(fortran, strided)) == expected
    assert np.array_equal(segmentation, copies[0])
    assert np.array_equal(truth, copies[1])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("longest", "ids"), [(1, 10**4), (3, 10**4), (40, 300), (500, 20), (10**4, 5)])
def test_runs_of_any_length_and_many_pairs_are_counted_by_any_threads(monkeypatch, longest, ids, threads):
    """More than a slab, and up to more pairs than the first table holds; against NumPy's sorting."""
    monkeypatch.setattr("segkit.threads.thread_count", lambda: threads)
    rng, shape = np.random.default_rng(longest), (3, 251, 263)
    size = int(np.prod(shape))
    pair = []
    for _ in range(2):
        lengths = rng.integers(1, longest + 1, 40 + 4 * size // longest)
        pair.append(np.repeat(rng.integers(0, ids, len(lengths), np.uint64), lengths)[:size].reshape(shape))
    table = contingency(*map(labels, pair), ignore_background=False)
    expected, counts = np.unique(np.stack([array.ravel() for array in pair]), axis=1, return_counts=True)
    assert np.array_equal(np.stack([table.segments[table.rows], table.objects[table.cols]]), expected)
    assert np.array_equal(table.counts, counts) and table.counts.dtype == np.int64


def test_merged_segments_are_the_table_of_the_merged_segmentation():
    rng = np.random.default_rng(2)
    segmentation, truth = rng.integers(0, 12, (2, 4, 5, 6), np.uint64)
    table = contingency(labels(segmentation), labels(truth))
    merged = table.merged(table.segments // np.uint64(4) * np.uint64(2**60))
    assert entries(merged) == by_hand(segmentation // np.uint64(4) * np.uint64(2**60), truth, True)


def test_the_border_takes_voxels_out():
    truth = labels([[[1, 1, 1, 2, 2, 2]]], Grid((40, 4, 4)))
    assert entries(contingency(truth, truth, border=4)) == {(1, 1): 1, (2, 2): 1}
    with pytest.raises(InvalidInput, match="lower the border of 9"):
        contingency(truth, truth, border=9)


def test_volumes_must_be_aligned():
    with pytest.raises(InvalidInput, match="segmentation and truth must have the same shape"):
        contingency(labels([[[1, 1]]]), labels([[[1]]]))
    with pytest.raises(InvalidInput, match="segmentation and truth must have the same voxel size"):
        contingency(labels([[[1]]]), labels([[[1]]], Grid((40, 4, 4))))


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**42), max_size=30))
def test_squares_are_summed_exactly(counts):
    assert sum_of_squares(np.array(counts, np.int64)) == sum(count**2 for count in counts)


@settings(max_examples=60, deadline=None)
@given(strategies.segmented(), st.data())
def test_tables_of_parts_unite_in_any_order(pair, data):
    """Parts: voxels as they are dealt out, in lines, for a table knows no neighbours."""
    segments, objects = (labels.array.reshape(-1) for labels in pair)
    dealt = data.draw(st.lists(st.integers(0, 3), min_size=len(segments), max_size=len(segments)))
    parts = [np.flatnonzero(np.array(dealt) == part) for part in range(4)]
    tables = [count(segments[part], objects[part], ignore_background=False) for part in parts]
    expected = count(segments, objects, ignore_background=False)
    for order in (tables, tables[::-1], [unite(tables[:2]), unite(tables[2:])]):
        found = unite(order)
        for name in ("segments", "objects", "rows", "cols", "counts"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
            assert getattr(found, name).dtype == getattr(expected, name).dtype
