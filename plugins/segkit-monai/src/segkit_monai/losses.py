"""MONAI's losses on affinities."""

import math
from typing import Literal

import torch
from segkit.errors import InvalidParameter, sentence
from segkit.protocols import Loss, Prediction
from torch import Tensor

from segkit_monai.quiet import monai

Side = Literal["affinities", "boundaries"]


class MonaiDice(Loss):
    """Soft Dice loss (Milletari et al. 2016, doi:10.1109/3DV.2016.79), 1 - Dice, by MONAI.

    The mean over the channels of each item, and over the items: a batch costs what its items cost in the mean. Only
    existing edges count; a channel without any costs 0. There are no parts.

    Parameters
    ----------
    of
        Overlap of "affinities" (what belongs together) or of "boundaries" (1 - affinity), which are rare.
    squared
        Square the two sums of the denominator's terms, as in the paper.
    smooth
        Added to numerator and denominator: a channel in which neither is anything costs 0.
    """

    segkit_api = "1"

    def __init__(self, *, of: Side = "affinities", squared: bool = False, smooth: float = 1e-5) -> None:
        _check_above_0(smooth=smooth)
        self.of, self.squared, self.smooth = of, squared, smooth

    def __call__(self, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, in 0..1."""
        loss = monai("losses", "DiceLoss")(squared_pred=self.squared, smooth_nr=self.smooth, smooth_dr=self.smooth)
        return loss(*_overlapping(prediction, self.of)), {}


class MonaiTversky(Loss):
    """Tversky loss (Salehi et al. 2017, doi:10.1007/978-3-319-67389-9_44) by MONAI.

    1 - TP / (TP + alpha FP + beta FN): with 0.5 and 0.5 it is the Dice loss. Averaged and masked as `monai-dice`.

    Parameters
    ----------
    of
        Positives are the "affinities" of 1 (what belongs together) or the "boundaries".
    alpha
        Weight of false positives. Of affinities they are the false merges.
    beta
        Weight of false negatives.
    smooth
        Added to numerator and denominator.
    """

    segkit_api = "1"

    def __init__(self, *, of: Side = "affinities", alpha: float = 0.7, beta: float = 0.3, smooth: float = 1e-5) -> None:
        _check_above_0(alpha=alpha, beta=beta, smooth=smooth)
        self.of, self.alpha, self.beta, self.smooth = of, alpha, beta, smooth

    def __call__(self, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, in 0..1."""
        loss = monai("losses", "TverskyLoss")(
            alpha=self.alpha, beta=self.beta, smooth_nr=self.smooth, smooth_dr=self.smooth
        )
        return loss(*_overlapping(prediction, self.of)), {}


class MonaiFocal(Loss):
    """Focal loss (Lin et al. 2017, doi:10.1109/ICCV.2017.324) by MONAI: cross-entropy that forgets what is certain.

    The mean of -(1 - p)^gamma log p over all existing edges of the batch, p the probability given to the truth; with
    gamma 0 it is `bce` with ``balanced=false``. There are no parts.

    Parameters
    ----------
    gamma
        How quickly edges that are predicted well stop to count.
    alpha
        Weight of edges of target 1 in 0..1, 1 - alpha of those of target 0; without it all count alike.
    """

    segkit_api = "1"

    def __init__(self, *, gamma: float = 2.0, alpha: float | None = None) -> None:
        if gamma < 0:
            raise InvalidParameter(sentence("parameter 'gamma'", "must be at least 0", gamma))
        if alpha is not None and not 0 <= alpha <= 1:
            raise InvalidParameter(sentence("parameter 'alpha'", "must lie in 0..1", alpha))
        self.gamma, self.alpha = gamma, alpha

    def __call__(self, prediction: Prediction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, in nats an edge."""
        loss = monai("losses", "FocalLoss")(gamma=self.gamma, alpha=self.alpha, reduction="none")
        edges = prediction.edges
        each = loss(torch.where(edges, prediction.logits.float(), 0.0), prediction.target.float())
        return torch.where(edges, each, 0.0).sum() / edges.sum().clamp(min=1), {}


def _overlapping(prediction: Prediction, of: Side) -> tuple[Tensor, Tensor]:
    """Predicted and true members (B, C, Z, Y, X): 0 in both where there is no edge, which then adds to no sum."""
    edges = prediction.edges
    sign = 1 if of == "affinities" else -1
    found = torch.where(edges, sign * prediction.logits.float(), 0.0).sigmoid()
    target = prediction.target.float()
    target = target if of == "affinities" else 1 - target
    return torch.where(edges, found, 0.0), torch.where(edges, target, 0.0)


def _check_above_0(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InvalidParameter(sentence(f"parameter {name!r}", "must be finite and above 0", value))
