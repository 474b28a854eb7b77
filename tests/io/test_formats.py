"""Every format that is read: by blocks, converted and named as any other."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from segkit import io
from segkit.data import Grid
from segkit.errors import InvalidInput
from segkit.io.formats import ALL, suffix_of
from tests.io.format_checks import OFFSET, VOXEL, WRITERS, some, write_n5, write_npz, write_numpy, write_zip

WORDS = ["--voxel-size", *map(str, VOXEL), "--offset", *map(str, OFFSET)]

UNORDERED = (write_numpy, write_npz, write_n5, write_zip)
"""Those that state no axes."""


@pytest.mark.parametrize("write", WRITERS)
def test_convert_reads_it(tmp_path, segkit, write):
    address = write(tmp_path, some("u2"))
    words = [*WORDS, "--axes", "zyx"] if write in UNORDERED else WORDS
    result = segkit("convert", f"{address}[z=1:4]", tmp_path / "raw.h5", "--kind", "raw", *words)
    assert result.exit_code == 0, result.stderr
    found = io.read_volume(tmp_path / "raw.h5")
    np.testing.assert_array_equal(found.array, some("u2")[1:4])
    assert found.grid.same_voxel_size(Grid(VOXEL))
    result = segkit("convert", address, tmp_path / "ids.zarr", "--kind", "truth", *words)
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(io.read_labels(tmp_path / "ids.zarr").array, some("u8"))


@pytest.mark.filterwarnings("ignore::segkit.errors.SegkitWarning")
@pytest.mark.parametrize("write", WRITERS)
def test_a_handle_travels(tmp_path, write):
    source = pickle.loads(pickle.dumps(io.RegionSource(write(tmp_path, some("u2")), "raw")))
    np.testing.assert_array_equal(source.read((slice(1, 3), slice(2, 6), slice(0, 5))), some("u2")[1:3, 2:6, :5])
    assert source.identity == io.RegionSource(source.address, "raw").identity


@pytest.mark.parametrize("name", [f"a{suffix}" for suffix in ALL if suffix not in (".h5", ".hdf", ".hdf5", ".zarr")])
def test_what_holds_no_containers_is_not_written(tmp_path, name):
    with pytest.raises(InvalidInput, match=r"must end in \.h5, \.hdf, \.hdf5, \.zarr or \.ome\.zarr"):
        io.check_writable(tmp_path / name, "segmentation")


def test_unknown_formats_are_told_what_is_known(tmp_path):
    (tmp_path / "a.dm3").write_text("x")
    with pytest.raises(
        InvalidInput, match=r"must end in \.h5, .*\.nii\.gz, .* or be a folder of sections, N5, webKnossos"
    ):
        io.read_volume(tmp_path / "a.dm3")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.NII.GZ", ".nii.gz"), ("a.b.nii", ".nii"), ("a.zarr.zip", ".zip"), ("a", ""), ("a.gz", ".gz")],
)
def test_suffixes(tmp_path, name, suffix):
    assert suffix_of(tmp_path / name) == suffix


def write_pages(folder, array):
    """A TIFF stack, of which the pages lie one behind the other."""
    tifffile.imwrite(folder / "a.tif", array)
    return f"{folder / 'a.tif'}"


def write_packed_pages(folder, array):
    """A TIFF stack of which the pages are compressed."""
    tifffile.imwrite(folder / "a.tif", array, compression="zlib")
    return f"{folder / 'a.tif'}"


@pytest.mark.filterwarnings("ignore::segkit.errors.SegkitWarning")
@pytest.mark.parametrize("write", [*WRITERS, write_pages, write_packed_pages])
def test_many_threads_read_at_once(tmp_path, write):
    rng = np.random.default_rng(0)
    expected = rng.integers(0, 2**16, (40, 50, 60)).astype(np.uint16)
    starts = [[int(rng.integers(0, size - 1)) for size in expected.shape] for _ in range(30)]
    boxes = [tuple(slice(at, size) for at, size in zip(start, expected.shape, strict=True)) for start in starts]
    source = io.RegionSource(write(tmp_path, expected), "raw")
    with ThreadPoolExecutor(8) as threads:
        for box, found in zip(boxes, threads.map(source.read, boxes), strict=True):
            np.testing.assert_array_equal(found, expected[box])
