"""The 3-D U-Net of Funke et al. 2018."""

from typing import Literal

from segkit.models._pooling import automatic_pooling
from segkit.models._unet import Normalisation, Padding, UNet, widths


class UNet3D(UNet):
    """U-Net MALA, 3-D (Funke et al. 2018, doi:10.1109/TPAMI.2018.2835450).

    The defaults are the paper's: 12, 60, 300, 1500 features, two valid 3x3x3 convolutions with ReLU a level, max
    pooling and transposed convolutions of (1, 3, 3), which take the features down to those of the finer level;
    84x268x268 voxels in, 56x56x56 out, 87,753,495 parameters with 3 channels. For isotropic data try ``features=12,
    growth=6, pooling=[[2,2,2],[2,2,2],[3,3,3]]``, or let the voxel size decide by ``pooling=auto``.

    Parameters
    ----------
    channels
        Output channels, one an offset of the neighborhood.
    features
        Features of the finest level.
    growth
        Factor by which features grow from level to level.
    pooling
        [z, y, x] factors between levels, from fine to coarse; one more level than factors. "auto" derives them from
        `voxel_size`: each level halves the resolution along those axes whose voxel edge is at most 1.41 times (the
        square root of 2) the shortest one there, so that voxels become near to cubes as soon as they can.
    voxel_size
        Edge lengths of a voxel of the data, nm, z, y, x, for "auto"; training fills it in from the volumes.
    levels
        Number of resolutions with "auto", 4 if not given; otherwise `pooling` says it.
    upsampling
        "transposed" learns it and reduces the features to those of the finer level; "constant" repeats voxels and
        keeps all features (fewer operations to learn, no checkerboard, more weights in the next convolution).
    merge_convolution
        Whether a 1x1x1 convolution with ReLU follows each concatenation and reduces it to the level's features.
    padding
        "valid": no padding, the output is smaller than the input and tilings agree exactly; "same": zeros, the
        output is as large as the input, whose sizes the stride must divide.
    normalisation
        "none", or after each convolution "batch", "instance" or "group" (of at most 8). Instance and group use the
        statistics of the tile that they see, so that tilings agree only roughly.
    """

    ndim = 3

    def __init__(  # noqa: PLR0913 (parameters of components are explicit keywords)
        self,
        *,
        channels: int = 3,
        features: int = 12,
        growth: int = 5,
        pooling: Literal["auto"] | tuple[tuple[int, int, int], ...] = ((1, 3, 3), (1, 3, 3), (1, 3, 3)),
        voxel_size: tuple[float, float, float] | None = None,
        levels: int | None = None,
        upsampling: Literal["transposed", "constant"] = "transposed",
        merge_convolution: bool = False,
        padding: Padding = "valid",
        normalisation: Normalisation = "none",
    ) -> None:
        poolings = automatic_pooling(pooling, voxel_size, levels)
        super().__init__(
            channels=channels,
            widths=widths(features, growth, len(poolings) + 1),
            pooling=poolings,
            padding=padding,
            normalisation=normalisation,
            upsampling=upsampling,
            merge_convolution=merge_convolution,
        )
