"""2-D U-Nets that pad, of one section or of three."""

from segkit.models._unet import UNet, widths


class UNet2DPadded(UNet):
    """A 2-D U-Net with zero padding everywhere: 256x256 pixels in, 256x256 out.

    Five levels of 64 to 1024 features, two 3x3 convolutions each, with batch normalisation and ReLU; 2x2 max pooling
    and transposed convolutions. (After Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28.)

    Parameters
    ----------
    channels
        Output channels, one an offset of the neighborhood; the default predicts y and x.
    features
        Features of the finest level.
    growth
        Factor by which features grow from level to level.
    levels
        Number of resolutions; one pooling fewer.
    """

    def __init__(self, *, channels: int = 2, features: int = 64, growth: int = 2, levels: int = 5) -> None:
        super().__init__(
            channels=channels,
            widths=widths(features, growth, levels),
            pooling=[(2, 2)] * (levels - 1),
            padding="same",
            normalisation="batch",
            upsampling="transposed",
        )


class UNet2D3Sections(UNet2DPadded):
    """The padded 2-D U-Net that sees three successive sections and predicts the central one.

    Parameters
    ----------
    channels
        Output channels, one an offset of the neighborhood; the default predicts y and x.
    features
        Features of the finest level.
    growth
        Factor by which features grow from level to level.
    levels
        Number of resolutions; one pooling fewer.
    """

    sections = 3
