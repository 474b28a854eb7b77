"""Sections: a folder with one image a section, TIFF, PNG or JPEG; or one PNG or JPEG, which is one section.

Sections follow each other in the order of the number in their names, and are read one by one, each whole. They say
nothing of the size of voxels. JPEG changes values: it holds no labels.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from segkit.errors import InvalidInput, MissingFile, sentence
from segkit.io import tiff
from segkit.io.atomic import storage_errors
from segkit.io.fetch import fetched
from segkit.io.formats import SECTIONS
from segkit.io.placement import Placement
from segkit.io.records import About, Stored, check_memory
from segkit.io.remote import AnyPath, Remote
from segkit.io.single import OneVolume

IMAGES = {"png": PngImageFile, "jpeg": JpegImageFile}
"""What reads a file; they do not look for the format, nor take large images for an attack, as `PIL.Image.open` does."""
GREYS = {"1": "?", "L": "u1", "I;16": "u2", "I": "u2"}
"""Mode of a grey image -> dtype; I is what old versions of Pillow call 16 bits."""
COLOURS = {"LA": 2, "RGB": 3, "RGBA": 4}
"""Mode of a coloured image -> its channels."""
EXACT = ("1", "L", "I;16B", "I;16", "LA", "RGB", "RGBA")
"""How pixels may be packed: Pillow rescales values of 2 and 4 bits, and drops half of the 16 bits of a colour."""


@contextmanager
def reading(path: AnyPath, options: Mapping[str, str]) -> Iterator[OneVolume]:
    """The sections, open for reading; there are no `options`."""
    yield OneVolume(_stacked(path, section_files(path) if path.is_dir() else [path]), "a folder of sections")


def _stacked(path: AnyPath, files: list[AnyPath]) -> Stored:
    with _opened(files[0]) as first:
        shape, dtype, axes = first.shape, first.dtype, first.placement.axes

    def section(file: AnyPath, part: tuple[slice, ...]) -> np.ndarray:
        with _opened(file) as found:
            if (found.shape, found.dtype) != (shape, dtype):
                rule = f"must be one section of {' x '.join(map(str, shape))} {dtype} as the first is"
                value = f"{' x '.join(map(str, found.shape))} {found.dtype}"
                raise InvalidInput(sentence(f"{file}", rule, value, "mend that section"))
            return found.read(part)

    def read(part: tuple[slice, ...]) -> np.ndarray:
        return np.stack([section(file, part[1:]) for file in files[part[0]]])

    lossy = SECTIONS[files[0].suffix.lower()] == "jpeg"
    about = About(kind="volume") if lossy else About()
    return Stored((len(files), *shape), read, about, Placement(f"z{axes}"), dtype, chunks=(1, *shape))


@contextmanager
def _opened(file: AnyPath) -> Iterator[Stored]:
    """One section, y, x and perhaps channels, for reading a part of it."""
    kind = SECTIONS[file.suffix.lower()]
    if kind != "tiff":
        yield _image(file, kind)
        return
    with tiff.opened(fetched(file) if isinstance(file, Remote) else file) as stack:
        axes = stack.placement.axes or ""
        if not axes.startswith("z"):
            yield stack
        elif stack.shape[0] != 1:
            next_step = "name the file itself, or give each section a file"
            raise InvalidInput(sentence(f"{file}", "must be one section", f"{stack.shape[0]} pages", next_step))
        else:
            placement = Placement(axes[1:])
            yield replace(
                stack, shape=stack.shape[1:], read=lambda part: stack.read((slice(0, 1), *part))[0], placement=placement
            )


def _image(file: AnyPath, kind: str) -> Stored:
    """A PNG or JPEG, of which the header is read now and the values when they are asked for."""
    with storage_errors("read", file):
        image = IMAGES[kind](io.BytesIO(file.read_bytes()))
        mode, packed = image.mode, image.tile[0][3]
    if getattr(image, "n_frames", 1) > 1:
        rule, next_step = "must be one section", "give each section a file"
        raise InvalidInput(sentence(f"{file}", rule, f"{image.n_frames} pictures", next_step))
    packed = packed if isinstance(packed, str) else packed[0]
    if packed not in EXACT or mode not in GREYS | COLOURS:
        next_step = "save it as grey values of 8 or 16 bits"
        raise InvalidInput(sentence(f"{file}", "must hold grey values, or colours of 8 bits", packed, next_step))
    shape = (image.height, image.width, *([COLOURS[mode]] if mode in COLOURS else []))
    dtype = np.dtype(GREYS.get(mode, "u1"))

    def read(part: tuple[slice, ...]) -> np.ndarray:
        check_memory(f"{file}", int(np.prod(shape)) * dtype.itemsize)
        with storage_errors("read", file):
            return np.asarray(image).astype(dtype, copy=False)[part]

    return Stored(shape, read, placement=Placement("yxc"[: len(shape)]), dtype=dtype)


def section_files(folder: AnyPath) -> list[AnyPath]:
    """The sections of a folder in the order of the one number that their names differ in; all else is passed over.

    Raises MissingFile if a number is left out, InvalidInput if the names do not say the order.
    """
    files: dict[str, list[AnyPath]] = {}
    found: Iterable[AnyPath] = folder.iterdir()
    for path in sorted(found, key=str):
        if path.suffix.lower() in SECTIONS and not path.name.startswith("."):
            files.setdefault(SECTIONS[path.suffix.lower()], []).append(path)
    if not files:
        raise MissingFile(sentence(f"{folder}", "has no sections", next_step="name another folder"))
    if "tiff" not in files and len(files) > 1:
        value = " and ".join(found[0].name for found in files.values())
        raise InvalidInput(sentence(f"{folder}", "must hold sections of one format", value, "move the others away"))
    return _in_order(folder, files["tiff"] if "tiff" in files else next(iter(files.values())))


def _in_order(folder: AnyPath, files: list[AnyPath]) -> list[AnyPath]:
    parts = [re.split(r"(\d+)", path.name) for path in files]
    varying = {i for part in parts for i, (a, b) in enumerate(zip(part, parts[0], strict=False)) if a != b}
    if len({len(part) for part in parts}) > 1 or len(varying) > 1 or any(i % 2 == 0 for i in varying):
        rule = "must hold sections whose names differ in one number only"
        raise InvalidInput(sentence(f"{folder}", rule, f"{files[0].name} ... {files[-1].name}", "rename the others"))
    if not varying:
        return files
    (place,) = varying
    numbers = [int(part[place]) for part in parts]
    order = sorted(range(len(files)), key=numbers.__getitem__)
    _check_numbers(folder, sorted(numbers), parts[order[0]], place)
    return [files[i] for i in order]


def _check_numbers(folder: AnyPath, numbers: list[int], name: list[str], place: int) -> None:
    for previous, number in pairwise(numbers):
        if number == previous:
            raise InvalidInput(sentence(f"{folder}", "must hold each section once", f"section {number} twice"))
        if number != previous + 1:
            missing = "".join([*name[:place], str(previous + 1).zfill(len(name[place])), *name[place + 1 :]])
            next_step = "add it (a blank section, say), for without it the sections after it would be displaced"
            raise MissingFile(sentence(f"{folder / missing}", "is missing", next_step=next_step))
