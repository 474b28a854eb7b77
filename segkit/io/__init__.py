"""Files: HDF5 in the layout of CREMI and Zarr v3 with OME-Zarr 0.5 metadata, at addresses ``PATH:DATASET[crop]``.

TIFF stacks and neuroglancer precomputed volumes are read as well; they are written by :func:`write_blocks` alone. What
else is read is listed in :data:`segkit.io.formats.READ`.
Nothing is written in place: see :func:`write`. The libraries are imported when a file of that format is touched.
"""

from segkit.io.address import ROLES, Address, parse_address, part_for, parts_of
from segkit.io.cached import CachedSource, ChunkCache
from segkit.io.lookup import (
    datasets,
    exists,
    fragments_of,
    holds_one,
    matching,
    named,
    opened,
    read_notes,
    shape_of,
    states_voxel_size,
    takes_name,
)
from segkit.io.reader import (
    Reader,
    RegionSource,
    open_volume,
    read_affinities,
    read_labels,
    read_mask,
    read_merge_tree,
    read_volume,
)
from segkit.io.records import Blocks, Stored
from segkit.io.writer import (
    Form,
    Output,
    Target,
    check_target,
    check_writable,
    write,
    write_affinities,
    write_all,
    write_blocks,
)

__all__ = [
    "ROLES",
    "Address",
    "Blocks",
    "CachedSource",
    "ChunkCache",
    "Form",
    "Output",
    "Reader",
    "RegionSource",
    "Stored",
    "Target",
    "check_target",
    "check_writable",
    "datasets",
    "exists",
    "fragments_of",
    "holds_one",
    "matching",
    "named",
    "open_volume",
    "opened",
    "parse_address",
    "part_for",
    "parts_of",
    "read_affinities",
    "read_labels",
    "read_mask",
    "read_merge_tree",
    "read_notes",
    "read_volume",
    "shape_of",
    "states_voxel_size",
    "takes_name",
    "write",
    "write_affinities",
    "write_all",
    "write_blocks",
]
