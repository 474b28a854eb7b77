"""Losses that look at each edge on its own."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from segkit.protocols import Loss, Prediction

RAREST = 0.05
"""A class that is rarer than this in a channel is weighted as if it were this frequent."""


class MSE(Loss):
    """Mean squared error: the mean of (affinity - target)^2 over all existing edges of the batch; it has no parts."""

    def __call__(self, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, in 0..1."""
        errors = (prediction.affinities - prediction.target.float()).square()
        zero = errors.new_zeros(())
        number = prediction.edges.sum().clamp(min=1)
        return torch.where(prediction.edges, errors, zero).sum() / number, {}


class BCE(Loss):
    """Binary cross-entropy of the logits: the weighted mean over all existing edges of the batch.

    Membranes are rare, so that without weights a network may well answer "same object" everywhere. With them the edges
    of target 1 and those of target 0 count alike in each channel of each item. A class that makes up less than 5 % of
    the edges of a channel is taken to make up 5 %, so that the few membrane voxels of an almost empty patch weigh at
    most ten times as much as they would without.

    The parts are "positive" and "negative", what edges of target 1 and of target 0 add to the loss.

    Parameters
    ----------
    balanced
        Give both classes equal total weight; otherwise each edge has weight 1.
    """

    def __init__(self, *, balanced: bool = True) -> None:
        self.balanced = balanced

    def __call__(self, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, in nats an edge, and its two parts."""
        edges = prediction.edges
        logits = prediction.logits.float()
        target = prediction.target.float()
        losses = binary_cross_entropy_with_logits(torch.where(edges, logits, 0.0), target, reduction="none")
        number = edges.sum().clamp(min=1)
        parts = {}
        for name, chosen in (("positive", edges & (target > 0.5)), ("negative", edges & (target <= 0.5))):
            weights = class_weights(chosen, edges) if self.balanced else 1.0
            parts[name] = (torch.where(chosen, losses, 0.0) * weights).sum() / number
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()}


def class_weights(chosen: Tensor, edges: Tensor) -> Tensor:
    """The weight of an edge of the class `chosen`, float32 (B, C, 1, 1, 1): 1 / (2 * its fraction among `edges`).

    >>> edges = torch.ones(1, 1, 1, 1, 10, dtype=torch.bool)
    >>> chosen = torch.arange(10).reshape(edges.shape) < 2
    >>> class_weights(chosen, edges).item()
    2.5
    """
    axes = (2, 3, 4)
    number = edges.sum(axes, keepdim=True).clamp(min=1)
    fraction = chosen.sum(axes, keepdim=True) / number
    return 0.5 / fraction.clamp(min=RAREST)
