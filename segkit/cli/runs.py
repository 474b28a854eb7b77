"""Settings, data and networks of training runs, as several verbs read them."""

import json
import tomllib
from pathlib import Path

from segkit.errors import InvalidInput, MissingFile, StorageError, sentence
from segkit.parameters import nest, overlay, parse_assignments


def model_file(run: Path, checkpoint: str | None = None) -> Path:
    """The network of a run, "best", "last", or the best where there is one; or a file of weights given by itself."""
    if run.is_file():
        if checkpoint is not None:
            rule, next_step = "needs the folder of a run", "name the folder, or leave --checkpoint out"
            raise InvalidInput(sentence(f"--checkpoint {checkpoint}", rule, repr(str(run)), next_step))
        return run
    best = run / "best.safetensors"
    if checkpoint == "best" and run.is_dir() and not best.exists():
        rule, next_step = "must name a run that was validated by segmentation", "train with --val, or take the last"
        raise MissingFile(sentence("--checkpoint best", rule, repr(str(run)), next_step))
    return best if checkpoint != "last" and best.exists() else run / "model.safetensors"


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
    try:
        return json.loads((run / "config.json").read_text())
    except FileNotFoundError:
        rule, next_step = "must be the folder of an earlier run", "check its path, or train without --resume"
        raise MissingFile(sentence("--out", rule, repr(str(run)), next_step)) from None
    except ValueError as error:
        raise StorageError(sentence(f"{run}/config.json", f"is damaged ({error})", None, "start a new run")) from error


def _read_config(path: str) -> dict[str, object]:
    try:
        return tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise MissingFile(sentence("--config", "must be an existing TOML file", repr(path))) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--config {path} is not valid TOML: {error}") from error


def read_volumes(text: str, raw_dataset: str | None, labels_dataset: str | None) -> list:
    """The volume at an address, once for each dataset of labels."""
    from segkit import io
    from segkit.train import TrainingVolume

    address = io.parse_address(text)
    if address.dataset is not None:
        rule = "must be a file, without a dataset"
        raise InvalidInput(
            sentence("DATA", rule, repr(text), "name the datasets by --raw-dataset and --labels-dataset")
        )

    def at(dataset: str | None, crop=address.crop) -> io.Address:
        return io.Address(address.path, dataset, crop)

    places = io.matching(at(labels_dataset), "truth")
    whole = io.Address(address.path, places[0].dataset)
    same_shape = io.shape_of(at(raw_dataset, None), "raw") == io.shape_of(whole, "truth")
    raw = io.read_volume(at(raw_dataset, address.crop if same_shape else None))
    mask = io.read_mask(at(None)) if io.exists(at(None, None), "mask") else None
    return [TrainingVolume(raw, io.read_labels(place, role="truth"), mask) for place in places]
