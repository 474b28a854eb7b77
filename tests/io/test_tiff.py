"""TIFF stacks: what tifffile wrote on its own is read, and what is written is read by tifffile and Pillow."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from segkit import io
from segkit.data import Grid, Volume
from segkit.errors import InvalidInput, MissingDataset, MissingFile, SegkitWarning, StorageError
from segkit.io.records import Record
from segkit.io.sections import section_files
from segkit.io.tiff import write


def stack(shape=(5, 6, 7), dtype="u1", seed=0):
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def blocks(array, step=2):
    cuts = range(0, len(array), step)
    parts = ((slice(z, min(z + step, len(array))), slice(None), slice(None)) for z in cuts)
    return io.Blocks(array.shape, array.dtype, ((part, array[part]) for part in parts))


ATTRIBUTES = {"kind": "volume", "format_version": 1, "resolution": [40.0, 4.0, 4.5], "offset": [80.0, 0.0, 9.0]}


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (5, 1, 7), (1, 1, 2)])
def test_what_is_written(tmp_path, dtype, shape):
    array, path = stack(shape, dtype), tmp_path / "a.tif"
    io.write_blocks(path, "raw", blocks(array), ATTRIBUTES | {"unit": "nm"})
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == shape[0]
        pages = np.stack([page.asarray().reshape(shape[1:]) for page in file.pages])
    np.testing.assert_array_equal(pages, array)
    found = io.read_volume(path)
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == dtype and found.grid == Grid((40, 4, 4.5), (80, 0, 9))


def test_pillow_reads_it(tmp_path):
    array = stack()
    io.write_blocks(tmp_path / "a.tiff", "raw", blocks(array), ATTRIBUTES)
    with Image.open(tmp_path / "a.tiff") as image:
        for z in range(5):
            image.seek(z)
            np.testing.assert_array_equal(np.asarray(image), array[z])


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}])
def test_a_crop(tmp_path, options):
    array, path = stack((6, 40, 50), "u2"), tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="minisblack", **options)
    with pytest.warns(SegkitWarning, match="resolution"):
        found = io.read_volume(f"{path}[2:5,3:,:20]")
    np.testing.assert_array_equal(found.array, array[2:5, 3:, :20])
    assert io.shape_of(path, "raw") == (6, 40, 50)


def test_a_file_made_by_hand(tmp_path):
    """Two pages of 2 x 3 bytes, little-endian, one strip each."""
    pages = [bytes([1, 2, 3, 4, 5, 6]), bytes([7, 8, 9, 10, 11, 12])]
    content, where = b"II*\0" + struct.pack("<I", 8), 8
    for number, page in enumerate(pages):
        tags = [(256, 3), (257, 2), (258, 8), (259, 1), (262, 1), (273, where + 2 + 9 * 12 + 4), (277, 1)]
        tags += [(278, 2), (279, 6)]
        following = where + 2 + 9 * 12 + 4 + 6
        content += struct.pack("<H", len(tags)) + b"".join(
            struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
        )
        content += struct.pack("<I", 0 if number else following) + page
        where = following
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.warns(SegkitWarning):
        found = io.read_volume(tmp_path / "a.tif")
    assert found.array.tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]


def test_voxel_sizes_of_imagej_and_ome(tmp_path):
    imagej = {"spacing": 0.04, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", stack(), imagej=True, resolution=(250.0, 200.0), metadata=imagej)
    assert io.read_volume(tmp_path / "a.tif").grid.same_voxel_size(Grid((40, 5, 4)))
    ome = {
        "axes": "ZYX",
        "PhysicalSizeZ": 40,
        "PhysicalSizeZUnit": "nm",
        "PhysicalSizeY": 0.005,
        "PhysicalSizeX": 0.004,
    }
    tifffile.imwrite(tmp_path / "b.ome.tif", stack(), ome=True, metadata=ome)
    assert io.read_volume(tmp_path / "b.ome.tif").grid.same_voxel_size(Grid((40, 5, 4)))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "b.ome.tif").array, stack())


def test_spacing_of_imagej_that_is_negative_or_zero(tmp_path):
    for spacing in (-40, 0):
        about = {"spacing": spacing, "unit": "nm", "axes": "ZYX"}
        tifffile.imwrite(tmp_path / f"{spacing}.tif", stack(), imagej=True, resolution=(0.25, 0.25), metadata=about)
    assert io.read_volume(tmp_path / "-40.tif").grid.voxel_size == (40, 4, 4)
    with pytest.raises(InvalidInput, match="voxel_size must be positive along z, y and x"):
        io.read_volume(tmp_path / "0.tif")


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_imagej_sees_the_voxel_size(tmp_path, dtype):
    path = tmp_path / "a.tif"
    record = Record(stack().astype(dtype), {"resolution": [40.0, 5.0, 4.0], "offset": [80.0, 0.0, 8.0], "unit": "nm"})
    write(path, {"volumes/raw": record})
    with tifffile.TiffFile(path) as file:
        tags, about = file.pages.first.tags, file.imagej_metadata
        assert (about["spacing"], about["unit"], file.series[0].axes) == (40, "nm", "ZYX")
        for name, size in (("XResolution", 4), ("YResolution", 5)):
            number, divisor = tags[name].value
            assert divisor / number == pytest.approx(size)
    found = io.read_volume(path)
    np.testing.assert_array_equal(found.array, stack().astype(dtype))
    assert found.grid == Grid((40, 5, 4), (80, 0, 8))


@pytest.mark.parametrize("name", ["a.ome.tif", "A.OME.TIFF"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (5, 1, 7)])
def test_readers_of_ome_see_the_voxel_size(tmp_path, name, dtype, shape):
    path, array = tmp_path / name, stack(shape, dtype)
    io.write_blocks(path, "raw", blocks(array), ATTRIBUTES | {"unit": "nm"})
    with tifffile.TiffFile(path) as file:
        assert file.is_ome and not file.is_imagej
        assert file.series[0].get_axes(squeeze=False)[-3:] == "ZYX" or file.series[0].axes in ("ZYX", "YX")
        about = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        np.testing.assert_array_equal(file.asarray().reshape(shape), array)
    assert [about[f"Size{axis}"] for axis in "ZYX"] == list(shape)
    assert [about[f"PhysicalSize{axis}"] for axis in "ZYX"] == [40, 4, 4.5]
    assert {about[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"nm"}
    found = io.read_volume(path)
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == dtype and found.grid == Grid((40, 4, 4.5), (80, 0, 9))
    with pytest.raises(InvalidInput, match="must be of kind labels, not volume"):
        io.read_labels(path)


def test_ome_has_no_such_dtype(tmp_path):
    with pytest.raises(InvalidInput, match=r"as OME-TIFF must be of dtype uint8, .* not uint64; choose one by --dtype"):
        io.write_blocks(tmp_path / "a.ome.tif", "raw", blocks(stack(dtype="u8")), ATTRIBUTES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [{"spacing": 40}, {"unit": "nm"}, {"unit": "pixel", "spacing": 40}])
def test_half_a_voxel_size_is_none(tmp_path, part):
    tifffile.imwrite(
        tmp_path / "a.tif", stack(), imagej=True, resolution=(250.0, 200.0), metadata=part | {"axes": "ZYX"}
    )
    with pytest.warns(SegkitWarning, match="resolution|nanometers"):
        io.read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros((4, 6, 7, 3), "u1"), {"photometric": "rgb"}, r"3 channels; pick one as ADDRESS\[c=0\]"),
        (np.zeros((4, 2, 6, 7), "u1"), {"imagej": True, "metadata": {"axes": "ZCYX"}}, r"2 channels; pick one"),
        (
            np.zeros((4, 6, 7), "u1"),
            {"imagej": True, "metadata": {"axes": "TYX"}},
            r"must include each of z, y, x once",
        ),
    ],
)
def test_what_is_no_stack(tmp_path, array, options, message):
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with pytest.raises(InvalidInput, match=message):
        io.read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(("shape", "message"), [((5, 6, 1), "wider than one voxel"), ((2, 5, 6, 7), "axes z, y, x")])
def test_what_cannot_be_written(tmp_path, shape, message):
    with pytest.raises(InvalidInput, match=message):
        io.write_blocks(tmp_path / "a.tif", "raw", io.Blocks(shape, np.dtype("u1"), []), ATTRIBUTES)
    assert not list(tmp_path.iterdir())


def test_pages_of_two_sizes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((5, 6), "u1"))
        file.write(np.zeros((5, 7), "u1"))
    with pytest.raises(InvalidInput, match="one size"):
        io.read_volume(tmp_path / "a.tif")


def test_damaged_and_foreign_files(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack((5, 60, 70)), photometric="minisblack")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[:9000])
    (tmp_path / "b.tif").write_text("hello")
    with pytest.warns(SegkitWarning), pytest.raises(StorageError, match=r"a\.tif"):
        io.read_volume(tmp_path / "a.tif")
    with pytest.raises(InvalidInput, match="must be a TIFF file"):
        io.read_volume(tmp_path / "b.tif")
    with pytest.raises(MissingDataset, match="has no dataset 'volumes/raw'"):
        io.read_volume(f"{tmp_path}/a.tif:volumes/raw")
    with pytest.raises(InvalidInput, match="segkit convert"):
        io.write(tmp_path / "c.tif", Volume(stack(), Grid()))


@pytest.fixture
def folder(tmp_path):
    """Writes sections under names."""

    def make(names, array):
        (tmp_path / "sections").mkdir()
        for name, section in zip(names, array, strict=True):
            tifffile.imwrite(tmp_path / "sections" / name, section)
        (tmp_path / "sections" / "notes.txt").write_text("not a section")
        return tmp_path / "sections"

    return make


@pytest.mark.parametrize("pattern", ["s{}.tif", "s{:04d}.tiff", "w1_z{}_x02.TIF"])
def test_a_folder_in_natural_order(folder, pattern):
    array = stack((12, 4, 5), "u2")
    path = folder([pattern.format(z + 8) for z in range(12)], array)
    with pytest.warns(SegkitWarning, match="resolution"):
        np.testing.assert_array_equal(io.read_volume(path).array, array)
        np.testing.assert_array_equal(io.read_volume(f"{path}[1:3,:,2:]").array, array[1:3, :, 2:])


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["s08.tif", "s09.tif", "s11.tif"], MissingFile, r"sections/s10.tif is missing"),
        (["s8.tif", "s9.tif", "s11.tif"], MissingFile, r"sections/s10.tif is missing"),
        (["a1.tif", "b2.tif", "c3.tif"], InvalidInput, "differ in one number only"),
        (["a1_1.tif", "a2_2.tif", "a3_3.tif"], InvalidInput, "differ in one number only"),
        (["a1.tif", "a2.tif", "b.tif"], InvalidInput, "differ in one number only"),
        (["a1.tif", "a01.tif", "a2.tif"], InvalidInput, "section 1 twice"),
    ],
)
def test_what_is_no_folder_of_sections(folder, names, error, message):
    path = folder(names, stack((3, 4, 5)))
    with pytest.raises(error, match=message):
        section_files(path)


def test_a_section_of_another_size(folder):
    path = folder(["s1.tif", "s2.tif"], [np.zeros((4, 5), "u1"), np.zeros((4, 6), "u1")])
    with pytest.warns(SegkitWarning), pytest.raises(InvalidInput, match=r"s2.tif must be one section of 4 x 5 uint8"):
        io.read_volume(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["YZX", "XYZ", "ZXY"])
def test_axes_that_tifffile_wrote_are_followed(tmp_path, order, compression):
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    stored = array.transpose(["ZYX".index(axis) for axis in order])
    metadata = {"axes": order}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", compression=compression, metadata=metadata)
    with pytest.warns(SegkitWarning, match="no attribute `resolution`"):
        found = io.read_volume(path).array
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("imagej", [True, False])
def test_a_stack_that_was_cut_off_is_refused(tmp_path, imagej):
    path = tmp_path / "a.tif"
    pages = np.zeros((6, 16, 32), np.uint8)
    if imagej:
        tifffile.imwrite(path, pages, imagej=True, photometric="minisblack", metadata={"axes": "ZYX"})
    else:
        tifffile.imwrite(path, pages, tile=(16, 16), compression="zlib", photometric="minisblack")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(StorageError, match=r"a\.tif is cut off: it names pages after the first \d"):
        io.read_volume(path)
