"""NIfTI (.nii, .nii.gz), through nibabel (`pip install 'segkit-em[nifti]'`).

The format stores x, y, z, then times, then channels. Where the voxels lie is what the sform says, else the qform, else
the voxel sizes alone. Values that the file scales are read as floats, and are no labels.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import InvalidInput, sentence
from segkit.io.atomic import storage_errors
from segkit.io.dialects import nanometers_along
from segkit.io.directions import placed_along
from segkit.io.placement import Placement
from segkit.io.records import About, Stored
from segkit.io.single import OneVolume, library, parts_of

AXES = "xyztc"


@contextmanager
def reading(path: Path, options: Mapping[str, str]) -> Iterator[OneVolume]:
    """The volume, open for reading; there are no `options`."""
    nibabel = library("nibabel", "NIfTI", "nifti")
    with storage_errors("read", path):
        image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise InvalidInput(sentence(f"{path}", "must be a NIfTI file", type(image).__name__, "name another file"))
    yield OneVolume(_stored(path, image), "a NIfTI file")


def _stored(path: Path, image: Any) -> Stored:
    values, shape = image.dataobj, tuple(map(int, image.shape))
    if not 2 <= len(shape) <= len(AXES):
        raise InvalidInput(sentence(f"{path}", "must have the axes x, y, z, t, c or the first of them", shape))
    scaled = (values.slope, values.inter) != (1, 0)
    read = parts_of(path, lambda: values)
    dtype = np.dtype(np.float64) if scaled else values.dtype
    axes = AXES[: len(shape)]
    placement = replace(_placement(image), axes=axes) if len(shape) < 3 else _placement(image)
    placement = replace(placement, axes=(placement.axes or "xyz")[:3] + axes[3:]) if len(shape) > 3 else placement
    return Stored(shape, lambda part: read(part).astype(dtype, copy=False), About(), placement, dtype)


def _placement(image: Any) -> Placement:
    """Where the voxels lie, of the first three axes."""
    header = image.header
    unit = header.get_xyzt_units()[0]
    units = [None if unit == "unknown" else unit] * 3
    if header["sform_code"] > 0 or header["qform_code"] > 0:
        affine = np.asarray(image.affine, float)
        return placed_along(affine[:3, :3].T, affine[:3, 3].tolist(), units)
    sizes = [abs(float(size)) for size in header["pixdim"][1:4]]
    return nanometers_along("xyz", sizes, units, None)
