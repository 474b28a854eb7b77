"""Writes one small volume as the tools of the field do, each by its own library: ``python dialect_files.py FOLDER``.

The files in golden/dialects were made by it. They are of made-up numbers, so that nobody's licence is touched.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4) * 7
"""Values, z, y, x."""
VOXEL, OFFSET = (40.0, 8.0, 4.0), (400.0, 80.0, 8.0)
"""Nanometers, z, y, x."""
XYZ = np.ascontiguousarray(ARRAY.T)


def xarray_v2(path: Path) -> str:
    """Dimensions in another order, coordinates with units."""
    import xarray

    coordinates = {
        axis: (axis, start + step * np.arange(size), {"units": "nm"})
        for axis, start, step, size in zip("zyx", OFFSET, VOXEL, ARRAY.shape, strict=True)
    }
    data = xarray.Dataset({"raw": (("x", "y", "z"), XYZ)}, coords=coordinates)
    data.to_zarr(str(path / "xarray-v2.zarr"), zarr_format=2, mode="w", consolidated=False)
    return "xarray-v2.zarr:raw"


def xarray_v3(path: Path) -> str:
    """The same as Zarr v3, in micrometers."""
    import xarray

    coordinates = {
        axis: (axis, (start + step * np.arange(size)) / 1000, {"units": "micrometer"})
        for axis, start, step, size in zip("zyx", OFFSET, VOXEL, ARRAY.shape, strict=True)
    }
    data = xarray.Dataset({"raw": (("y", "z", "x"), ARRAY.transpose(1, 0, 2))}, coords=coordinates)
    data.to_zarr(str(path / "xarray-v3.zarr"), zarr_format=3, mode="w", consolidated=False)
    return "xarray-v3.zarr:raw"


def _ome(path: Path, version: str) -> None:
    import zarr
    from ome_zarr import format as formats
    from ome_zarr import writer

    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    steps = [
        {"type": "scale", "scale": [length / 1000 for length in VOXEL]},
        {"type": "translation", "translation": [place / 1000 for place in OFFSET]},
    ]
    kind = formats.FormatV04() if version == "0.4" else formats.FormatV05()
    writer.write_multiscale([ARRAY], group, axes=axes, fmt=kind, coordinate_transformations=[steps])


def ome_04(path: Path) -> str:
    """OME-Zarr 0.4 by ome-zarr-py."""
    _ome(path / "ome-0.4.zarr", "0.4")
    return "ome-0.4.zarr"


def ome_05(path: Path) -> str:
    """OME-Zarr 0.5 by ome-zarr-py."""
    _ome(path / "ome-0.5.zarr", "0.5")
    return "ome-0.5.zarr"


def funlib(path: Path) -> str:
    """funlib.persistence: an array in a store without groups, axes x, y, z."""
    from funlib.persistence import prepare_ds

    store = path / "funlib.zarr/volumes/raw"
    options = {"shape": XYZ.shape, "dtype": XYZ.dtype, "axis_names": list("xyz"), "units": ["nm"] * 3, "mode": "w"}
    prepare_ds(str(store), offset=OFFSET[::-1], voxel_size=VOXEL[::-1], **options)[:] = XYZ
    return "funlib.zarr:volumes/raw"


def neuroglancer(path: Path) -> str:
    """The attributes that neuroglancer and z5 know, by zarr."""
    import zarr

    group = zarr.open_group(str(path / "neuroglancer.zarr"), mode="w", zarr_format=2)
    array = group.create_array("raw", data=XYZ)
    stated = {"axes": ["x", "y", "z"], "units": ["um"] * 3, "resolution": [v / 1000 for v in VOXEL[::-1]]}
    array.attrs.update(stated | {"offset": [place / 1000 for place in OFFSET[::-1]]})
    return "neuroglancer.zarr:raw"


def cosem(path: Path) -> str:
    """The attributes of COSEM's arrays, by zarr."""
    import zarr

    group = zarr.open_group(str(path / "cosem.zarr"), mode="w", zarr_format=2)
    array = group.create_array("em/s0", data=ARRAY)
    transform = {"axes": ["z", "y", "x"], "order": "C", "scale": VOXEL, "translate": OFFSET, "units": ["nm"] * 3}
    array.attrs.update({"transform": transform, "pixelResolution": {"dimensions": VOXEL[::-1], "unit": "nm"}})
    return "cosem.zarr:em/s0"


def cremi(path: Path) -> str:
    """The layout of CREMI."""
    with h5py.File(path / "cremi.h5", "w") as file:
        file.create_dataset("volumes/raw", data=ARRAY).attrs.update({"resolution": VOXEL, "offset": OFFSET})
    return "cremi.h5"


def ilastik(path: Path) -> str:
    """ilastik's export: one channel last, axes as vigra says them, sizes as PlantSeg does."""
    with h5py.File(path / "ilastik.h5", "w") as file:
        data = file.create_dataset("exported_data", data=ARRAY[..., np.newaxis])
        tags = [{"key": key, "typeFlags": 2, "resolution": 0.0, "description": ""} for key in "zyxc"]
        data.attrs["axistags"] = json.dumps({"axes": tags})
        data.attrs["element_size_um"] = [length / 1000 for length in VOXEL]
    return "ilastik.h5:exported_data"


def labelled_dimensions(path: Path) -> str:
    """Labels of HDF5 dimensions."""
    with h5py.File(path / "labels-of-dimensions.h5", "w") as file:
        data = file.create_dataset("raw", data=ARRAY.transpose(0, 2, 1))
        data.attrs["element_size_um"] = [length / 1000 for length in VOXEL]
        for dimension, label in zip(data.dims, "zxy", strict=True):
            dimension.label = label
    return "labels-of-dimensions.h5:raw"


def netcdf(path: Path) -> str:
    """Dimension scales of HDF5, as netCDF 4 has them, with the places of the voxels."""
    with h5py.File(path / "netcdf.h5", "w") as file:
        data = file.create_dataset("em/raw", data=ARRAY.transpose(2, 0, 1))
        for dimension, axis in zip(data.dims, "xzy", strict=True):
            step, start = VOXEL["zyx".index(axis)], OFFSET["zyx".index(axis)]
            scale = file.create_dataset(f"em/{axis}", data=start + step * np.arange(ARRAY.shape["zyx".index(axis)]))
            scale.attrs["units"] = "nm"
            scale.make_scale(axis)
            dimension.attach_scale(scale)
    return "netcdf.h5:em/raw"


def big_data_viewer(path: Path) -> str:
    """HDF5 and XML of BigDataViewer; the second level is half as fine along x and y."""
    with h5py.File(path / "bdv.h5", "w") as file:
        file["s00/resolutions"] = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 1.0]])
        file["t00000/s00/0/cells"] = ARRAY
        file["t00000/s00/1/cells"] = ARRAY[:, ::2, ::2]
    x, y, z = (length / 1000 for length in VOXEL[::-1])
    (path / "bdv.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><SpimData version="0.2"><SequenceDescription><ViewSetups><ViewSetup>'
        f"<id>0</id><size>4 3 2</size><voxelSize><unit>um</unit><size>{x} {y} {z}</size></voxelSize>"
        "</ViewSetup></ViewSetups></SequenceDescription></SpimData>"
    )
    return "bdv.h5:t00000/s00/0/cells"


def imagej(path: Path) -> str:
    """A stack of ImageJ whose z has a unit of its own, by tifffile."""
    import tifffile

    about = {"axes": "ZYX", "spacing": VOXEL[0], "unit": "micron", "zunit": "nm"}
    resolution = (1000 / VOXEL[2], 1000 / VOXEL[1])
    tifffile.imwrite(
        path / "imagej.tif", ARRAY, imagej=True, photometric="minisblack", resolution=resolution, metadata=about
    )
    return "imagej.tif"


def ome_tiff(path: Path) -> str:
    """OME-TIFF, by tifffile."""
    import tifffile

    about = {"axes": "ZYX", "PhysicalSizeZ": VOXEL[0], "PhysicalSizeZUnit": "nm"}
    about |= {"PhysicalSizeY": VOXEL[1] / 1000, "PhysicalSizeX": VOXEL[2] / 1000}
    tifffile.imwrite(path / "ome.ome.tif", ARRAY, ome=True, photometric="minisblack", metadata=about)
    return "ome.ome.tif"


WRITERS: dict[str, Callable[[Path], str]] = {
    function.__name__: function
    for function in (
        xarray_v2,
        xarray_v3,
        ome_04,
        ome_05,
        funlib,
        neuroglancer,
        cosem,
        cremi,
        ilastik,
        labelled_dimensions,
        netcdf,
        big_data_viewer,
        imagej,
        ome_tiff,
    )
}
"""Name -> what writes into a folder and gives the address of the volume in it."""
PLACED = ("xarray_v2", "xarray_v3", "ome_04", "ome_05", "funlib", "neuroglancer", "cosem", "cremi", "netcdf")
"""Those that say where the volume lies; the others say how large voxels are."""

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    addresses = {name: writer(folder) for name, writer in WRITERS.items()}
    (folder / "addresses.json").write_text(json.dumps(addresses, indent=2) + "\n")
