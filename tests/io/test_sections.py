"""Folders of sections, written by Pillow, scikit-image and by hand. TIFF sections: test_tiff.py."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from skimage.io import imsave

from segkit import io
from segkit.errors import InvalidInput, MissingFile, SegkitWarning, StorageError
from segkit.io.formats import module_of
from tests.io.format_checks import some

pytestmark = pytest.mark.filterwarnings("ignore:.*no attribute `resolution`:segkit.errors.SegkitWarning")


def save(folder, sections, pattern="s{}.png", first=8, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for number, section in enumerate(sections):
        Image.fromarray(section).save(folder / pattern.format(number + first), **options)
    return folder


@pytest.mark.parametrize("pattern", ["s{}.png", "s{:04d}.PNG", "w1_z{}_x02.png"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "?"])
def test_png_in_natural_order(tmp_path, pattern, dtype):
    array = (some("u2", (12, 4, 5)) * 300).astype(dtype)
    path = save(tmp_path / "a", array, pattern)
    for name in ("Thumbs.db", "notes.txt", ".DS_Store", "._s8.png"):
        (path / name).write_text("not a section")
    found = io.read_volume(path) if dtype != "?" else io.read_mask(path)
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == dtype and io.shape_of(path, "raw") == (12, 4, 5)
    crop = io.read_volume(f"{path}[1:3,:,2:]") if dtype != "?" else io.read_mask(f"{path}[1:3,:,2:]")
    np.testing.assert_array_equal(crop.array, array[1:3, :, 2:])


def test_another_program_wrote_16_bits(tmp_path):
    array = (some("u2") * 600).astype("u2")
    for number, section in enumerate(array):
        imsave(tmp_path / f"{number}.png", section, check_contrast=False)
    np.testing.assert_array_equal(io.read_volume(tmp_path).array, array)
    np.testing.assert_array_equal(io.read_labels(tmp_path).array, array)


def test_only_the_sections_asked_for_are_read(tmp_path):
    path = save(tmp_path / "a", some("u1"))
    (path / "s10.png").write_bytes(b"broken")
    assert io.read_volume(f"{path}[0:2]").shape == (2, 6, 7)
    with pytest.raises(StorageError, match=r"s10\.png cannot be read"):
        io.read_volume(path)


def test_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(3), np.add.outer(np.arange(16), np.arange(24))).astype("u1")
    path = save(tmp_path / "a", smooth, "s{}.jpg", quality=100)
    found = io.read_volume(path).array.astype(int)
    assert found.shape == smooth.shape and abs(found - smooth).max() <= 2
    np.testing.assert_array_equal(io.read_volume(path / "s9.jpg").array[0], found[1])
    with pytest.raises(InvalidInput, match="must be of kind labels, not volume"):
        io.read_labels(path)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_are_picked(tmp_path, channels):
    array = some("u1", (3, 4, 5, channels))
    path = save(tmp_path / "a", array)
    with pytest.raises(InvalidInput, match=rf"has {channels} channels; pick one as ADDRESS\[c=0\]"):
        io.read_volume(path)
    np.testing.assert_array_equal(io.read_volume(f"{path}[c=1]").array, array[..., 1])


def test_colours_of_tiff_sections_are_picked(tmp_path):
    array = some("u1", (3, 4, 5, 3))
    path = save(tmp_path / "a", array, "s{}.tif")
    with pytest.raises(InvalidInput, match=r"has 3 channels; pick one"):
        io.read_volume(path)
    np.testing.assert_array_equal(io.read_volume(f"{path}[c=2,z=1:3]").array, array[1:3, ..., 2])


def by_hand(path, bits, colour, row):
    """A PNG of one row of bytes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    width = len(row) * 8 // (bits * {0: 1, 2: 3, 3: 1}[colour])
    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(12))) if colour == 3 else b""
    content = chunk(b"IHDR", header) + palette + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize(("bits", "colour"), [(4, 0), (2, 0), (16, 2), (8, 3)])
def test_what_pillow_would_change_is_refused(tmp_path, bits, colour):
    by_hand(tmp_path / "s1.png", bits, colour, bytes([1, 2, 3, 1, 2, 3]))
    with pytest.raises(InvalidInput, match=r"s1\.png must hold grey values, or colours of 8 bits"):
        io.read_volume(tmp_path)


def test_values_made_by_hand(tmp_path):
    by_hand(tmp_path / "s1.png", 16, 0, bytes([1, 2, 3, 4]))
    assert io.read_volume(tmp_path).array.tolist() == [[[0x0102, 0x0304]]]


def test_large_sections_are_no_attack(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    path = save(tmp_path / "a", some("u1"))
    np.testing.assert_array_equal(io.read_volume(path).array, some("u1"))


def test_what_is_no_folder_of_sections(tmp_path):
    path = save(tmp_path / "a", some("u1"))
    (path / "s10.png").unlink()
    with pytest.raises(MissingFile, match=r"a/s10\.png is missing"):
        io.read_volume(path)
    save(tmp_path / "b", some("u1"))
    save(tmp_path / "b", [np.zeros((4, 4), "u1")], "s{}.jpg")
    with pytest.raises(InvalidInput, match=r"sections of one format, not s10\.png and s8\.jpg|s8\.jpg and s10\.png"):
        io.read_volume(tmp_path / "b")
    save(tmp_path / "c", [np.zeros((4, 5), "u1"), np.zeros((4, 6), "u1")])
    with pytest.raises(InvalidInput, match=r"s9\.png must be one section of 4 x 5 uint8 .* not 4 x 6 uint8"):
        io.read_volume(tmp_path / "c")
    save(tmp_path / "d", [np.zeros((4, 5), "u1"), np.zeros((4, 5), "u2")])
    with pytest.raises(InvalidInput, match=r"s9\.png must be one section of 4 x 5 uint8 .* not 4 x 5 uint16"):
        io.read_volume(tmp_path / "d")


def test_cut_off(tmp_path):
    path = save(tmp_path / "a", some("u1", (1, 60, 70))) / "s8.png"
    content = path.read_bytes()
    for cut in (0, 4, 20, 50, 1000):
        path.write_bytes(content[:cut])
        with pytest.raises(StorageError, match=r"s8\.png cannot be read"):
            io.read_volume(path.parent)


def test_pictures_of_a_run_are_no_volume(tmp_path):
    for name in ("config.json", "stages.json"):
        path = save(tmp_path / name, some("u1"))
        assert module_of(path) == "sections"
        (path / name).write_text("{}")
        assert module_of(path) is None


def test_sections_say_nothing_of_voxels(tmp_path):
    with pytest.warns(SegkitWarning, match="voxels are taken to be 1 nm long"):
        io.read_volume(save(tmp_path / "a", some("u1")))


def test_a_picture_that_moves(tmp_path):
    first, second = (Image.fromarray(np.full((2, 3), value, np.uint8)) for value in (1, 2))
    first.save(tmp_path / "a1.png", save_all=True, append_images=[second])
    with pytest.raises(InvalidInput, match=r"a1\.png must be one section, not 2 pictures; give each section a file"):
        io.read_volume(tmp_path)
