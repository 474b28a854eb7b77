"""Natural images and what several people made of them, as the Berkeley data set (BSDS500) lays them out.

A folder ``images/SPLIT`` of pictures has a folder ``groundTruth/SPLIT`` beside ``images``, with one MATLAB file of the
same name a picture: a cell array `groundTruth`, one cell an annotator, each with a matrix `Segmentation` of segments
numbered from 1. An HDF5 file may hold the same, a group a picture: `raw` (Y, X, 3) and `labels/0`, `labels/1`, ...
Arbelaez et al. 2011, doi:10.1109/TPAMI.2010.161.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from segkit.errors import InvalidInput, MissingDataset, MissingFile, sentence
from segkit.io.atomic import storage_errors

PICTURES = (".jpg", ".jpeg", ".png")
HDF5 = (".h5", ".hdf", ".hdf5")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture with its annotations."""

    name: str
    colours: np.ndarray
    """uint8 (Y, X, 3): red, green, blue."""
    annotations: tuple[np.ndarray, ...]
    """Segments as each annotator saw them, uint64 (Y, X), from 1."""

    def __post_init__(self) -> None:
        if self.colours.ndim != 3 or self.colours.shape[2] != 3 or self.colours.dtype != np.uint8:
            found = f"{self.colours.dtype} {self.colours.shape}"
            raise InvalidInput(sentence(f"picture {self.name}", "must be uint8 (Y, X, 3)", found))
        if not self.annotations:
            raise InvalidInput(sentence(f"picture {self.name}", "must have an annotation", "none"))
        for annotation in self.annotations:
            if annotation.shape != self.colours.shape[:2]:
                found = f"{annotation.shape} beside a picture of {self.colours.shape[:2]}"
                raise InvalidInput(sentence(f"the annotations of picture {self.name}", "must be of its shape", found))


def read_pictures(path: str | Path, part: slice = slice(None)) -> Iterator[Picture]:
    """The pictures of a folder ``images/SPLIT`` or of an HDF5 file, by name; `part` counts them in that order.

    Raises MissingFile where something is not there, InvalidInput where `part` holds no picture.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFile(sentence(f"{path}", "does not exist", next_step="check the spelling"))
    return _read_folder(path, part) if path.is_dir() else _read_hdf5(path, part)


def _chosen(path: Path, names: list, part: slice) -> list:
    """Those in `part`, which must lie inside."""
    start, stop, _ = part.indices(len(names))
    if start >= stop or (part.stop or 0) > len(names):
        wanted = f"[{part.start or 0}:{'' if part.stop is None else part.stop}]"
        raise InvalidInput(sentence(f"the part of {path}", f"must lie within its {len(names)} pictures", wanted))
    return names[start:stop]


def _read_folder(folder: Path, part: slice) -> Iterator[Picture]:
    from PIL import Image

    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise MissingFile(sentence(f"{folder}", "must hold pictures, .jpg or .png", next_step="name images/SPLIT"))
    for file in _chosen(folder, files, part):
        truth = folder.absolute().parent.parent / "groundTruth" / folder.name / f"{file.stem}.mat"
        if not truth.exists():
            next_step = "keep images/ and groundTruth/ beside each other, as BSDS500 does"
            raise MissingFile(sentence(f"the annotations {truth}", "must exist", next_step=next_step))
        with storage_errors("read", file), Image.open(file) as image:
            colours = np.asarray(image.convert("RGB"))
        yield Picture(file.stem, colours, _read_matlab(truth))


def _read_matlab(path: Path) -> tuple[np.ndarray, ...]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    with storage_errors("read", path):
        try:
            cells = loadmat(path)["groundTruth"].ravel()
        except MatReadError as error:
            raise ValueError(str(error)) from error
        return tuple(_ids(cell["Segmentation"][0, 0], path) for cell in cells)


def _read_hdf5(path: Path, part: slice) -> Iterator[Picture]:
    import h5py

    if path.suffix.lower() not in HDF5:
        raise InvalidInput(sentence(f"{path}", "must be a folder of pictures or an HDF5 file", next_step="name one"))
    with storage_errors("read", path), h5py.File(path) as file:
        groups = {name: item for name, item in file.items() if isinstance(item, h5py.Group)}
        names = sorted(name for name, group in groups.items() if {"raw", "labels"} <= set(group))
        if not names:
            rule = "must hold a group a picture, with raw (Y, X, 3) and labels/0, labels/1, ..."
            raise MissingDataset(sentence(f"{path}", rule, next_step="name another file"))
        for name in _chosen(path, names, part):
            group, labels = groups[name], groups[name]["labels"]
            found = [
                _ids(labels[key][()], f"{path}:{name}/labels/{key}")
                for key in sorted(labels, key=lambda key: (len(key), key))
            ]
            yield Picture(name.removeprefix("image_"), group["raw"][()], tuple(found))


def _ids(values: np.ndarray, place: object) -> np.ndarray:
    """Segments as uint64; MATLAB keeps whole numbers as floats. Raises InvalidInput for what is no number of one."""
    known = values.dtype.kind in "biuf"
    wrong = values[~((values >= 0) & (values < 2**64) & (values == np.trunc(values * 1)))] if known else values
    if wrong.size:
        found = wrong.flat[0] if known else values.dtype
        raise InvalidInput(sentence(f"{place}: segments", "must be whole numbers from 0 on", found, "mend the file"))
    return values.astype(np.uint64)
