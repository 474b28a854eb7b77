"""Volumes as the browser asks for them: a chunk is read from its file, and nothing is kept."""

import zlib
from collections.abc import Callable
from io import BytesIO
from itertools import product
from typing import TYPE_CHECKING, Any

import neuroglancer
import numpy as np
from neuroglancer.local_volume import LocalVolume
from numpy.typing import DTypeLike

from segkit.data import Grid, MergeTree
from segkit.errors import SegkitError
from segkit.io import RegionSource
from segkit.segment.uncertainty import own_leaves

if TYPE_CHECKING:
    from neuroglancer._neuroglancer import OnDemandObjectMeshGenerator

PIECE = 64
"""Edge of the boxes that are read for a coarse chunk, in voxels."""
CHUNK = 18
"""log2 of the voxels of a chunk: 64 cubed."""
MESHED = 2**24
"""Voxels of the coarse volume that meshes are made of, at most."""
METERS = 1e-9
"""In a nanometer."""

Values = Callable[[np.ndarray], np.ndarray]


class Served(LocalVolume):
    """A volume that neuroglancer shows, read from its file chunk by chunk, in several resolutions.

    `values` turns what was read into what is shown, (Z, Y, X) or (C, Z, Y, X); labels are thinned out where they are
    shown coarsely, images averaged. No more than a chunk is in memory at any time, but for meshes, which are made of
    the whole volume at the resolution of `MESHED` voxels when the first is asked for.
    """

    def __init__(
        self, source: RegionSource, values: Values, dtype: DTypeLike, *, channels: int = 0, labels: bool = False
    ) -> None:
        self.source, self.values, self.channels = source, values, channels
        self.complain: Callable[[str], None] = lambda problem: None
        """Is told why a chunk could not be read."""
        self._mesh_generator: Any = None
        shape = (*([channels] if channels else []), *source.shape)
        grid = source.grid
        self.offset, self.remainder = whole_voxels(grid)
        super().__init__(
            _Described(shape, np.dtype(dtype)),
            dimensions=dimensions_of(grid, channels),
            volume_type="segmentation" if labels else "image",
            voxel_offset=([0] if channels else []) + self.offset,
            encoding="npz" if labels else "raw",  # images hardly get smaller, and to try takes time
            max_voxels_per_chunk_log2=CHUNK - (2 if channels else 0),
        )

    def get_encoded_subvolume(
        self, data_format: str, start: np.ndarray, end: np.ndarray, scale_key: str
    ) -> tuple[bytes, str]:
        """A chunk as neuroglancer's page asks for it: bytes, the first axis fastest, or of labels a compressed .npy."""
        factor = np.array(scale_key.split(","), np.int64)
        sizes = -(-np.array(self.shape) // factor)
        inside = (factor >= 1).all() and (start >= 0).all() and (start <= end).all() and (end <= sizes).all()
        if data_format != self.encoding or not inside:
            raise ValueError("no such chunk")
        skipped = 1 if self.channels else 0
        try:
            chunk = self.coarse(factor[skipped:], start[skipped:], end[skipped:])
        except (SegkitError, OSError) as error:
            self.complain(str(error))
            raise ValueError("this chunk cannot be read") from error  # what the server answers without a traceback
        kind = "application/octet-stream"
        if data_format == "raw":
            return chunk.tobytes("F"), kind
        data = BytesIO()
        np.save(data, np.asfortranarray(chunk))
        return zlib.compress(data.getvalue(), 1), kind

    def coarse(self, factor: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The box start..end of the volume at a resolution that is coarser by `factor`, int64 (3,), along z, y, x."""
        channels = (self.channels,) if self.channels else ()
        result = np.empty((*channels, *(end - start).tolist()), self.data.dtype)
        thinned = striding if self.volume_type == "segmentation" else averaging
        piece = np.maximum(PIECE // factor, 1)
        ranges = (range(int(a), int(b), int(p)) for a, b, p in zip(start, end, piece, strict=True))
        for corner in map(np.array, product(*ranges)):
            stop = np.minimum(corner + piece, end)
            read = self.source.read(_box(corner * factor, np.minimum(stop * factor, self.source.shape)))
            z, y, x = _box(corner - start, stop - start)
            result[..., z, y, x] = thinned(self.values(read), factor)
        return result

    def overview(self) -> tuple[np.ndarray, np.ndarray]:
        """The whole volume, so coarse that it has at most `MESHED` voxels, and by what factors, int64 (3,)."""
        factor, size = np.ones(3, np.int64), np.array(self.source.grid.voxel_size)
        while np.prod(-(-np.array(self.source.shape) // factor)) > MESHED:
            factor[np.argmin(size * factor)] *= 2
        return self.coarse(factor, np.zeros(3, np.int64), -(-np.array(self.source.shape) // factor)), factor

    def _get_mesh_generator(self) -> "OnDemandObjectMeshGenerator":
        with self._mesh_generator_lock:
            if self._mesh_generator is None:
                self._mesh_generator = self._generator()
            return self._mesh_generator

    def _generator(self) -> "OnDemandObjectMeshGenerator":
        from neuroglancer import _neuroglancer

        volume, factor = self.overview()
        size = np.array(self.source.grid.voxel_size) * factor * METERS
        centre = np.full(3, 0.5)  # it takes a voxel for the point at its first corner
        return _neuroglancer.OnDemandObjectMeshGenerator(volume.T, size, centre)


class _Described:
    """Shape and type of what is never here as a whole."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype


class Cut:
    """Fragments -> the segments of a merge tree at a threshold that may change: a look-up."""

    def __init__(self, tree: MergeTree, threshold: float) -> None:
        self.tree = tree
        self.threshold = threshold

    @property
    def threshold(self) -> float:
        """Merges of a lower altitude are done."""
        return self._threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        self._threshold, self.segments = threshold, self.tree.cut(threshold)

    def __call__(self, fragments: np.ndarray) -> np.ndarray:
        """The segments of an array of fragments; 0 and what is outside stay. Raises InvalidInput for other ids."""
        segments = self.segments
        leaves, known = own_leaves(self.tree, fragments)
        return np.where(known, segments[leaves], fragments) if len(segments) else fragments


def averaging(array: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Means over boxes of `factor` voxels along the last three axes, those at the end of fewer; in the same dtype."""
    wide = np.float32 if array.itemsize < 4 else np.float64
    means: np.ndarray = array
    for axis, step in zip((-1, -2, -3), factor[::-1].tolist(), strict=True):
        if step == 1:
            continue
        moved = np.moveaxis(means, axis, 0)
        sums: Any = moved[::step].astype(wide)
        for start in range(1, step):  # by strides: far faster than to reduce short axes
            part = moved[start::step]
            sums[: len(part)] += part
        counts = np.minimum(step, len(moved) - step * np.arange(len(sums))).astype(wide)
        means = np.moveaxis(sums / counts.reshape(-1, *[1] * (array.ndim - 1)), 0, axis)
    return means.astype(array.dtype) if array.dtype.kind == "f" else np.rint(means).astype(array.dtype)


def striding(array: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The first voxel of each box of `factor` voxels along the last three axes."""
    z, y, x = factor.tolist()
    return array[..., ::z, ::y, ::x]


def _box(start: np.ndarray, stop: np.ndarray) -> tuple[slice, slice, slice]:
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x


def whole_voxels(grid: Grid) -> tuple[list[int], list[float]]:
    """The offset of a grid as whole voxels z, y, x, and what is left over, as a part of a voxel, -0.5..0.5."""
    exact = np.array(grid.offset) / np.array(grid.voxel_size)
    whole = np.rint(exact)
    left = exact - whole
    return whole.astype(int).tolist(), np.where(np.abs(left) < 1e-3, 0, left).tolist()


def dimensions_of(grid: Grid, channels: int = 0) -> neuroglancer.CoordinateSpace:
    """The axes of a volume, as neuroglancer names them."""
    names, units, scales = ["z", "y", "x"], ["m"] * 3, [size * METERS for size in grid.voxel_size]
    if channels:
        names, units, scales = ["c^", *names], ["", *units], [1, *scales]
    return neuroglancer.CoordinateSpace(names=names, units=units, scales=scales)
