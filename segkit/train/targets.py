"""What the network should say about a patch, and the form in which losses see both."""

from collections.abc import Mapping

import fastremap
import numpy as np
from torch import Tensor

from segkit.data import edge_mask, edge_slices
from segkit.protocols import Prediction


def compact(labels: np.ndarray) -> np.ndarray:
    """The objects of a patch numbered from 1 in order of appearance, int64; 0 stays 0."""
    numbered, _ = fastremap.renumber(np.ascontiguousarray(labels), preserve_zero=True, in_place=False)
    return numbered.astype(np.int64)


def affinity_targets(labels: np.ndarray, mask: np.ndarray, neighborhood) -> tuple[np.ndarray, np.ndarray]:
    """True affinities float32 (C, Z, Y, X) of `labels` (Z, Y, X), and which edges exist, bool (C, Z, Y, X).

    An edge exists if both its ends lie inside the patch and the mask; its target is 1 if both carry the same object.

    >>> target, edges = affinity_targets(np.array([[[1, 1, 0, 0]]]), np.ones((1, 1, 4), bool), [[0, 0, -1]])
    >>> target.ravel().tolist(), edges.ravel().tolist()
    ([0.0, 1.0, 0.0, 0.0], [False, True, True, True])
    """
    edges = edge_mask(labels.shape, neighborhood, mask)
    target = np.zeros(edges.shape, np.float32)
    for channel, offset in zip(target, neighborhood, strict=True):
        source, end = edge_slices(labels.shape, offset)
        channel[source] = (labels[source] == labels[end]) & (labels[source] != 0)
    return target * edges, edges


def prediction(batch: Mapping[str, Tensor], logits: Tensor, neighborhood: np.ndarray) -> Prediction:
    """What a loss sees of a batch; logits of 2-D networks (B, C, Y, X) get their Z = 1 here."""
    if logits.ndim == 4:
        logits = logits.unsqueeze(2)
    return Prediction(logits, batch["target"], batch["labels"], batch["mask"], batch["edges"], neighborhood)
