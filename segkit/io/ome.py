"""The attributes of an OME-Zarr 0.5 image with one scale, as segkit writes them."""

from collections.abc import Mapping

SPACE = ("z", "y", "x")
FIRST_SCALE = "0"
"""The array of the only scale."""


def dimension_names(ndim: int) -> list[str]:
    """The names of the axes of an array: channels first, where there are some."""
    return ["c"] * (ndim - len(SPACE)) + list(SPACE)


def image_attributes(name: str, ndim: int, attributes: Mapping[str, object]) -> dict[str, object]:
    """The attributes of the group of an image, of an array of `ndim` axes, from those of a record.

    `resolution` and `offset` become the scale and the translation; the others stand under `segkit`.
    """
    ours = dict(attributes)
    channels = ndim - len(SPACE)
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] * channels
    axes = axes + [{"name": axis, "type": "space", "unit": "nanometer"} for axis in SPACE]
    scale = [1.0] * channels + list(ours.pop("resolution"))  # type: ignore[call-overload]
    translation = [0.0] * channels + list(ours.pop("offset"))  # type: ignore[call-overload]
    del ours["unit"]
    transformations = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
    datasets = [{"path": FIRST_SCALE, "coordinateTransformations": transformations}]
    image = {"name": name, "axes": axes, "datasets": datasets}
    return {"ome": {"version": "0.5", "multiscales": [image]}, "segkit": ours}
