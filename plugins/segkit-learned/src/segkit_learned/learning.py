"""Learn from truth which contacts join: on the fragments, and on what a first model makes of them.

J. Nunez-Iglesias et al. 2013, doi:10.1371/journal.pone.0071715: a contact of large segments is another thing than one
of fragments, and examples of it are found by merging. A merge counts as right where it lowers the variation of
information, and an example weighs the more, the more it is worth. Calibration and threshold are found on volumes that
their model has not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph, check_aligned
from segkit.errors import InvalidInput, sentence
from segkit.evaluate.sweep import Sweep, sweep
from segkit.protocols import Fitted, Sample
from segkit.threads import thread_count

from segkit_learned.features import NAMES, RISING, describe
from segkit_learned.forest import Forest
from segkit_learned.merging import merge_in_rounds
from segkit_learned.model import Model, offsets_of
from segkit_learned.statistics import contact_statistics
from segkit_learned.truth import gains, overlap_table, summed

THRESHOLDS = np.arange(1, 100) / 100
FORESTS = 20
"""Forests at most."""
WIDTH = 10
"""Thresholds on either side that are taken into account: a low that is wide holds for new volumes."""
PARTS = 2
"""Volumes at least, so that one can be left out."""
ROWS_OF_THREAD = 2**16
"""Examples that are worth a thread: with fewer, threads wait for each other at every leaf."""


@dataclass(frozen=True)
class Settings:
    """How trees are grown; see :class:`segkit_learned.agglomerator.Learned`."""

    trees: int
    leaves: int
    learning_rate: float
    forests: int
    walks: int
    weight: float
    seed: int


class Examples(NamedTuple):
    """Contacts: their statistics float64 (E, F), whether a merge is right (E,), and what it is worth (E,)."""

    rows: np.ndarray
    right: np.ndarray
    worth: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Examples"]) -> "Examples":
        """All of them."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


class Volume(NamedTuple):
    """A sample, its graph, and its table of fragments and objects."""

    sample: Sample
    graph: RegionAdjacencyGraph
    table: Any


def learn(samples: Sequence[Sample], settings: Settings) -> Fitted:
    """Learn a model of all samples, and find its calibration and threshold by leaving out one after the other.

    A single sample is cut in two along its longest axis. Raises InvalidInput for samples that have different voxels or
    offsets, or of which nothing can be learned.
    """
    samples = checked(samples)
    pieces = -(-PARTS // len(samples))
    volumes = [prepared(part) for each in samples for part in cut(each, pieces)]
    first = [examples_of(each, each.graph, np.arange(len(each.graph.node_ids)), settings) for each in volumes]
    check_examples(first)
    pool = [[each] for each in first]
    for _ in range(settings.walks):
        unseen = [grow(others(pool, left_out), settings) for left_out in range(len(volumes))]
        walks = [walked(v, bare(v, f), settings)[1] for v, f in zip(volumes, unseen, strict=True)]
        pool = [[*own, walk] for own, walk in zip(pool, walks, strict=True)]
    unseen = [grow(others(pool, left_out), settings) for left_out in range(len(volumes))]
    last = [walked(v, bare(v, f), settings)[1] for v, f in zip(volumes, unseen, strict=True)]
    held_out = [Examples.joined([a, b]) for a, b in zip(first, last, strict=True)]
    sums = np.concatenate([f.sums(each.rows) for f, each in zip(unseen, held_out, strict=True)])
    calibration = calibrated(sums, *Examples.joined(held_out)[1:])
    sweeps = [swept(v, bare(v, f, calibration)) for v, f in zip(volumes, unseen, strict=True)]
    figures = chosen_threshold(sweeps)
    figures |= {"examples": float(sum(len(each.right) for own in pool for each in own)), "volumes": float(len(volumes))}
    forest = grow(Examples.joined([each for own in pool for each in own]), settings)
    grid = samples[0].affinities.grid
    model = Model(forest, calibration, grid.voxel_size, offsets_of(samples[0].affinities), figures)
    return Fitted(model.text(), figures)


def checked(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples. Raises InvalidInput for none, one not on one grid, or if they differ in voxels or offsets."""
    if not samples:
        raise InvalidInput(sentence("samples", "must be at least one", "none"))
    for each in samples:  # whole: parts of them may look as if they were aligned
        check_aligned(affinities=each.affinities, fragments=each.fragments, truth=each.truth)
    size, offsets = samples[0].affinities.grid.voxel_size, offsets_of(samples[0].affinities)
    for each in samples[1:]:
        own = each.affinities.grid.voxel_size
        if not np.allclose(own, size, rtol=0.02):
            raise InvalidInput(sentence("voxels of all affinities", f"must be {size} nm, those of the first", own))
        if offsets_of(each.affinities) != offsets:
            rule = f"must be {list(offsets)}, those of the first"
            raise InvalidInput(sentence("offsets of all affinities", rule, list(offsets_of(each.affinities))))
    return samples


def check_examples(first: Sequence[Examples]) -> None:
    """Raise InvalidInput where a volume has contacts of one kind alone."""
    for each in first:
        right = each.right[each.worth > 0]
        if not len(right) or right.all() or not right.any():
            rule = "must have contacts inside objects and between them, in each volume or half of the only one"
            value = f"{int(right.sum())} and {int((1 - right).sum())}"
            raise InvalidInput(sentence("the samples", rule, value, "take a larger volume, or smaller fragments"))


def cut(sample: Sample, pieces: int) -> list[Sample]:
    """Pieces of a sample along its longest axis."""
    axis = int(np.argmax(sample.fragments.shape))
    size = sample.fragments.shape[axis]
    bounds = [size * k // pieces for k in range(pieces + 1)]
    return [part_of(sample, axis, *each) for each in pairwise(bounds)] if pieces > 1 else [sample]


def part_of(sample: Sample, axis: int, first: int, last: int) -> Sample:
    """The sections `first` to `last` - 1 along an axis; affinity edges that leave them do not count."""
    box = tuple(slice(first, last) if a == axis else slice(None) for a in range(3))
    start = [first if a == axis else 0 for a in range(3)]
    given, fragments, truth = sample.affinities, sample.fragments, sample.truth
    grid = given.grid.crop(start)
    affinities = Affinities(given.array[(slice(None), *box)], given.neighborhood, grid)
    return Sample(affinities, Labels(fragments.array[box], grid), Labels(truth.array[box], truth.grid.crop(start)))


def prepared(sample: Sample) -> Volume:
    """A sample with what is counted once."""
    graph = contact_statistics(sample.affinities, sample.fragments)
    return Volume(sample, graph, overlap_table(graph.node_ids, sample.fragments, sample.truth))


def examples_of(volume: Volume, graph: RegionAdjacencyGraph, clusters: np.ndarray, settings: Settings) -> Examples:
    """The contacts of clusters; `clusters` int64 (N,) says which each fragment is in.

    The worth of a merge is the bits it gains or loses to the power of `weight`.
    """
    gained = gains(graph.edges, summed(volume.table, clusters, len(graph.node_ids)))
    rows = describe(graph, np.array(volume.sample.affinities.grid.voxel_size))
    return Examples(rows, (gained > 0).astype(np.float64), np.abs(gained) ** settings.weight)


def walked(volume: Volume, model: Model, settings: Settings) -> tuple[MergeTree, Examples]:
    """Merge a volume in rounds; all contacts on the way are examples, weighing together as much as the fragments'."""
    met: list[Examples] = []

    def watch(graph: RegionAdjacencyGraph, clusters: np.ndarray) -> None:
        if len(graph.edges):
            met.append(examples_of(volume, graph, clusters, settings))

    tree = merge_in_rounds(volume.graph, model.scores, watch)
    found = Examples.joined(met)
    share = met[0].worth.sum() / found.worth.sum()
    return tree, found._replace(worth=found.worth * share)


def others(pool: Sequence[Sequence[Examples]], left_out: int) -> Examples:
    """The examples of all volumes but one."""
    return Examples.joined([each for k, own in enumerate(pool) if k != left_out for each in own])


def bare(volume: Volume, forest: Forest, calibration: tuple[float, float] = (1.0, 0.0)) -> Model:
    """A model for one volume."""
    affinities = volume.sample.affinities
    return Model(forest, calibration, affinities.grid.voxel_size, offsets_of(affinities), {})


def grow(examples: Examples, settings: Settings) -> Forest:
    """Grow trees on examples by gradient boosting (LightGBM), the same at any number of threads.

    G. Ke et al. 2017, https://papers.nips.cc/paper/6907. More affinity never speaks against a merge (`RISING`).
    """
    import lightgbm

    counts = examples.worth > 0
    rows, right, worth = (values[counts] for values in examples)
    parameters = {
        "objective": "binary",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.6,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "min_sum_hessian_in_leaf": 1.0,
        "monotone_constraints": [int(name in RISING) for name in NAMES],
        "deterministic": True,
        "force_row_wise": True,
        "boost_from_average": False,
        "num_threads": max(1, min(thread_count(), len(rows) // ROWS_OF_THREAD)),
        "verbosity": -1,
    }
    data = lightgbm.Dataset(rows, label=right, weight=worth / worth.mean(), params={"verbosity": -1})
    grown = []
    for number in range(settings.forests):
        booster = lightgbm.train({**parameters, "seed": FORESTS * settings.seed + number}, data, settings.trees)
        grown.append(Forest.of_booster(booster.dump_model()))
    return Forest.mean(grown)


def calibrated(sums: np.ndarray, right: np.ndarray, worth: np.ndarray) -> tuple[float, float]:
    """Find slope and shift by which sums become probabilities, by Newton's method on the weighted log loss."""
    slope, shift = 1.0, 0.0
    worth = worth / worth.sum()
    for _ in range(100):
        found = 1 / (1 + np.exp(-np.clip(slope * sums + shift, -500, 500)))
        missed, bend = worth * (found - right), worth * found * (1 - found)
        gradient = np.array([(missed * sums).sum() + 1e-6 * (slope - 1), missed.sum()])
        mixed = (bend * sums).sum()
        step = np.linalg.solve([[(bend * sums**2).sum() + 1e-6, mixed], [mixed, bend.sum() + 1e-9]], gradient)
        slope, shift = slope - np.clip(step[0], -1, 1), shift - np.clip(step[1], -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    return max(float(slope), 0.05), float(shift)


def swept(volume: Volume, model: Model) -> Sweep:
    """Scores at all thresholds."""
    tree = merge_in_rounds(volume.graph, model.scores)
    return sweep(tree, volume.sample.fragments, volume.sample.truth)


def chosen_threshold(sweeps: Sequence[Sweep]) -> dict[str, float]:
    """The threshold around which the variation of information is lowest, and its halves there, on average."""
    split, merge = (
        np.mean([[row[name] for row in each.at(THRESHOLDS)] for each in sweeps], axis=0)
        for name in ("voi_split", "voi_merge")
    )
    around = np.convolve(np.pad(split + merge, WIDTH, "edge"), np.ones(2 * WIDTH + 1), "valid")
    best = int(np.argmin(around))
    return {"threshold": float(THRESHOLDS[best]), "voi_split": float(split[best]), "voi_merge": float(merge[best])}
