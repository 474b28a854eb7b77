"""Flooding from seeds, of a whole volume or of each section."""

import numpy as np
from numpy.typing import DTypeLike

from segkit.fragment._distance import deepest
from segkit.fragment._kernels_flood import fill_state, flood, flood_sections, join_peaks, read_labels
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
    last = np.cumsum([0, *(count for _, count in seeds)])
    labels = np.empty(depths.shape, np.uint64)
    most = max(deepest(depths) + 1, *(count for _, count in seeds))
    dtype = np.dtype(np.int16 if most <= np.iinfo(np.int16).max else np.int32)
    if len(seeds) == len(depths):
        firsts = np.cumsum([0, *(len(given) for given, _ in seeds)])
        numbers = np.concatenate([given for given, _ in seeds])
        of_sections = (places % depths[0].size, numbers, firsts, last)
        share(_flood_sections, len(depths), depths, contiguous(allowed), of_sections, dtype, labels)
    else:
        state = _state(depths.shape, dtype)
        share(fill_state, len(depths), depths, contiguous(allowed), state[1:-1])
        _flood_volume(state, depths, places, seeds[0][0])
        share(read_labels, len(depths), state[1:-1], last[0], labels)
    return labels


def _flood_sections(
    start: int,
    stop: int,
    depths: np.ndarray,
    allowed: np.ndarray,
    seeds: tuple[np.ndarray, ...],
    dtype: DTypeLike,
    labels: np.ndarray,
) -> None:
    state = _state(depths[:1].shape, dtype)[1:-1]
    queue = np.empty(depths[0].size, _index_type(state))
    flood_sections(start, stop, depths, allowed, seeds, state, queue, labels)


def _flood_volume(state: np.ndarray, depths: np.ndarray, places: np.ndarray, seeds: np.ndarray) -> None:
    """Flood all of it. Its queues are released on return: they and the labels are never held at once."""
    inner = _inner(places, depths.shape, state)
    flat = state.reshape(-1)
    flat[inner] = seeds
    z, y, x = _strides(state)
    queue = np.empty(depths.size, inner.dtype)
    deep = depths.reshape(-1)[places].astype(np.int64)
    flood(flat, inner, deep, (-z, -y, -x, x, y, z), deepest(depths), queue)


def _slab(shape: tuple[int, int, int], per_section: bool) -> tuple[int, int, int]:
    return (1, *shape[1:]) if per_section else shape


def _by_slab(places: np.ndarray, shape: tuple[int, int, int], slab: tuple[int, int, int]) -> list[np.ndarray]:
    """Places in the volume as places in each slab."""
    first = np.arange(0, int(np.prod(shape)), int(np.prod(slab)))
    parts = np.split(places, np.searchsorted(places, first[1:]))
    return [part - start for part, start in zip(parts, first, strict=True)]


def _state(slab: tuple[int, int, int], dtype: DTypeLike = np.int32) -> np.ndarray:
    """One voxel more on all sides than the slab."""
    return np.zeros([size + 2 for size in slab], dtype)


def _strides(volume: np.ndarray) -> tuple[int, int, int]:
    return volume.shape[1] * volume.shape[2], volume.shape[2], 1


def _inner(places: np.ndarray, slab: tuple[int, int, int], state: np.ndarray) -> np.ndarray:
    """Flat indices in a slab as flat indices in its state."""
    z, y, x = np.unravel_index(places, slab)
    inner = np.ravel_multi_index((z + 1, y + 1, x + 1), state.shape)
    return inner.astype(_index_type(state))


def _index_type(state: np.ndarray) -> DTypeLike:
    """The dtype of flat indices: int32 where they fit, for the queues are as long as the state."""
    return np.int32 if state.size < 2**31 else np.int64
