"""A layer of neuroglancer for each kind of thing."""

import neuroglancer
import numpy as np

from segkit.data.boxes import middle
from segkit.io import RegionSource
from segkit.picture import affinity_colours
from segkit.view.marks import UNSURE, Mark
from segkit.view.served import Served, dimensions_of
from segkit.view.things import Thing

LABELS = ("fragments", "segmentation", "truth")
"""Roles of labels."""
SAMPLE = 2**18
"""Voxels from which the range of grey values is taken."""
GREY = """#uicontrol invlerp normalized
void main() { emitGrayscale(normalized()); }"""
SLIDER = """#uicontrol invlerp normalized
#uicontrol float threshold slider(min=0, max=1, step=0.01, default=0.5)
void main() { emitGrayscale(normalized() + 0.0 * threshold); }"""
"""The same, with a slider that the session listens to."""
COLOURED = """void main() {
  emitRGB(vec3(toNormalized(getDataValue(0)), toNormalized(getDataValue(1)), toNormalized(getDataValue(2))));
}"""
POINTS = """void main() { setColor(prop_color()); setPointMarkerSize(14.0); setPointMarkerBorderWidth(2.0); }"""


def layer_of(thing: Thing, source: RegionSource) -> tuple[Served, neuroglancer.Layer]:
    """Return the volume of a thing as it is served, and its layer."""
    if thing.role == "affinities":
        served = Served(source, lambda array: _coloured(array, source), np.uint8, channels=3)
        return served, neuroglancer.ImageLayer(source=placed(served), shader=COLOURED)
    if thing.role in LABELS:
        served = Served(source, lambda array: array, np.uint64, labels=True)
        return served, labels_layer(served)
    return _image(source)


def layer_of_url(thing: Thing) -> neuroglancer.Layer:
    """Return the layer of what the page reads by itself."""
    kind = neuroglancer.SegmentationLayer if thing.role in LABELS else neuroglancer.ImageLayer
    return kind(source=thing.address)


def labels_layer(served: Served) -> neuroglancer.SegmentationLayer:
    """Return a layer of labels: 0 is transparent, and the rest lets the images below shine through."""
    return neuroglancer.SegmentationLayer(source=placed(served), selected_alpha=0.45, not_selected_alpha=0.15)


def marks_layer(
    marks: list[Mark], points: list[list[float]], dimensions: neuroglancer.CoordinateSpace
) -> neuroglancer.LocalAnnotationLayer:
    """Return a layer of marks at `points`, in the coordinates of the page."""
    annotations = [
        neuroglancer.PointAnnotation(id=str(number), point=point, description=mark.text, props=[mark.color])
        for number, (mark, point) in enumerate(zip(marks, points, strict=True))
    ]
    color = neuroglancer.AnnotationPropertySpec(id="color", type="rgb", default=UNSURE)
    return neuroglancer.LocalAnnotationLayer(
        dimensions=dimensions, annotations=annotations, annotation_properties=[color], shader=POINTS
    )


def show_few(state: neuroglancer.ViewerState, first: str) -> None:
    """Of labels that lie over each other show one (`first`, or a segmentation, fragments, truth), and of images raw."""
    labels = [each for each in state.layers if isinstance(each.layer, neuroglancer.SegmentationLayer) and each.visible]
    images = [each for each in state.layers if isinstance(each.layer, neuroglancer.ImageLayer) and each.visible]
    order = [first, "segmentation", "fragments", "truth"]
    labels.sort(key=lambda each: next((n for n, start in enumerate(order) if each.name.startswith(start)), len(order)))
    for layer in labels[1:]:
        layer.visible = False
    if labels and any(layer.name.startswith("raw") for layer in images):
        for layer in images:
            layer.visible = layer.name.startswith("raw")


def placed(served: Served) -> Served | neuroglancer.LayerDataSource:
    """Return the volume as the source of a layer, moved by the part of a voxel that its offset has."""
    if not any(served.remainder):
        return served
    skipped = 1 if served.channels else 0
    matrix = np.eye(3 + skipped, 4 + skipped)
    matrix[skipped:, -1] = served.remainder
    dimensions = dimensions_of(served.source.grid, served.channels)
    transform = neuroglancer.CoordinateSpaceTransform(output_dimensions=dimensions, matrix=matrix)
    return neuroglancer.LayerDataSource(url=served, transform=transform)


def _image(source: RegionSource) -> tuple[Served, neuroglancer.ImageLayer]:
    """Grey values, from black to white where most of them are; 8-bit ones as they are."""
    sample = source.read(middle(source.shape, SAMPLE))
    dtype = np.dtype(np.uint8) if sample.dtype == bool else sample.dtype
    dtype = np.dtype(np.float32) if dtype.kind == "f" else dtype
    served = Served(source, lambda array: array.astype(dtype, copy=False), dtype)
    layer = neuroglancer.ImageLayer(source=placed(served), shader=GREY)
    if dtype != np.uint8:
        finite = sample[np.isfinite(sample)]
        low, high = np.percentile(finite if finite.size else [0], [0.5, 99.5]).tolist()
        layer.shader_controls = {"normalized": {"range": [low, high if high > low else low + 1]}}
    elif sample.max(initial=0) <= 1:
        layer.shader_controls = {"normalized": {"range": [0, 1]}}
    return served, layer


def _coloured(affinities: np.ndarray, source: RegionSource) -> np.ndarray:
    assert source.neighborhood is not None
    return np.moveaxis(affinity_colours(affinities, source.neighborhood), -1, 0)
