"""What the network should say about a patch, and the form in which losses see both."""

from collections.abc import Mapping

import fastremap
import numpy as np
import torch
from torch import Tensor

from segkit.data import edge_slices
from segkit.protocols import Prediction


def compact(labels: np.ndarray) -> np.ndarray:
    """The objects of a patch numbered from 1 in order of appearance, int32; 0 stays 0."""
    numbered, _ = fastremap.renumber(np.ascontiguousarray(labels), preserve_zero=True, in_place=False)
    return numbered.astype(np.int32)


def affinity_targets(labels: Tensor, mask: Tensor, neighborhood) -> tuple[Tensor, Tensor]:
    """True affinities float32 (B, C, Z, Y, X) of `labels` (B, Z, Y, X), and which edges exist, bool (B, C, Z, Y, X).

    An edge exists if both its ends lie inside the patch and the mask; its target is 1 if both carry the same object.
    All of it is computed where `labels` lie.

    >>> target, edges = affinity_targets(torch.tensor([[[[1, 1, 0, 0]]]]), torch.ones(1, 1, 1, 4).bool(), [[0, 0, -1]])
    >>> target.ravel().tolist(), edges.ravel().tolist()
    ([0.0, 1.0, 0.0, 0.0], [False, True, True, True])
    """
    shape = (len(labels), len(neighborhood), *labels.shape[1:])
    target = torch.zeros(shape, dtype=torch.float32, device=labels.device)
    edges = torch.zeros(shape, dtype=torch.bool, device=labels.device)
    for channel, offset in enumerate(neighborhood):
        source, end = (np.index_exp[:] + part for part in edge_slices(labels.shape[1:], offset))
        exist = mask[source] & mask[end]
        edges[:, channel][source] = exist
        target[:, channel][source] = ((labels[source] == labels[end]) & (labels[source] != 0) & exist).float()
    return target, edges


def prediction(batch: Mapping[str, Tensor], logits: Tensor, neighborhood: np.ndarray) -> Prediction:
    """What a loss sees of a batch; logits of 2-D networks (B, C, Y, X) get their Z = 1 here.

    Channels beyond those of the neighborhood are no affinities, and left out.
    """
    logits = with_sections(logits)[:, : len(neighborhood)]
    return Prediction(logits, batch["target"], batch["labels"], batch["mask"], batch["edges"], neighborhood)


def with_sections(logits: Tensor) -> Tensor:
    """Logits (B, C, Z, Y, X), also of a 2-D network, which gives (B, C, Y, X)."""
    return logits.unsqueeze(2) if logits.ndim == 4 else logits
