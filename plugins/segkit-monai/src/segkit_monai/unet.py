"""MONAI's residual U-Net."""

from typing import Literal

from segkit_monai.padded import Factors, PaddedNetwork, check_levels, check_positive
from segkit_monai.quiet import monai

NORMALISATIONS = {"instance": "INSTANCE", "batch": "BATCH", "none": None}


class MonaiUNet(PaddedNetwork):
    """MONAI's UNet with residual units (Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40).

    Strided convolutions instead of pooling; zero padding, the output is as large as the input.

    Parameters
    ----------
    channels
        Output channels, one an offset of the neighborhood.
    features
        Features of each level, from fine to coarse.
    strides
        [z, y, x] factors between levels; one fewer than levels. The first applies at once: the finest level of
        features is already smaller than the input by it.
    residual_units
        Convolutions in each residual unit; 0: one plain convolution a level.
    normalisation
        "instance" uses the statistics of the tile that it sees, so that tilings agree only roughly; "batch"; "none".
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        features: tuple[int, ...] = (16, 32, 64, 128),
        strides: tuple[Factors, ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2)),
        residual_units: int = 2,
        normalisation: Literal["instance", "batch", "none"] = "instance",
    ) -> None:
        check_positive(channels=channels, residual_units=residual_units + 1)
        check_levels(features, strides)
        network = monai("networks.nets", "UNet")(
            spatial_dims=3,
            in_channels=1,
            out_channels=channels,
            channels=list(features),
            strides=[tuple(factors) for factors in strides],
            num_res_units=residual_units,
            norm=NORMALISATIONS[normalisation],
        )
        super().__init__(network, strides)
