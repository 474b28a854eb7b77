"""What the network should say about a patch, and the form in which losses see both."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from segkit.protocols import Prediction


def prediction(batch: Mapping[str, Tensor], logits: Tensor, neighborhood: np.ndarray) -> Prediction:
    """What a loss sees of a batch; logits of 2-D networks (B, C, Y, X) get their Z = 1 here.

    Channels beyond those of the neighborhood are no affinities, and left out.
    """
    logits = with_sections(logits)[:, : len(neighborhood)]
    return Prediction(logits, batch["target"], batch["labels"], batch["mask"], batch["edges"], neighborhood)


def with_sections(logits: Tensor) -> Tensor:
    """Logits (B, C, Z, Y, X), also of a 2-D network, which gives (B, C, Y, X)."""
    return logits.unsqueeze(2) if logits.ndim == 4 else logits
