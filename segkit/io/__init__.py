"""Files: HDF5 in the layout of CREMI and Zarr v3 with OME-Zarr 0.5 metadata, at addresses ``PATH:DATASET[crop]``.

Nothing is written in place: see :func:`write`. h5py and zarr are imported when a file of that format is touched.
"""

from segkit.io.address import ROLES, Address, parse_address
from segkit.io.files import (
    check_writable,
    exists,
    read_affinities,
    read_labels,
    read_mask,
    read_merge_tree,
    read_volume,
    shape_of,
    write,
    write_all,
)

__all__ = [
    "ROLES",
    "Address",
    "check_writable",
    "exists",
    "parse_address",
    "read_affinities",
    "read_labels",
    "read_mask",
    "read_merge_tree",
    "read_volume",
    "shape_of",
    "write",
    "write_all",
]
