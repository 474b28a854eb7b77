"""Affinities with the faults of a network's, made from the truth: for experiments on what comes after."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from segkit.data import NEAREST, Affinities, Labels, edge_mask, edge_slices
from segkit.data.affinities import as_neighborhood
from segkit.errors import InvalidInput, sentence

LOW, HIGH = 0.02, 0.88
"""A network is never quite sure."""
OWN = 0.1
"""The part of the noise that a channel does not share with the others."""


def oracle_affinities(  # noqa: PLR0913 (each fault of a network has its keyword, by which experiments name it)
    labels: Labels,
    neighborhood: ArrayLike = NEAREST,
    *,
    noise: float = 0.1,
    blur: float = 1.2,
    correlation: float = 3.0,
    membrane: bool = True,
    grid: int | None = None,
    grid_strength: float = 0.5,
    seed: int = 0,
) -> Affinities:
    """Affinities of the truth, blurred, between 0.02 and 0.88, with noise that is correlated in space.

    A watershed oversegments them as it does a network's. With ``noise=0, blur=0, membrane=False`` they are the true
    affinities, scaled. Equal arguments give equal affinities.

    Parameters
    ----------
    labels
        The truth; background and voxels outside the annotation belong with nothing.
    noise
        Standard deviation of the noise before clipping to 0..1; 99 % of its variance is common to all channels.
    blur
        Standard deviation, in voxels, of the Gaussian blur of the affinities.
    correlation
        Standard deviation, in voxels, of the Gaussian that correlates the noise.
    membrane
        Whether voxels that touch another object (along any axis) belong with nothing, as if between membranes two
        voxels thick; where there are no gaps between objects, a blur would otherwise hide the border.
    grid
        Period, in voxels along y and x, of a grid of lines on which the affinities of edges along z are too low: the
        fault of networks whose upsampling leaves a pattern. None = no such fault.
    grid_strength
        What the grid takes from these affinities, in 0..1.
    """
    neighborhood = as_neighborhood(neighborhood)
    _check(noise, blur, correlation, grid, grid_strength)
    rng = np.random.default_rng(seed)
    truth = Affinities.from_labels(_with_membranes(labels) if membrane else labels, neighborhood).array
    edges = edge_mask(labels.shape, neighborhood)
    shared = _noise(rng, labels.shape, correlation)
    result = np.empty_like(truth)
    for channel, (true, offset) in enumerate(zip(truth, neighborhood, strict=True)):
        mixed = np.sqrt(1 - OWN**2) * shared + OWN * _noise(rng, labels.shape, correlation)
        blurred = _blur(true, edges[channel], blur)
        values = LOW + (HIGH - LOW) * blurred + noise * mixed
        if grid is not None and offset[0]:
            values -= grid_strength * _grid_lines(labels.shape, grid)
        result[channel] = np.clip(values, 0, 1) * edges[channel]
    return Affinities(result, neighborhood, labels.grid)


def _check(noise: float, blur: float, correlation: float, grid: int | None, grid_strength: float) -> None:
    for name, value in (("noise", noise), ("blur", blur), ("correlation", correlation)):
        if not (value >= 0 and np.isfinite(value)):
            raise InvalidInput(sentence(name, "must not be negative", value))
    if grid is not None and grid < 2:
        raise InvalidInput(sentence("grid", "must be a period of at least 2 voxels", grid))
    if not 0 <= grid_strength <= 1:
        raise InvalidInput(sentence("grid_strength", "must lie in 0..1", grid_strength))


def _with_membranes(labels: Labels) -> Labels:
    keep = np.ones(labels.shape, bool)
    for offset in NEAREST:
        source, target = edge_slices(labels.shape, offset)
        same = labels.array[source] == labels.array[target]
        keep[source] &= same
        keep[target] &= same
    return Labels(np.where(keep, labels.array, np.uint64(0)), labels.grid)


def _blur(true: np.ndarray, edges: np.ndarray, blur: float) -> np.ndarray:
    """The mean of the existing edges around: dividing by the blurred mask, the border of the volume is no membrane."""
    weight = gaussian_filter(edges.astype(np.float32), blur)
    return gaussian_filter(true, blur) / np.maximum(weight, np.float32(1e-6))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], correlation: float) -> np.ndarray:
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), correlation)
    return field / max(field.std(), np.float32(1e-12))


def _grid_lines(shape: tuple[int, ...], period: int) -> np.ndarray:
    y, x = (np.arange(size) % period == 0 for size in shape[1:])
    return np.broadcast_to(y[:, None] | x[None, :], shape).astype(np.float32)
