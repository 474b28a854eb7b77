"""Flooding from seeds, of a whole volume or of each section."""

import numpy as np

from segkit.fragment._kernels_flood import fill_state, flood, join_peaks, read_labels
from segkit.fragment._shared import contiguous
from segkit.threads import share

Seeds = list[tuple[np.ndarray, int]]
"""For each slab (a section, or the volume): the label of each of its maxima, int32, and how many labels there are."""


def numbered_seeds(places: np.ndarray, depths: np.ndarray, per_section: bool) -> Seeds:
    """Number the maxima of `depths` at `places` (flat indices, ascending), from 1 in each slab; those in touch are one.

    Voxels are in touch that share a face, or else an edge or a corner where faces of voxels deeper than 0 lead from one
    to the other within the cube of both: a corner alone joins nothing. Seeds are numbered by their first voxels.
    """
    slab = _slab(depths.shape, per_section)
    count = len(depths) // slab[0]
    parts = share(_number_slabs, count, _by_slab(places, depths.shape, slab), depths.reshape(count, *slab))
    return [seeds for part in parts for seeds in part]


def _number_slabs(start: int, stop: int, places: list[np.ndarray], slabs: np.ndarray) -> Seeds:
    state = _state(slabs.shape[1:])
    moves = np.argwhere(np.ones((3, 3, 3)))[:13] - 1
    earlier = (np.array(_strides(state)) * moves).sum(axis=1)
    steps = np.array(_strides(slabs[0])) * moves
    numbered = []
    for k in range(start, stop):
        inner = _inner(places[k], slabs.shape[1:], state)
        numbered.append(join_peaks(state.reshape(-1), inner, earlier, slabs[k].reshape(-1), places[k], steps))
        state.reshape(-1)[inner] = 0
    return numbered


def flooded(depths: np.ndarray, places: np.ndarray, seeds: Seeds, allowed: np.ndarray | None) -> np.ndarray:
    """Flood from the seeds through `allowed` (6-connected; None: everywhere), greatest depth first; uint64 labels.

    `depths` holds integers from 0; `places` and `seeds` are those of :func:`numbered_seeds`. Of equally deep voxels
    that reached first is flooded first, seeds in the order of their voxels; behind a pass a voxel counts as no deeper
    than the pass. Voxels that no seed reaches stay 0.
    """
    shape = depths.shape
    slab = (shape[0] // len(seeds), *shape[1:])
    last = np.cumsum([0, *(count for _, count in seeds)])
    labels = np.empty(shape, np.uint64)
    split = _by_slab(places, shape, slab)
    share(_flood_slabs, len(seeds), depths, split, seeds, last, contiguous(allowed), labels)
    return labels


def _flood_slabs(
    start: int,
    stop: int,
    depths: np.ndarray,
    places: list[np.ndarray],
    seeds: Seeds,
    last: np.ndarray,
    allowed: np.ndarray,
    labels: np.ndarray,
) -> None:
    slab = (len(depths) // len(seeds), *depths.shape[1:])
    state = _state(slab)
    for k in range(start, stop):
        part = slice(k * slab[0], (k + 1) * slab[0])
        share(fill_state, slab[0], depths[part], allowed[part], state)
        _flood_one(state, depths[part], places[k], seeds[k][0])
        share(read_labels, slab[0], state, last[k], labels[part])


def _flood_one(state: np.ndarray, depths: np.ndarray, places: np.ndarray, seeds: np.ndarray) -> None:
    """Flood one slab. Its queues are released on return: they and the labels are never held at once."""
    inner = _inner(places, depths.shape, state)
    flat = state.reshape(-1)
    flat[inner] = seeds
    z, y, x = _strides(state)
    steps = np.array([-z, -y, -x, x, y, z] if len(depths) > 1 else [-y, -x, x, y])
    queue = np.empty(depths.size, inner.dtype)
    flood(flat, inner, depths.reshape(-1)[places].astype(np.int64), steps, int(depths.max()), queue)


def _slab(shape: tuple[int, int, int], per_section: bool) -> tuple[int, int, int]:
    return (1, *shape[1:]) if per_section else shape


def _by_slab(places: np.ndarray, shape: tuple[int, int, int], slab: tuple[int, int, int]) -> list[np.ndarray]:
    """Places in the volume as places in each slab."""
    first = np.arange(0, int(np.prod(shape)), int(np.prod(slab)))
    parts = np.split(places, np.searchsorted(places, first[1:]))
    return [part - start for part, start in zip(parts, first, strict=True)]


def _state(slab: tuple[int, int, int]) -> np.ndarray:
    """One voxel more on all sides than the slab."""
    return np.zeros([size + 2 for size in slab], np.int32)


def _strides(volume: np.ndarray) -> tuple[int, int, int]:
    return volume.shape[1] * volume.shape[2], volume.shape[2], 1


def _inner(places: np.ndarray, slab: tuple[int, int, int], state: np.ndarray) -> np.ndarray:
    """Flat indices in a slab as flat indices in its state; int32 where they fit, for the queues are as long as it."""
    z, y, x = np.unravel_index(places, slab)
    inner = np.ravel_multi_index((z + 1, y + 1, x + 1), state.shape)
    return inner.astype(np.int32 if state.size < 2**31 else np.int64)
