"""Settings, data and networks of training runs, as several verbs read them."""

import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.errors import InvalidInput, InvalidParameter, MissingFile, sentence
from segkit.io.json_file import read_json_object
from segkit.parameters import nearest, nest, overlay, parse_assignments

if TYPE_CHECKING:
    from segkit.io import Address, ChunkCache
    from segkit.train import TrainConfig, TrainingVolume

CONTENT = "config.json, card.json and, from the first checkpoint on, model.safetensors"
"""What the folder of a training run holds."""


def model_file(run: Path, checkpoint: str | None = None) -> Path:
    """The network of a run, "best", "last", or the best where there is one; or a file of weights given by itself."""
    if run.is_file():
        if checkpoint is not None:
            rule, next_step = "needs the folder of a run", "name the folder, or leave --checkpoint out"
            raise InvalidInput(sentence(f"--checkpoint {checkpoint}", rule, repr(str(run)), next_step))
        around = next((folder for folder in run.parents[:2] if _is_run(folder)), None)
        if around is not None and run.suffix != ".safetensors":
            rule, next_step = "must be a run folder or a network (.safetensors)", f"name the run, {around}"
            raise InvalidInput(sentence("--run", rule, repr(str(run)), next_step))
        return run
    best = run / "best.safetensors"
    file = best if checkpoint != "last" and best.exists() else run / "model.safetensors"
    check_run(run, "--run", file.name)
    if checkpoint == "best" and file != best:
        rule, next_step = "must name a run that was validated by segmentation", "train with --val, or take the last"
        raise MissingFile(sentence("--checkpoint best", rule, repr(str(run)), next_step))
    return file


def check_run(run: Path, option: str, needed: str) -> None:
    """Raise MissingFile unless `run` is the folder of a training run that holds the file `needed`.

    The sentence says what such a folder holds, and names a run in it, beside it, or how it comes to that file.
    """
    if (run / needed).is_file():
        return
    if _is_run(run):
        next_step = f"wait for it, or go on with `segkit train DATA --resume --out {run}`"
        if needed != "model.safetensors":
            next_step = "name another run, or copy that file too"
        raise MissingFile(sentence(f"the run {run}", f"has no {needed} yet", None, next_step))
    rule = f"must be the folder of a training run ({CONTENT})"
    value = repr(str(run)) if run.exists() else f"{str(run)!r}, which does not exist"
    inside, beside = _runs_in(run), _runs_in(run.absolute().parent)
    guess = nearest(run.name, [each.name for each in beside]) if not run.exists() else None
    next_step = "`segkit train DATA --out RUN` makes one"
    if inside:
        next_step = f"did you mean {inside[0]}?"
    elif guess:
        next_step = f"did you mean {run.with_name(guess)}?"
    raise MissingFile(sentence(option, rule, value, next_step))


def _is_run(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "card.json"))


def _runs_in(folder: Path) -> list[Path]:
    """The runs directly in a folder; that which `segkit run` trained, called run, comes first."""
    found = [item for item in sorted(folder.iterdir()) if _is_run(item)] if folder.is_dir() else []
    return sorted(found, key=lambda item: item.name != "run")


def merged_settings(base: dict, config: str | None, options: dict, assignments: tuple[str, ...]) -> dict[str, object]:
    """`base`, with the file of --config, the options and --set laid over it in this order."""
    settings = overlay(base, _read_config(config) if config else {})
    settings = overlay(settings, {name: value for name, value in options.items() if value is not None})
    changes = nest(parse_assignments(assignments))
    for name in ("model", "loss"):  # model.features=16 is a parameter of the model, model=unet3d its name
        if isinstance(changes.get(name), dict):
            changes[f"{name}_parameters"] = changes.pop(name)
    return overlay(settings, changes)


def read_settings(run: Path) -> dict[str, object]:
    """The settings of a run that is resumed; what the call does not say stays as it was."""
    check_run(run, "--out with --resume", "config.json")
    return read_json_object(run / "config.json")


def _read_config(path: str) -> dict[str, object]:
    from segkit.io.atomic import check_kept

    check_kept(Path(path))
    try:
        return tomllib.loads(Path(path).read_text())
    except IsADirectoryError:
        raise InvalidInput(sentence("--config", "must be a TOML file", f"the folder {path!r}")) from None
    except FileNotFoundError:
        raise MissingFile(sentence("--config", "must be an existing TOML file", repr(path))) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--config {path} is not valid TOML: {error}") from error


@dataclass(frozen=True)
class Places:
    """Where the parts of a training volume lie."""

    raw: "Address"
    labels: "list[Address]"
    """Several are those of several annotators."""
    mask: "Address | None"


def places_of(text: str, raw_dataset: str | None, labels_dataset: str | None) -> Places:
    """The places of what ``DATA`` names, a file or RAW,labels=LABELS,mask=MASK.

    Raises InvalidInput for a file of one volume that would have to be raw data and labels, and for a dataset where it
    is not said what it holds.
    """
    from segkit import io

    parts = {role: io.parse_address(part) for role, part in io.parts_of(text).items()}
    raw, labels = parts["raw"], parts.get("truth", parts["raw"])
    if "truth" not in parts and io.holds_one(raw):
        rule = "holds one volume, and DATA are raw data and labels"
        raise InvalidInput(sentence(f"{raw}", rule, next_step="name both, as RAW,labels=LABELS"))
    if "truth" not in parts and raw.dataset is not None:
        rule = "must be a file, without a dataset"
        raise InvalidInput(
            sentence("DATA, as of --val,", rule, repr(text), "name the datasets by --raw-dataset and --labels-dataset")
        )
    found = io.matching(io.named(labels, labels_dataset), "truth")
    raw = io.named(raw, raw_dataset)
    if "truth" not in parts and io.shape_of(replace(raw, crop=None), "raw") != io.shape_of(
        replace(found[0], crop=None), "truth"
    ):
        raw = replace(raw, crop=None)  # of another size: all of it is context
    mask = parts.get("mask")
    if mask is None and not io.holds_one(labels):
        usual = replace(labels, dataset=None)
        mask = usual if io.exists(usual, "mask") else None
    return Places(raw, found, mask)


def check_names(texts: Iterable[str], raw_dataset: str | None, labels_dataset: str | None) -> None:
    """Raise InvalidParameter for a name of a dataset that no DATA takes, for they say it themselves."""
    from segkit import io

    parts = [{role: io.parse_address(part) for role, part in io.parts_of(text).items()} for text in texts]
    for role, option, dataset in (("raw", "raw", raw_dataset), ("truth", "labels", labels_dataset)):
        if dataset and not any("truth" not in each or io.takes_name(each[role]) for each in parts):
            rule = f"must name the {option} in a file of which DATA names none"
            next_step = "leave it out, or the dataset in DATA"
            raise InvalidParameter(sentence(f"--{option}-dataset", rule, repr(dataset), next_step))


def training_volumes(
    data: Sequence[str], validation: Sequence[str], datasets: tuple[str | None, str | None], settings: "TrainConfig"
) -> tuple[list["TrainingVolume"], list["TrainingVolume"]]:
    """Open the volumes that DATA and --val name, and read them if all fit into the cache of the settings.

    Otherwise boxes of them will be read, and that is said.
    """
    from segkit import io
    from segkit.cli.common import note
    from segkit.memory import available, decimal_bytes

    needed = sum(map(_bytes_of, (places_of(text, *datasets) for text in (*data, *validation))))
    room = settings.cache or (needed if (free := available()) is None else free // 2)
    cache = None
    if needed > room:
        cache = io.ChunkCache(room // settings.devices)
        note(f"the volumes take {decimal_bytes(needed)}: boxes are read, through a cache of {decimal_bytes(room)}")
    seen, others = ([v for text in texts for v in read_volumes(text, *datasets, cache)] for texts in (data, validation))
    return seen, others


def _bytes_of(places: Places) -> int:
    """What the parts of a volume take in memory."""
    from segkit import io

    total = 0
    for role, address in (("raw", places.raw), *(("truth", each) for each in places.labels), ("mask", places.mask)):
        if address is not None:
            with io.open_volume(address, role) as volume:
                total += math.prod(volume.shape) * volume.dtype.itemsize
    return total


def read_volumes(
    text: str, raw_dataset: str | None, labels_dataset: str | None, cache: "ChunkCache | None" = None
) -> "list[TrainingVolume]":
    """The volume that ``DATA`` names, once for each dataset of labels: in memory, or read by boxes, through a cache."""
    from segkit import io
    from segkit.models.inputs import found_range
    from segkit.train import TrainingVolume

    def read(address: "Address", role: str) -> Any:
        return io.CachedSource(address, role, cache) if cache else io.RegionSource(address, role, travels=False).whole()

    places, found = places_of(text, raw_dataset, labels_dataset), None
    raw, mask = read(places.raw, "raw"), places.mask and read(places.mask, "mask")
    if places.raw.crop:
        with io.open_volume(replace(places.raw, crop=None)) as whole:
            found = found_range(whole)[0]
    return [TrainingVolume(raw, read(each, "truth"), mask, text, found) for each in places.labels]


def hollow_volumes(text: str, raw_dataset: str | None, labels_dataset: str | None) -> "list[TrainingVolume]":
    """The same without voxels of their own, of the sizes and grids of those in the files."""
    from segkit.train import TrainingVolume

    places = places_of(text, raw_dataset, labels_dataset)
    raw = _hollow(places.raw, "raw")
    return [TrainingVolume(raw, _hollow(each, "truth"), name=text) for each in places.labels]


def _hollow(address: "Address", role: str) -> Any:
    """Raw data or labels of the size and the grid of those at an address, all voxels as the first, or 1."""
    import numpy as np

    from segkit import io
    from segkit.data import Labels, Volume

    with io.open_volume(address, role) as volume:
        if role == "truth":
            return Labels(np.broadcast_to(np.uint64(1), volume.shape), volume.grid)
        return Volume(np.broadcast_to(volume.read((slice(0, 1),) * 3), volume.shape), volume.grid)
