"""MONAI's MedNeXt."""

from segkit.errors import InvalidParameter, sentence

from segkit_monai.padded import PaddedNetwork, check_positive
from segkit_monai.quiet import monai


class MonaiMedNeXt(PaddedNetwork):
    """MONAI's MedNeXt (Roy et al. 2023, doi:10.48550/arXiv.2303.09975): a U-Net of ConvNeXt blocks.

    Depthwise convolutions and wide 1x1x1 ones, residual also between levels; zero padding, the output is as large as
    the input. Each level halves z, y and x and doubles the features: for voxels that are about isotropic. The defaults
    are the paper's S; its B has the expansion [2, 3, 4, 4, 4], its M besides the blocks [3, 4, 4, 4, 4], its L
    [3, 4, 8, 8, 8] for both. Each channel is normalised over the tile that it sees, so that tilings agree only roughly.
    Without deep supervision, which the losses of segkit know nothing of.

    Parameters
    ----------
    channels
        Output channels, one an offset of the neighborhood.
    features
        Features of the finest level.
    blocks
        Blocks of each level, from fine to coarse, as many on the way up as on the way down; at least two levels.
    expansion
        How much wider the features are inside the blocks of each level.
    kernel
        Size of the depthwise convolutions, odd: 3 or 5 in the paper.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        features: int = 32,
        blocks: tuple[int, ...] = (2, 2, 2, 2, 2),
        expansion: tuple[int, ...] = (2, 2, 2, 2, 2),
        kernel: int = 3,
    ) -> None:
        check_positive(channels=channels, features=features, kernel=kernel)
        check_positive(blocks=min(blocks, default=0), expansion=min(expansion, default=0))
        if len(blocks) < 2:
            raise InvalidParameter(sentence("parameter 'blocks'", "must have at least 2 levels", list(blocks)))
        if len(expansion) != len(blocks):
            rule = f"must have one entry a level of blocks, {len(blocks)}"
            raise InvalidParameter(sentence("parameter 'expansion'", rule, list(expansion)))
        if kernel % 2 == 0:
            raise InvalidParameter(sentence("parameter 'kernel'", "must be odd", kernel))
        network = monai("networks.nets", "MedNeXt")(
            spatial_dims=3,
            init_filters=features,
            in_channels=1,
            out_channels=channels,
            encoder_expansion_ratio=list(expansion[:-1]),
            decoder_expansion_ratio=list(expansion[-2::-1]),
            bottleneck_expansion_ratio=expansion[-1],
            kernel_size=kernel,
            use_residual_connection=True,
            blocks_down=tuple(blocks[:-1]),
            blocks_bottleneck=blocks[-1],
            blocks_up=tuple(blocks[-2::-1]),
        )
        super().__init__(network, [(2, 2, 2)] * (len(blocks) - 1))
