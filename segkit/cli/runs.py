"""Settings, data and networks of training runs, as several verbs read them."""

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.errors import InvalidInput, MissingFile, StorageError, sentence
from segkit.parameters import nearest, nest, overlay, parse_assignments

if TYPE_CHECKING:
    from segkit.data.boxes import Slices
    from segkit.train import TrainingVolume

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
    try:
        return json.loads((run / "config.json").read_text())
    except ValueError as error:
        raise StorageError(sentence(f"{run}/config.json", f"is damaged ({error})", None, "start a new run")) from error


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


def read_volumes(text: str, raw_dataset: str | None, labels_dataset: str | None) -> "list[TrainingVolume]":
    """The volume at an address, once for each dataset of labels."""
    from segkit import io
    from segkit.train import TrainingVolume

    address = io.parse_address(text)
    if address.dataset is not None:
        rule = "must be a file, without a dataset"
        raise InvalidInput(
            sentence("DATA, as of --val,", rule, repr(text), "name the datasets by --raw-dataset and --labels-dataset")
        )

    def at(dataset: str | None, crop: "Slices | None" = address.crop) -> io.Address:
        return io.Address(address.path, dataset, crop)

    places = io.matching(at(labels_dataset), "truth")
    whole = io.Address(address.path, places[0].dataset)
    same_shape = io.shape_of(at(raw_dataset, None), "raw") == io.shape_of(whole, "truth")
    raw = io.read_volume(at(raw_dataset, address.crop if same_shape else None))
    mask = io.read_mask(at(None)) if io.exists(at(None, None), "mask") else None
    return [TrainingVolume(raw, io.read_labels(place, role="truth"), mask, text) for place in places]
