"""Pictures with annotations: the folders of BSDS500, and the same in HDF5."""

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from segkit.errors import InvalidInput, MissingDataset, MissingFile, StorageError

from segkit_natural_images.bsds import Picture, read_pictures

RNG = np.random.default_rng(0)
PICTURES = {
    name: (RNG.integers(0, 256, (*shape, 3), np.uint8), [RNG.integers(1, 9, shape).astype(np.uint16) for _ in range(n)])
    for name, shape, n in (("22013", (6, 5), 2), ("105053", (5, 6), 11))
}


def write_matlab(path, annotations) -> None:
    cells = np.empty((1, len(annotations)), object)
    for number, annotation in enumerate(annotations):
        cells[0, number] = {"Segmentation": annotation, "Boundaries": annotation > 4}
    savemat(path, {"groundTruth": cells})


@pytest.fixture
def folder(tmp_path):
    """images/train with lossless pictures, groundTruth/train beside it."""
    for name in ("images/train", "groundTruth/train"):
        (tmp_path / name).mkdir(parents=True)
    for name, (colours, annotations) in PICTURES.items():
        Image.fromarray(colours).save(tmp_path / f"images/train/{name}.png")
        write_matlab(tmp_path / f"groundTruth/train/{name}.mat", annotations)
    (tmp_path / "images/train/Thumbs.db").write_text("no picture")
    return tmp_path / "images" / "train"


@pytest.fixture
def file(tmp_path):
    """The same in HDF5."""
    with h5py.File(tmp_path / "pictures.h5", "w") as file:
        for name, (colours, annotations) in PICTURES.items():
            file[f"image_{name}/raw"] = colours
            for number, annotation in enumerate(annotations):
                file[f"image_{name}/labels/{number}"] = annotation
    return tmp_path / "pictures.h5"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_pictures_come_by_name_with_all_annotations(kind, request):
    found = list(read_pictures(request.getfixturevalue(kind)))
    assert [picture.name for picture in found] == ["105053", "22013"]
    for picture in found:
        colours, annotations = PICTURES[picture.name]
        np.testing.assert_array_equal(picture.colours, colours)
        np.testing.assert_array_equal(picture.annotations, annotations)
        assert all(annotation.dtype == np.uint64 for annotation in picture.annotations)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_part_counts_pictures(kind, request):
    path = request.getfixturevalue(kind)
    assert [picture.name for picture in read_pictures(path, slice(1, None))] == ["22013"]
    with pytest.raises(InvalidInput, match="must lie within its 2 pictures, not \\[1:3\\]"):
        list(read_pictures(path, slice(1, 3)))


def test_grey_pictures_have_three_equal_colours(folder):
    grey = RNG.integers(0, 256, (5, 6), np.uint8)
    Image.fromarray(grey).save(folder / "105053.png")
    first = next(read_pictures(folder))
    np.testing.assert_array_equal(first.colours, np.stack([grey] * 3, -1))


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(MissingFile, match="does not exist"):
        read_pictures(tmp_path / "nowhere")
    (tmp_path / "groundTruth/train/22013.mat").unlink()
    with pytest.raises(MissingFile, match=r"groundTruth/train/22013\.mat must exist"):
        list(read_pictures(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFile, match="must hold pictures"):
        list(read_pictures(tmp_path / "empty"))


def test_other_files_are_refused(folder, tmp_path):
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(InvalidInput, match="must be a folder of pictures or an HDF5 file"):
        list(read_pictures(tmp_path / "text.txt"))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image_1/raw"] = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(MissingDataset, match="a group a picture"):
        list(read_pictures(tmp_path / "other.h5"))
    (tmp_path / "groundTruth/train/105053.mat").write_text("damaged")
    with pytest.raises(StorageError, match="105053"):
        list(read_pictures(folder))


@pytest.mark.parametrize(
    ("colours", "annotations", "text"),
    [
        (np.zeros((4, 5), np.uint8), [np.ones((4, 5), int)], "must be uint8"),
        (np.zeros((4, 5, 3), np.uint8), [], "must have an annotation"),
        (np.zeros((4, 5, 3), np.uint8), [np.ones((5, 4), int)], "must be of its shape"),
    ],
)
def test_pictures_are_checked(colours, annotations, text):
    with pytest.raises(InvalidInput, match=text):
        Picture("x", colours, tuple(annotations))


@pytest.mark.parametrize("value", [-1, np.nan, 1.5, np.inf])
def test_segments_that_are_no_numbers_of_one_are_refused(folder, file, value):
    wrong = np.ones((5, 6))
    wrong[2, 3] = value
    write_matlab(folder.parent.parent / "groundTruth/train/105053.mat", [wrong])
    with h5py.File(file, "r+") as opened:
        group = next(iter(opened.values()))
        del group["labels/0"]
        group["labels/0"] = wrong
    for path in (folder, file):
        with pytest.raises(InvalidInput, match=f"segments must be whole numbers from 0 on, not {value}"):
            list(read_pictures(path))


@pytest.mark.data
def test_real_pictures(real_data):
    found = list(read_pictures(real_data / "bsds_train.h5"))
    assert len(found) == 24 and {picture.colours.shape for picture in found} == {(321, 481, 3), (481, 321, 3)}
    assert all(4 <= len(picture.annotations) <= 7 and picture.annotations[0].min() == 1 for picture in found)
