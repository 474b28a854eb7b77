"""Natural images for segkit: reading BSDS500, the scores that are usual there, and a recipe."""

from segkit_natural_images.bsds import Picture, read_pictures
from segkit_natural_images.convert import convert_pictures

__all__ = ["Picture", "convert_pictures", "read_pictures"]
__version__ = "0.1.0"
