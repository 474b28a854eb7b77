"""The 2-D U-Net with valid convolutions ("U-Net MALA")."""

from segkit.errors import InvalidParameter, sentence
from segkit.models._unet import UNet, widths


class UNet2D(UNet):
    """A 2-D U-Net of valid convolutions (after Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28).

    Two valid 3x3 convolutions a level, each with batch normalisation and ReLU; 2x2 max pooling; bilinear upsampling
    with a 1x1 convolution; centre-cropped skips. Bilinear upsampling drops its outermost pixels, so that tilings
    agree. With 4 levels, 268x268 pixels in give 166x166 out.

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
    sections
        Input sections for one output section, an odd number; of pictures, 3 are their colours.
    """

    def __init__(
        self, *, channels: int = 2, features: int = 64, growth: int = 2, levels: int = 4, sections: int = 1
    ) -> None:
        if sections < 1 or sections % 2 == 0:
            raise InvalidParameter(sentence("parameter 'sections'", "must be an odd number from 1 on", sections))
        self.sections = sections
        super().__init__(
            channels=channels,
            widths=widths(features, growth, levels),
            pooling=[(2, 2)] * (levels - 1),
            padding="valid",
            normalisation="batch",
            upsampling="bilinear",
        )
