"""Scores a network by what it is there for: volumes kept aside are segmented."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from segkit.data import Affinities, Labels, MergeTree, Volume
from segkit.data.boxes import middle
from segkit.data.labels import FIRST_OUTSIDE
from segkit.errors import InvalidInput, sentence
from segkit.evaluate import Sweep, mean_sweep, sweep
from segkit.fragment.from_labels import fragments_from_labels
from segkit.infer import predict
from segkit.protocols import Model
from segkit.registry import calls, find
from segkit.registry.settings import settings
from segkit.segment import segment
from segkit.train.config import TrainConfig
from segkit.train.data import TrainingVolume

SHOWN = (48, 256, 256)
"""Voxels of a volume that are shown at most, z, y, x."""
LARGEST = 2**24
"""Voxels of a volume that are segmented if the settings name no crop: about 1 GB of memory."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The part of a volume that is segmented."""

    raw: Volume
    """With what the network sees around the part, where the volume reaches that far."""
    window: tuple[slice, ...]
    """Where in `raw` the part lies."""
    truth: Labels
    """Its objects; outside the annotation and the mask 2^64 - 1."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What people are shown of a validation: the middle of the first volume, all of one shape (Z, Y, X)."""

    raw: np.ndarray
    affinities: Affinities
    fragments: Labels
    segmentation: Labels
    """At the best threshold."""
    threshold: float
    truth: Labels


class Segmenter:
    """Scores networks by the best segmentation of `volumes` that their affinities lead to.

    Components are made and volumes cropped here, so that what is wrong with them is said before training begins:
    InvalidInput for a volume without objects or a crop larger than it, and what the registry raises.
    """

    def __init__(
        self, config: TrainConfig, volumes: Sequence[TrainingVolume], network: Model, neighborhood: np.ndarray
    ) -> None:
        self.config, self.neighborhood = config, neighborhood
        chosen, per_section = config.validation, not neighborhood[:, 0].any()
        cutting, merging = dict(chosen.fragmenter_parameters), chosen.agglomerator_parameters
        if per_section and "per_section" in find("fragmenters", chosen.fragmenter).parameters():
            cutting.setdefault("per_section", True)
        self.fragmenter = find("fragmenters", chosen.fragmenter).create(**cutting)
        self.agglomerator = find("agglomerators", chosen.agglomerator).create(**merging)
        self.made_by = {
            "fragmenter": settings("fragmenters", chosen.fragmenter, cutting),
            "agglomerator": settings("agglomerators", chosen.agglomerator, merging),
        }
        """The components with all their parameters: a threshold is worth something with these alone."""
        self.scenes = [choose_scene(volume, network, chosen.crop, per_section) for volume in volumes]
        self.shown: Shown | None = None
        """What the last network that was scored made of the first volume; None before, and if it failed."""

    def score(self, network: torch.nn.Module, device: torch.device) -> dict[str, float]:
        """Compute the scores at the threshold of the best CREMI score, which is in `threshold`.

        Beside them: how many `fragments` there are, and `oracle_cremi_score`, the least that agglomeration could come
        to with them. Of several volumes, the means at one threshold for all. Raises InvalidInput if the output of the
        network is NaN, and what the components raise.
        """
        self.shown, seen = None, _Middle(self.scenes[0])
        numbers, sweeps = zip(*(self._sweep(scene, network, device, seen) for scene in self.scenes), strict=True)
        found = mean_sweep(sweeps)
        best = found.best()
        self.shown = seen.cut(best["threshold"])
        return best | {"fragments": sum(numbers), "oracle_cremi_score": found.oracle["cremi_score"]}

    @cached_property
    def digest(self) -> str:
        """A hash of volumes, crops and components: scores of different ones are not to be compared."""
        found = hashlib.blake2b(repr(self.made_by).encode(), digest_size=16)
        for scene in self.scenes:
            for array in (scene.raw.array, scene.truth.array):
                found.update(repr((array.dtype.str, array.shape)).encode())
                for section in array:
                    found.update(np.ascontiguousarray(section).data)
        return found.hexdigest()

    def _sweep(
        self, scene: Scene, network: torch.nn.Module, device: torch.device, seen: "_Middle"
    ) -> tuple[int, Sweep]:
        options = {"tile_shape": self.config.validation.tile, "precision": self.config.precision}
        whole = predict(network, scene.raw, self.neighborhood, device=device, **options)
        part = whole.array[(slice(None), *scene.window)]
        affinities = Affinities.convert(part, whole.neighborhood, scene.truth.grid)
        fragments = calls.fragment(self.fragmenter, affinities)
        tree = calls.agglomerate(self.agglomerator, affinities, fragments)
        if scene is seen.scene:
            seen.keep(affinities, fragments, tree)
        return len(tree.leaf_ids), sweep(tree, fragments, scene.truth)


class _Middle:
    """Keeps of a scene what is shown, so that the rest need not stay in memory."""

    def __init__(self, scene: Scene) -> None:
        self.scene, shape = scene, scene.truth.shape
        size = np.minimum(shape, SHOWN)
        start = np.subtract(shape, size) // 2
        self.part, self.grid = _slices(start, start + size), scene.truth.grid.crop(start.tolist())

    def keep(self, affinities: Affinities, fragments: Labels, tree: MergeTree) -> None:
        """Take the middle of what was made."""
        part = affinities.array[(slice(None), *self.part)]
        self.affinities = Affinities.convert(part.copy(), affinities.neighborhood, self.grid)
        self.fragments, self.tree = self._middle(fragments), tree

    def cut(self, threshold: float) -> Shown:
        """Segment what is shown at `threshold`."""
        segmentation = segment(self.tree, self.fragments, threshold)
        raw = self.scene.raw.array[self.scene.window][self.part]
        return Shown(raw, self.affinities, self.fragments, segmentation, threshold, self._middle(self.scene.truth))

    def _middle(self, labels: Labels) -> Labels:
        return Labels(labels.array[self.part].copy(), self.grid)


def choose_scene(volume: TrainingVolume, network: Model, crop: Sequence[int] | None, per_section: bool) -> Scene:
    """Crop the middle of the labelled part of `volume`, of the shape `crop` or of at most LARGEST voxels.

    With `per_section` the objects of each section are its own. Raises InvalidInput if no object is in it.
    """
    low = np.maximum(np.negative(volume.position), 0)
    high = np.minimum(volume.labels.shape, np.subtract(volume.raw.shape, volume.position))
    shape = tuple(int(size) for size in np.maximum(high - low, 0))
    wanted = _shape(shape, crop)
    start = low + np.subtract(shape, wanted) // 2
    truth = _truth(volume, start, start + wanted)
    if not np.any(truth.inside & (truth.array != 0)):
        rule = "must hold an object in the part that is segmented"
        next_step = "set validation.crop, check labels and mask, or set validation.segmentation=false"
        raise InvalidInput(sentence("the validation volume", rule, f"background alone in {wanted}", next_step))
    margin = [0] * (3 - network.ndim) + [context // 2 for context in network.context]
    margin[0] += network.sections // 2
    begin = np.maximum(start + volume.position - margin, 0)
    end = np.minimum(start + wanted + volume.position + margin, volume.raw.shape)
    raw = Volume(volume.raw.read(_slices(begin, end)), volume.raw.grid.crop(begin.tolist()))
    inner = start + volume.position - begin
    truth = fragments_from_labels(truth, per_section=True) if per_section else truth
    return Scene(raw, _slices(inner, inner + wanted), truth)


def _shape(shape: tuple[int, ...], crop: Sequence[int] | None) -> tuple[int, ...]:
    """Return `crop`, if it fits into `shape`; without one `shape`, its longest axes shortened until it is small enough.

    >>> _shape((4, 5000, 5000), None), _shape((40, 250, 250), None), _shape((9, 9, 9), [3, 4, 5])
    ((4, 2048, 2048), (40, 250, 250), (3, 4, 5))
    """
    if crop is None:
        return tuple(along.stop - along.start for along in middle(shape, LARGEST))
    wanted = tuple(crop) if len(crop) == 3 else (1,) * (3 - len(crop)) + tuple(crop)
    if len(wanted) != 3 or any(a > b for a, b in zip(wanted, shape, strict=True)):
        rule = f"must be a shape z, y, x inside the validation volume, {shape}"
        raise InvalidInput(sentence("validation.crop", rule, list(crop), "choose a smaller one, or none"))
    return wanted


def _truth(volume: TrainingVolume, start: np.ndarray, end: np.ndarray) -> Labels:
    window = _slices(start, end)
    array = volume.labels.read(window)
    if volume.mask is not None:
        array = np.where(volume.mask.read(window), array, np.uint64(FIRST_OUTSIDE))
    return Labels(array, volume.labels.grid.crop(start.tolist()))


def _slices(start: np.ndarray, end: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(start, end, strict=True))
