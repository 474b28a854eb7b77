"""MONAI's DynUNet, the network of nnU-Net."""

from typing import Literal

from segkit.errors import InvalidParameter, sentence
from torch import nn

from segkit_monai.padded import Factors, PaddedNetwork, check_levels, check_positive
from segkit_monai.quiet import monai

LEAST_LEVELS = 3


class MonaiDynUNet(PaddedNetwork):
    """MONAI's DynUNet, the network of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    Kernels and strides of each level fit anisotropic voxels; zero padding, the output is as large as the input.
    Without deep supervision, which the losses of segkit know nothing of.

    Parameters
    ----------
    channels
        Output channels, one an offset of the neighborhood.
    features
        Features of each level, from fine to coarse; at least three levels, which MONAI asks for.
    strides
        [z, y, x] factors between levels; one fewer than levels.
    kernels
        [z, y, x] sizes of the convolutions of each level, odd.
    residual
        Residual blocks instead of plain ones.
    normalisation
        "instance" uses the statistics of the tile that it sees, so that tilings agree only roughly; or "batch".
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        features: tuple[int, ...] = (32, 64, 128, 256),
        strides: tuple[Factors, ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernels: tuple[Factors, ...] = ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        residual: bool = False,
        normalisation: Literal["instance", "batch"] = "instance",
    ) -> None:
        check_positive(channels=channels)
        check_levels(features, strides)
        if len(features) < LEAST_LEVELS:
            rule = f"must have at least {LEAST_LEVELS} levels"
            raise InvalidParameter(sentence("parameter 'features'", rule, list(features)))
        if len(kernels) != len(features) or any(size < 1 or size % 2 == 0 for kernel in kernels for size in kernel):
            rule = f"must be odd sizes [z, y, x], one for each of {len(features)} levels"
            raise InvalidParameter(sentence("parameter 'kernels'", rule, [list(kernel) for kernel in kernels]))
        network = monai("networks.nets", "DynUNet")(
            spatial_dims=3,
            in_channels=1,
            out_channels=channels,
            kernel_size=[list(kernel) for kernel in kernels],
            strides=[[1, 1, 1], *(list(factors) for factors in strides)],
            upsample_kernel_size=[list(factors) for factors in strides],
            filters=list(features),
            norm_name=(normalisation.upper(), {"affine": True}),
            res_block=residual,
        )
        _forget_second_names(network)
        super().__init__(network, strides)


def _forget_second_names(network: nn.Module) -> None:
    """Of its blocks, which MONAI registers twice: a checkpoint would hold each weight twice, or refuse them."""
    network.__dict__["skip_layers"] = network._modules.pop("skip_layers")
