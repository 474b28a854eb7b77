"""How each package is called, as its own users call it; peers.py has each measured in a fresh process.

A function takes the file of inputs, loads them, and returns the call to be timed and more keywords of `measure`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from segkit import io
from segkit.benchmark.components import THRESHOLDS
from segkit.benchmark.measure import Row, measure

Timed = tuple[Callable, dict]


def segkit_agglomerate(file: Path, fragments: str, **parameters) -> Timed:
    """A merge tree, and a segmentation at each threshold, given up before the next as waterz' is overwritten by it."""
    from segkit.registry import load
    from segkit.segment import segmentations

    affinities, labels = io.read_affinities(file), _fragments(file, fragments)
    agglomerator = load("agglomerators", "python", **parameters)

    def relabel(tree) -> None:
        for segmentation in segmentations(tree, labels, THRESHOLDS):
            del segmentation

    return lambda: agglomerator.agglomerate(affinities, labels), {"then": {"relabelling": relabel}}


def waterz_agglomerate(file: Path, fragments: str, scoring: str, queue: int = 0) -> Timed:
    """A segmentation at each threshold. waterz writes into the fragments, so each call gets a copy, unmeasured."""
    import waterz

    affinities, labels = io.read_affinities(file).array.copy(), _fragments(file, fragments).array

    def call(own: np.ndarray) -> None:
        options = {"fragments": own, "scoring_function": scoring, "discretize_queue": queue}
        for _ in waterz.agglomerate(affinities, list(THRESHOLDS), **options):
            pass

    return call, {"prepare": lambda: (labels.copy(),)}


def bioimage_agglomerate(file: Path, fragments: str) -> Timed:
    """bioimage-cpp's region graph, mean affinities and GASP; it gives one segmentation, at the threshold 0.5."""
    import bioimage_cpp.graph as graphs
    from bioimage_cpp.graph.agglomeration import GaspClusterPolicy
    from bioimage_cpp.graph.features import affinity_features

    affinities, labels = io.read_affinities(file), _fragments(file, fragments).array
    offsets = affinities.neighborhood.tolist()

    def call() -> np.ndarray:
        rag = graphs.region_adjacency_graph(labels)
        mean, sizes = affinity_features(rag, labels, affinities.array, offsets).T
        nodes = GaspClusterPolicy(linkage="mean").optimize(rag, mean - 0.5, edge_sizes=sizes)
        return graphs.project_node_labels_to_pixels(rag, labels, nodes)

    return call, {}


def segkit_fragment(file: Path, method: str, **parameters) -> Timed:
    """Fragments by a component."""
    from segkit.registry import load

    affinities, fragmenter = io.read_affinities(file), load("fragmenters", method, **parameters)
    return lambda: fragmenter.fragment(affinities), {}


def waterz_watershed(file: Path) -> Timed:
    """waterz without fragments, agglomerated to 0: its watershed."""
    import waterz

    affinities = io.read_affinities(file).array.copy()
    return lambda: [result.copy() for result in waterz.agglomerate(affinities, [0.0])], {}


def bioimage_watershed(file: Path) -> Timed:
    """Distance transform and flooding by bioimage-cpp, seeds by SciPy."""
    from bioimage_cpp.distance import distance_transform
    from bioimage_cpp.segmentation import watershed
    from scipy import ndimage

    inside = io.read_affinities(file).array.mean(axis=0) > 0.5

    def call() -> np.ndarray:
        distance = distance_transform(inside, number_of_threads=0)
        seeds, _ = ndimage.label(ndimage.maximum_filter(distance, 10) == distance)
        return watershed(distance.max() - distance, seeds.astype(np.uint64))

    return call, {}


def scipy_watershed(file: Path, flood: str, per_section: bool) -> Timed:
    """Distance transform and seeds by SciPy, flooding by mahotas or scikit-image."""
    affinities = io.read_affinities(file).array
    inside = (affinities[1:] if per_section else affinities).mean(axis=0) > 0.5
    flooding = {"mahotas": _mahotas, "scikit-image": _skimage}[flood]()

    def call() -> np.ndarray:
        if not per_section:
            return _flooded(inside, flooding)[0]
        result, last = np.zeros(inside.shape, np.uint64), 0
        for section, written in zip(inside, result, strict=True):
            labels, count = _flooded(section, flooding)
            written[...] = labels + np.uint64(last)
            last += count
        return result

    return call, {}


def _flooded(inside: np.ndarray, flooding: Callable) -> tuple[np.ndarray, int]:
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(inside)
    seeds, count = ndimage.label(ndimage.maximum_filter(distance, 10) == distance)
    return flooding(distance.max() - distance, seeds).astype(np.uint64), count


def _mahotas() -> Callable:
    from mahotas import cwatershed

    return cwatershed


def _skimage() -> Callable:
    from skimage.segmentation import watershed

    return watershed


def segkit_scores(file: Path) -> Timed:
    """VOI, adapted Rand and what CREMI makes of them."""
    from segkit.registry import load

    segmentation, truth = io.read_labels(file, role="segmentation"), io.read_labels(file)
    metric = load("metrics", "cremi")
    return lambda: metric.score(segmentation, truth), {}


def skimage_scores(file: Path) -> Timed:
    """VOI and adapted Rand: two calls."""
    from skimage.metrics import adapted_rand_error, variation_of_information

    segmentation, truth = io.read_labels(file, role="segmentation").array, io.read_labels(file).array
    return lambda: (variation_of_information(truth, segmentation), adapted_rand_error(truth, segmentation)), {}


def waterz_scores(file: Path) -> Timed:
    """VOI and Rand of waterz."""
    import waterz

    segmentation, truth = io.read_labels(file, role="segmentation").array.copy(), io.read_labels(file).array.copy()
    return lambda: waterz.evaluate(segmentation, truth), {}


def segkit_graph(file: Path, fragments: str) -> Timed:
    """The region graph alone."""
    from segkit.agglomerate.rag import region_adjacency_graph

    affinities, labels = io.read_affinities(file), _fragments(file, fragments)
    return lambda: region_adjacency_graph(affinities, labels, ("count", "sum")), {}


def segkit_sweep(file: Path) -> Timed:
    """Scores at all thresholds of a merge tree, the voxels counted once."""
    from segkit.evaluate import sweep
    from segkit.registry import load

    fragments, truth = _fragments(file, "xy"), io.read_labels(file)
    tree = load("agglomerators", "python").agglomerate(io.read_affinities(file), fragments)
    return lambda: sweep(tree, fragments, truth), {}


def segkit_evaluations(file: Path, count: int) -> Timed:
    """The scores of `count` segmentations, one after the other."""
    from segkit.registry import load
    from segkit.segment import segmentations

    fragments, truth = _fragments(file, "xy"), io.read_labels(file)
    tree = load("agglomerators", "python").agglomerate(io.read_affinities(file), fragments)
    found = list(segmentations(tree, fragments, THRESHOLDS[:count]))
    metric = load("metrics", "cremi")
    return lambda: [metric.score(segmentation, truth) for segmentation in found], {}


def _fragments(file: Path, kind: str):
    return io.read_labels(f"{file}:volumes/fragments_{kind}", role="fragments")


def measured(*, function: str, file: str, options: dict, repeat: int) -> Row:
    """Measure the entrant that a function of this module loads; called in the fresh process."""
    call, keywords = globals()[function](Path(file), **options)
    return measure(call, repeat, **keywords)[0]
