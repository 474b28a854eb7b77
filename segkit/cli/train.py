"""segkit train: raw and labels -> a run folder with a trained network."""

import json
import tomllib
from pathlib import Path

import click

from segkit.cli.common import Verb, note, progress, seed_option
from segkit.cli.completion import complete_component
from segkit.errors import InvalidInput, MissingFile, StorageError, sentence
from segkit.parameters import nest, overlay, parse_assignments


@click.command("train", cls=Verb)
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--model",
    shell_complete=complete_component("models"),
    help="A network; see `segkit plugins list`.  [default: unet3d]",
)
@click.option(
    "--loss",
    shell_complete=complete_component("losses", separators="+*"),
    help="A loss or a weighted sum: constrained-malis+0.1*mse.  [default: constrained-malis]",
)
@click.option("--loss-backend", help="What computes MALIS: auto, cpu, gpu, higra.  [default: auto]")
@click.option("--val", "validation", multiple=True, metavar="DATA", help="Volume to validate on; repeatable.")
@click.option("--out", required=True, metavar="RUN", help="Folder of the run.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of the optimiser.")
@click.option("--config", metavar="F.toml", help="Settings; the options and --set go before them.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="patch=[...], model.features=16, ...")
@click.option("--raw-dataset", help="Dataset of the raw volume, if not volumes/raw.")
@click.option("--labels-dataset", help="Dataset of the labels, if not volumes/labels/neuron_ids.")
@click.option("--resume", is_flag=True, help="Go on where the run in RUN was stopped, with its settings.")
@seed_option
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps.  [default: auto]")
def command(data, validation, out, resume, raw_dataset, labels_dataset, assignments, config, **options) -> dict:
    """Train a network on DATA: files with volumes/raw and volumes/labels/neuron_ids (and volumes/labels/mask).

    A crop, sample_A.hdf[0:100], is in voxels of the labels; the raw volume is cropped alike where it has the same
    shape, and kept whole, as context, where it is larger.
    """
    from segkit.train import TrainConfig, train

    base = _read_settings(Path(out)) if resume else {}
    settings = TrainConfig(**_settings(base, config, options, assignments))
    datasets = (raw_dataset, labels_dataset)
    volumes = [_read(address, *datasets) for address in data]
    others = [_read(address, *datasets) for address in validation]
    with progress("train") as report:

        def on_step(step, total, loss, parts, steps_per_second):
            report(step, total, f"loss {loss:.4f}  {steps_per_second:.2f} steps/s")

        calls = {"on_step": on_step, "on_recovery": note}
        result = train(settings, volumes, Path(out), validation=others, resume=resume, **calls)
    losses = f"loss {result.first_loss:.4f} -> {result.last_loss:.4f}"
    recoveries = f", {result.recoveries} recoveries from a collapse" if result.recoveries else ""
    note(f"{result.steps} steps in {result.seconds:.0f} s, {losses}{recoveries}; {out}")
    return {"out": out, "steps": result.steps, "seconds": result.seconds, "recoveries": result.recoveries}


def _settings(base: dict, config: str | None, options: dict, assignments: tuple[str, ...]) -> dict[str, object]:
    """`base`, with the file of --config, the options and --set laid over it in this order."""
    settings = overlay(base, _read_config(config) if config else {})
    settings = overlay(settings, {name: value for name, value in options.items() if value is not None})
    changes = nest(parse_assignments(assignments))
    for name in ("model", "loss"):  # model.features=16 is a parameter of the model, model=unet3d its name
        if isinstance(changes.get(name), dict):
            changes[f"{name}_parameters"] = changes.pop(name)
    return overlay(settings, changes)


def _read_settings(run: Path) -> dict[str, object]:
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


def _read(text: str, raw_dataset: str | None, labels_dataset: str | None):
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

    same_shape = io.shape_of(at(raw_dataset, None), "raw") == io.shape_of(at(labels_dataset, None), "truth")
    labels = io.read_labels(at(labels_dataset), role="truth")
    raw = io.read_volume(at(raw_dataset, address.crop if same_shape else None))
    mask = io.read_mask(at(None)) if io.exists(at(None, None), "mask") else None
    return TrainingVolume(raw, labels, mask)
