"""A small fully convolutional network."""

import torch
from torch import nn

from segkit.models._lattice import LatticeModel, padded_axis
from segkit.models._unet import at_least_one, initialise

WIDTHS = (8, 32, 32, 32, 8)
KERNEL = 5


class FCN(LatticeModel):
    """Six zero-padded 5x5 convolutions with 8, 32, 32, 32, 8 features and the channels.

    Batch normalisation and ReLU follow all but the last, whose sigmoid losses and inference apply. It sees 25x25
    pixels and takes images of any size.

    Parameters
    ----------
    channels
        Output channels, one an offset of the neighborhood; the default predicts y and x.
    """

    def __init__(self, *, channels: int = 2) -> None:
        at_least_one(channels=channels)
        super().__init__([padded_axis(), padded_axis()])
        layers: list[nn.Module] = []
        for ins, outs in zip((self.sections, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(ins, outs, KERNEL, padding="same"), nn.BatchNorm2d(outs), nn.ReLU(inplace=True)]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Conv2d(WIDTHS[-1], channels, KERNEL, padding="same")
        initialise(self)

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, Y, X) of raw intensities in -1..1, (B, 1, Y, X)."""
        self._check_input(raw)
        return self.output(self.hidden(raw))
