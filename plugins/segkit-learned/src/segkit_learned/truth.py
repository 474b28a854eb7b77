"""What the truth says of a merge: how many bits of information it gains or loses."""

import numpy as np
from scipy.sparse import csr_array
from segkit.data import Labels
from segkit.evaluate.contingency import contingency


def overlap_table(node_ids: np.ndarray, fragments: Labels, truth: Labels) -> csr_array:
    """Count the voxels that each node shares with each object of the truth, float64 (N, T), sparse.

    What the truth leaves open (0, and outside the annotation) does not count; a node of which nothing counts has an
    empty row. Raises InvalidInput if both are not aligned, or nothing counts.
    """
    table = contingency(fragments, truth)
    places = np.searchsorted(node_ids, table.segments)
    known = np.zeros(len(table.segments), bool)
    inside = places < len(node_ids)
    known[inside] = node_ids[places[inside]] == table.segments[inside]
    kept = known[table.rows]
    entries = table.counts[kept].astype(np.float64), (places[table.rows[kept]], table.cols[kept])
    return csr_array(entries, shape=(len(node_ids), len(table.objects)))


def gains(edges: np.ndarray, table: csr_array) -> np.ndarray:
    """Compute by how much each merge would lower the variation of information, float64 (E,), times all voxels.

    In bits times voxels. Above 0 a merge mends more than it spoils; the amount is what the decision is worth: with two
    pure fragments of one object about the voxels of the smaller one times the bits that tell it from the larger.
    Where either has no voxel that counts it is 0: nobody knows. Variation of information: M. Meila 2007,
    doi:10.1016/j.jmva.2006.11.013.
    """
    sizes = np.asarray(table.sum(axis=1)).reshape(-1)
    one, other = edges.T
    united = _bits(sizes[one] + sizes[other]) - _bits(sizes[one]) - _bits(sizes[other])
    first, second = table[one], table[other]
    shared = first.sign().multiply(second.sign())
    a, b = first.multiply(shared).tocsr(), second.multiply(shared).tocsr()
    a.sort_indices()
    b.sort_indices()
    common = _bits(a.data + b.data) - _bits(a.data) - _bits(b.data)
    rows = np.repeat(np.arange(len(edges)), np.diff(a.indptr))
    return 2 * np.bincount(rows, common, minlength=len(edges)) - united


def _bits(counts: np.ndarray) -> np.ndarray:
    """n log2 n, and 0 for 0."""
    return counts * np.log2(np.maximum(counts, 1))


def summed(table: csr_array, clusters: np.ndarray, count: int) -> csr_array:
    """The table of clusters: row n is part of row clusters[n]."""
    ones = np.ones(len(clusters)), (clusters, np.arange(len(clusters)))
    return csr_array(csr_array(ones, shape=(count, len(clusters))) @ table)
