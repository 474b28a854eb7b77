"""MONAI's SegResNet."""

from math import gcd
from typing import Literal

from segkit.errors import InvalidParameter, sentence

from segkit_monai.padded import PaddedNetwork, check_positive
from segkit_monai.quiet import monai

MOST_GROUPS = 8


class MonaiSegResNet(PaddedNetwork):
    """MONAI's SegResNet (Myronenko 2018, arXiv:1810.11654): residual blocks, additive skips, linear upsampling.

    Each level halves z, y and x: for voxels that are about isotropic. Zero padding, the output is as large as the
    input. Convolutions start it and 1x1x1 convolutions end it.

    Parameters
    ----------
    channels
        Output channels, one an offset of the neighborhood.
    features
        Features of the finest level; they double from level to level.
    blocks_down
        Residual blocks of each level on the way down; as many levels as entries.
    blocks_up
        Residual blocks of each level on the way up, from coarse to fine; one fewer than levels.
    upsampling
        "linear" interpolation, or transposed convolutions ("learned"). Training with "linear" is not reproducible
        bit by bit on a GPU.
    normalisation
        "group" (of at most 8) and "instance" use the statistics of the tile that they see, so that tilings agree only
        roughly; or "batch".
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        features: int = 16,
        blocks_down: tuple[int, ...] = (1, 2, 2, 4),
        blocks_up: tuple[int, ...] = (1, 1, 1),
        upsampling: Literal["linear", "learned"] = "linear",
        normalisation: Literal["group", "instance", "batch"] = "group",
    ) -> None:
        check_positive(channels=channels, features=features, blocks_down=min(blocks_down, default=0))
        check_positive(blocks_up=min(blocks_up, default=1))
        if len(blocks_up) != len(blocks_down) - 1:
            rule = f"must have one entry fewer than blocks_down, {len(blocks_down) - 1}"
            raise InvalidParameter(sentence("parameter 'blocks_up'", rule, list(blocks_up)))
        group = ("GROUP", {"num_groups": gcd(features, MOST_GROUPS)})
        network = monai("networks.nets", "SegResNet")(
            spatial_dims=3,
            init_filters=features,
            in_channels=1,
            out_channels=channels,
            norm={"group": group, "instance": ("INSTANCE", {"affine": True}), "batch": "BATCH"}[normalisation],
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
            upsample_mode={"linear": "nontrainable", "learned": "deconv"}[upsampling],
        )
        super().__init__(network, [(2, 2, 2)] * len(blocks_up))
