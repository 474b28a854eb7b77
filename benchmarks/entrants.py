"""How each package is called, as its own users call it; peers.py and growth.py have each measured in a fresh process.

A function takes the file of inputs, loads them, and returns the call to be timed and more keywords of `measure`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from segkit import io
from segkit.benchmark.components import THRESHOLDS
from segkit.benchmark.measure import Row, measure
from segkit.memory import give_back, peak

Timed = tuple[Callable, dict]
NETWORK = {"features": 4, "growth": 2, "pooling": ((2, 2, 2), (2, 2, 2)), "padding": "same"}
"""A 3-D U-Net that a CPU can take over hundreds of megavoxels."""
LONG = 10.0
"""Seconds that take long."""


def segkit_read(file: Path) -> Timed:
    """Affinities, from a file that the system holds in its memory."""
    return lambda: io.read_affinities(file), {}


def segkit_write(file: Path) -> Timed:
    """Affinities, to a new file in the format of `file`, beside it."""
    affinities, folder = io.read_affinities(file), TemporaryDirectory(prefix="segkit-benchmark-", dir=file.parent)
    out = Path(folder.name) / file.name

    def empty() -> tuple:
        for left in Path(folder.name).iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return ()

    return lambda: io.write(out, affinities), {"prepare": empty}


def segkit_infer(file: Path) -> Timed:
    """A small U-Net over as many voxels of noise: what they hold costs a network nothing."""
    import torch

    from segkit.data import NEAREST, Grid, Volume
    from segkit.infer import predict
    from segkit.models.unet3d import UNet3D

    torch.manual_seed(0)
    module, shape = UNet3D(**NETWORK), io.shape_of(file, "truth")
    raw = Volume(np.random.default_rng(0).integers(0, 256, shape, np.uint8), Grid((10.0, 10.0, 10.0)))
    return lambda: predict(module, raw, NEAREST), {}


def segkit_malis(file: Path) -> Timed:
    """Constrained MALIS and its gradient to the logits."""
    from segkit.benchmark.loss_step import LossStep
    from segkit.registry import load

    step = LossStep.of(load("losses", "constrained-malis"), io.read_affinities(file), io.read_labels(file))
    return step.run, {}


def segkit_segment(file: Path) -> Timed:
    """The segmentation at 0.5, of the tree in the file."""
    from segkit.segment import segment

    tree, labels = io.read_merge_tree(file), _fragments(file, "xy")
    return lambda: segment(tree, labels, 0.5), {}


def segkit_tree(file: Path, fragments: str, **parameters) -> Timed:
    """A merge tree."""
    from segkit.registry import load

    affinities, labels = io.read_affinities(file), _fragments(file, fragments)
    agglomerator = load("agglomerators", "python", **parameters)
    return lambda: agglomerator.agglomerate(affinities, labels), {}


def segkit_agglomerate(file: Path, fragments: str, **parameters) -> Timed:
    """A merge tree, and a segmentation at each threshold, given up before the next as waterz' is overwritten by it."""
    from segkit.segment import segmentations

    call, _ = segkit_tree(file, fragments, **parameters)
    labels = _fragments(file, fragments)

    def relabel(tree) -> None:
        for segmentation in segmentations(tree, labels, THRESHOLDS):
            del segmentation

    return call, {"then": {"relabelling": relabel}}


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


def segkit_sweep(file: Path) -> Timed:
    """Scores at all thresholds of a merge tree, the voxels counted once."""
    from segkit.evaluate import sweep

    tree, fragments, truth = io.read_merge_tree(file), _fragments(file, "xy"), io.read_labels(file)
    return lambda: sweep(tree, fragments, truth), {}


def segkit_evaluations(file: Path, count: int) -> Timed:
    """The scores of `count` segmentations, one after the other."""
    from segkit.registry import load
    from segkit.segment import segmentations

    tree, fragments, truth = io.read_merge_tree(file), _fragments(file, "xy"), io.read_labels(file)
    found = list(segmentations(tree, fragments, THRESHOLDS[:count]))
    metric = load("metrics", "cremi")
    return lambda: [metric.score(segmentation, truth) for segmentation in found], {}


def _fragments(file: Path, kind: str):
    return io.read_labels(f"{file}:volumes/fragments_{kind}", role="fragments")


def random_look_ups(file: Path) -> Timed:
    """Four bytes for each voxel, from a random place of as many: what it costs that a volume leaves the caches."""
    voxels = np.prod(io.shape_of(file, "truth"))
    places, values = np.random.default_rng(0).integers(0, voxels, voxels), np.zeros(voxels, np.int32)
    return lambda: values.take(places), {}


def measured(*, function: str, file: str, options: dict, repeat: int) -> Row:
    """Measure the entrant that a function of this module loads; called in the fresh process."""
    call, keywords = globals()[function](Path(file), **options)
    return measure(call, repeat, **keywords)[0]


def measured_large(*, function: str, file: str, options: dict, repeat: int, smallest: str) -> Row:
    """Measure as :func:`measured` does, but warm up on the inputs `smallest`, and time what takes long only once.

    `process_bytes` is the most that the process held, inputs included.
    """
    entrant = globals()[function]
    call, keywords = entrant(Path(smallest), **options)
    measure(call, 1, **keywords)
    del call, keywords
    give_back()
    call, keywords = entrant(Path(file), **options)
    row = measure(call, 1, warm_up=False, **keywords)[0]
    if row["seconds"] < LONG:  # else it would tell how fast the system finds memory
        row = measure(call, repeat, warm_up=False, **keywords)[0] | {"peak_bytes": row["peak_bytes"]}
    return row | {"process_bytes": peak()}
