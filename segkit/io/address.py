"""Where an object lies: a file, the dataset in it, and the part of it that is wanted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.errors import InvalidInput, sentence
from segkit.io.remote import Remote, as_place
from segkit.parameters import nearest

ROLES = {
    "raw": ("volumes/raw", "volume"),
    "truth": ("volumes/labels/neuron_ids", "labels"),
    "mask": ("volumes/labels/mask", "volume"),
    "affinities": ("volumes/affinities", "affinities"),
    "fragments": ("volumes/fragments", "labels"),
    "segmentation": ("volumes/segmentation", "labels"),
    "merge_tree": ("merge_tree", "merge_tree"),
}
"""Role -> its usual dataset (the layout of CREMI), and the kind of object that plays it."""
MADE_BY = {
    "raw": "name the images as FILE:DATASET (in `segkit train` by --raw-dataset)",
    "truth": "name the annotated labels as FILE:DATASET (in `segkit train` by --labels-dataset)",
    "mask": "name the mask as FILE:DATASET",
    "affinities": "`segkit infer RAW --run RUN --out FILE` makes affinities",
    "fragments": "`segkit fragment AFFINITIES --out FILE` makes fragments",
    "merge_tree": "`segkit agglomerate AFFINITIES --fragments FRAGMENTS --out FILE` makes a merge tree",
    "segmentation": "`segkit segment MERGE_TREE --threshold T --out FILE` makes a segmentation",
}
"""Role -> where an object that plays it comes from."""

PARTS = {"labels": "truth", "mask": "mask"}
"""Word before the = of ``RAW,labels=LABELS,mask=MASK`` -> role of that file."""
FORMATS = {"zarr": "zarr", "zarr2": "zarr", "zarr3": "zarr", "n5": "n5", "precomputed": "precomputed"}
"""Word before the :// of ``precomputed://gs://bucket/volume`` -> format, where the name does not say it."""
OPTIONS = {"missing": ("0",), "links": ("follow",), "format": tuple(sorted(set(FORMATS.values())))}
"""What may be said of a file: chunks that are not there are background (missing=0); links lead to other files; what
format a folder is of."""
RANGE = r"\s*(\d*)\s*:\s*(\d*)\s*"

Slices = tuple[slice, slice, slice]
Box = tuple[slice, ...]
"""A part of a volume along z, y, x, with both ends given."""


@dataclass(frozen=True)
class Address:
    """What ``PATH``, ``PATH:DATASET`` and ``PATH:DATASET[z0:z1,y0:y1,x0:x1]`` mean; or a URL in place of the path.

    In the brackets axes may be named instead, as in ``[z=0:10]``, other axes picked, as in ``[c=0]``, the order of axes
    that a file does not state be said, as in ``[axes=xyz]``, and options given, as in ``[missing=0]``.
    """

    path: Path | Remote
    """The file or folder, here, in a bucket or on a web server."""
    dataset: str | None = None
    """Name of the dataset in it; None for the usual one of the role."""
    crop: Slices | None = None
    """The part of interest in voxels, z, y, x; None for all of it."""
    picks: tuple[tuple[str, int], ...] = ()
    """The index at which axes besides are taken: ("c", 0) for the first channel."""
    axes: str | None = None
    """The order of the axes in the file, a letter each, where it does not say so; None as it says."""
    options: tuple[tuple[str, str], ...] = ()
    """What is allowed that is refused otherwise: see `OPTIONS`."""

    def __post_init__(self) -> None:
        if self.dataset is not None and ".." in self.dataset.split("/"):
            rule, value = "must not lead out of its file", repr(self.dataset)
            raise InvalidInput(sentence("the dataset", rule, value, "leave out '..'"))

    def at(self, role: str) -> str:
        """The dataset, or the usual name of the role where none is given."""
        usual, _ = role_of(role)
        return usual if self.dataset is None else self.dataset

    def bounds(self, shape: tuple[int, ...]) -> Slices:
        """The crop with both ends given, in a volume of `shape` (Z, Y, X). Raises InvalidInput if it sticks out."""
        return bounds_of(self.crop or (slice(None),) * 3, shape, "the crop")

    def allows(self, option: str) -> bool:
        """Whether this one of `OPTIONS` is given."""
        return option in dict(self.options)

    def __str__(self) -> str:
        text = str(self.path) if not self.dataset else f"{self.path}:{self.dataset}"
        more = [f"{key}={value}" for key, value in (*self.picks, *self.options)]
        more += [f"axes={self.axes}"] if self.axes else []
        crop = list(map(_show, self.crop)) if self.crop else []
        if crop and more:
            crop = [f"{axis}={part}" for axis, part in zip("zyx", crop, strict=True)]
        return f"{text}[{','.join(crop + more)}]" if crop or more else text


def parse_address(text: str) -> Address:
    """The address that `text` spells; the file need not exist.

    The path may be a URL (file, http, https, s3, gs), and its format may stand before it, as in
    ``precomputed://gs://bucket/volume``.

    >>> address = parse_address("sample_A.hdf:volumes/raw[0:10, :, 5:]")
    >>> str(address.path), address.dataset, address.crop
    ('sample_A.hdf', 'volumes/raw', (slice(0, 10, None), slice(None, None, None), slice(5, None, None)))
    >>> parse_address("sample_A.hdf").at("truth")
    'volumes/labels/neuron_ids'
    >>> address = parse_address("n5://s3://bucket/volume:em/s0[z=0:10]")
    >>> str(address.path), address.dataset, address.options
    ('s3://bucket/volume', 'em/s0', (('format', 'n5'),))
    """
    if text and Path(text).exists():
        return Address(Path(text))
    body, bracket = _split_bracket(text)
    body, form = _split_format(body)
    crop, picks, axes, options = _said(bracket)
    said = crop, picks, axes, options if form is None or ("format", form) in options else (*options, ("format", form))
    if "://" in body:
        return _at_url(body, said)
    if Path(body).exists() and body:
        return Address(Path(body), None, *said)
    folder = _folder_of(body)
    path, colon, dataset = body[len(folder) :].rpartition(":")
    if not colon:
        path, dataset = body[len(folder) :], ""
    dataset = dataset.strip("/")
    if not path or (colon and not dataset):
        raise InvalidInput(sentence("address", "must be PATH or PATH:DATASET, with a crop or without", repr(text)))
    return Address(Path(folder + path), dataset or None, *said)


def parts_of(text: str) -> dict[str, str]:
    """The addresses by role that ``RAW,labels=LABELS,mask=MASK`` spells, for volumes of several files.

    >>> parts_of("raw.tif[0:8],labels=ids.tif[0:8]"), parts_of("sample_A.hdf")
    ({'raw': 'raw.tif[0:8]', 'truth': 'ids.tif[0:8]'}, {'raw': 'sample_A.hdf'})
    >>> parts_of("raw.tif[c=0,t=1],mask=inside.tif[z=0:8,t=1]")
    {'raw': 'raw.tif[c=0,t=1]', 'mask': 'inside.tif[z=0:8,t=1]'}
    """
    if Path(text).exists():
        return {"raw": text}
    raw, *others = re.split(r",\s*(\w+)=(?![^\[]*\])", text)  # not in brackets
    found = {"raw": raw}
    for word, part in zip(others[::2], others[1::2], strict=True):
        if word not in PARTS or PARTS[word] in found or not part.strip():
            rule, next_step = "must look like RAW,labels=LABELS,mask=MASK, each once", "name a file after each ="
            raise InvalidInput(sentence("a volume of several files", rule, repr(text), next_step))
        found[PARTS[word]] = part.strip()
    return found


def part_for(text: str, role: str) -> str:
    """The address of what plays `role` in ``RAW,labels=LABELS,mask=MASK``: the first, if it names none apart."""
    parts = parts_of(text)
    return parts.get(role) or parts["raw"]


def as_address(address: "str | Path | Remote | Address") -> Address:
    """An address from text (which is parsed), from a path (which is not), or from itself."""
    if isinstance(address, Address):
        return address
    return Address(address) if isinstance(address, Path | Remote) else parse_address(str(address))


def role_of(role: str) -> tuple[str, str]:
    """The usual dataset of a role, and the kind of object that plays it."""
    if role not in ROLES:
        guess = nearest(str(role), ROLES)
        raise InvalidInput(
            sentence("role", f"must be one of {', '.join(ROLES)}", repr(role), guess and f"did you mean {guess!r}?")
        )
    return ROLES[role]


def _folder_of(body: str) -> str:
    """The folders that a path begins with and that exist, with the last "/": colons in their names separate nothing."""
    end = body.rfind("/")
    while end > 0 and not Path(body[:end]).is_dir():
        end = body.rfind("/", 0, end)
    return body[: end + 1]


def _split_format(body: str) -> tuple[str, str | None]:
    """The address without the format that stands before it, and that."""
    word, separator, rest = body.partition("://")
    return (rest, FORMATS[word]) if separator and word in FORMATS else (body, None)


def _at_url(body: str, said: tuple) -> Address:
    """The address of a URL: what follows the last colon behind the server is the dataset."""
    scheme, _, rest = body.partition("://")
    server, slash, key = rest.partition("/")
    key, colon, dataset = key.rpartition(":") if ":" in key else (key, "", "")
    dataset = dataset.strip("/")
    url = f"{scheme}://{server}{slash}{key}"
    place = as_place(url)
    if isinstance(place, Path) and not url.startswith("file://"):
        rule = "must begin with file://, http://, https://, s3:// or gs://, or with zarr://, n5:// or precomputed://"
        raise InvalidInput(sentence("the URL", rule, repr(body), "write it so"))
    if not key.strip("/") or (colon and not dataset):
        raise InvalidInput(sentence("address", "must be URL or URL:DATASET, with a crop or without", repr(body)))
    return Address(place, dataset or None, *said)


def _split_bracket(text: str) -> tuple[str, str | None]:
    """What stands before the brackets at the end, and in them."""
    body, bracket, inside = text.rpartition("[")
    return (body, inside[:-1]) if bracket and inside.endswith("]") else (text, None)


def _said(inside: str | None) -> tuple[Slices | None, tuple, str | None, tuple]:
    """What the brackets say: crop, picks, axes and options."""
    if inside is None:
        return None, (), None, ()
    parts = [part.strip() for part in inside.split(",")]
    if not any("=" in part for part in parts):
        return _crop(parts, inside), (), None, ()
    ranges: dict[str, slice] = {}
    picks: dict[str, int] = {}
    axes, options = None, {}
    for part in parts:
        key, _, value = (word.strip() for word in part.partition("="))
        found = re.fullmatch(RANGE, value)
        if key in ("z", "y", "x") and found and key not in ranges:
            ranges[key] = _slice(found)
        elif key in ("c", "t") and value.isdecimal() and key not in picks:
            picks[key] = int(value)
        elif key == "axes" and re.fullmatch("[a-z]{3,5}", value) and axes is None:
            axes = value
        elif key in OPTIONS and value in OPTIONS[key]:
            options[key] = value
        else:
            known = [f"{key}={'|'.join(values)}" for key, values in OPTIONS.items()]
            rule = f"must be made of z=0:10, y=..., x=..., c=0, t=0, axes=zyx, {', '.join(known)}, each once"
            raise InvalidInput(sentence("what stands in brackets", rule, f"[{inside}]", "write it so"))
    crop = tuple(ranges.get(axis, slice(None)) for axis in "zyx") if ranges else None
    return crop, tuple(picks.items()), axes, tuple(options.items())  # type: ignore[return-value]


def _crop(parts: list[str], inside: str) -> Slices:
    found = [re.fullmatch(RANGE, part) for part in parts]
    if not all(found) or len(found) > 3:
        rule = "must be up to three ranges start:stop of voxels, z, y, x, without signs or steps"
        raise InvalidInput(sentence("crop", rule, f"[{inside}]", "write it as [110:150] or [110:150,0:200,:]"))
    slices = [_slice(part) for part in found if part]
    z, y, x = slices + [slice(None)] * (3 - len(slices))
    return z, y, x


def _slice(found: re.Match[str]) -> slice:
    return slice(*(int(number) if number else None for number in found.groups()))


def parse_box(text: str, what: str) -> Slices:
    """The box of voxels that `text` spells as crops do, ``0:50,100:200,:`` or ``y=0:50``; `what` is for messages.

    >>> parse_box("0:50,:,8:", "roi"), parse_box("y=0:50", "roi")[1]
    ((slice(0, 50, None), slice(None, None, None), slice(8, None, None)), slice(0, 50, None))
    """
    try:
        crop, *others = _said(text)
    except InvalidInput:
        crop, others = None, []
    if crop is None or any(others):
        rule = "must be ranges of voxels start:stop, z, y, x, as 0:50,100:200,: or y=100:200"
        raise InvalidInput(sentence(what, rule, repr(text)))
    return crop


def bounds_of(box: Slices, shape: Sequence[int], what: str) -> Slices:
    """A box with both ends given, in a volume of `shape` (Z, Y, X). Raises InvalidInput if it sticks out."""
    z, y, x = (_bound(axis, part, size, what) for axis, part, size in zip("zyx", box, shape, strict=True))
    return z, y, x


def _bound(axis: str, part: slice, size: int, what: str) -> slice:
    start = 0 if part.start is None else part.start
    stop = size if part.stop is None else part.stop
    if part.step not in (None, 1) or not 0 <= start < stop <= size:
        rule = f"must be a part of 0:{size} along {axis}, with at least one voxel and no step"
        next_step = "correct the numbers in [...]" if what == "the crop" else "correct the numbers"
        raise InvalidInput(sentence(what, rule, _show(part), next_step))
    return slice(start, stop)


def _show(part: slice) -> str:
    ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
    return ":".join(ends if part.step is None else [*ends, str(part.step)])
