"""segkit train: Train a network to predict affinities."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segkit.cli.common import (
    DEVICES,
    Made,
    Verb,
    chosen_precision,
    echo_described,
    echo_json,
    examples,
    gathered,
    intensity_option,
    json_option,
    note,
    precision_option,
    progress,
    seed_option,
    setting_options,
    taken,
)
from segkit.cli.repeat import compare_with, source_of, take_over
from segkit.cli.runs import (
    check_names,
    check_run,
    hollow_volumes,
    merged_settings,
    read_settings,
    training_volumes,
)
from segkit.cli.types import FILE, NEW_RUN, RUN_FOLDER, VOLUMES
from segkit.cli.voxels import VoxelSizeType, check_all_stated

if TYPE_CHECKING:
    from segkit.train import TrainConfig, TrainingVolume
    from segkit.train.run import TrainResult

EXAMPLES = examples(
    "segkit train sample_A.hdf --val sample_B.hdf --out run",
    "segkit train 'sample_A.hdf[0:100]' --val sample_B.hdf --out run \\\n"
    "    --loss mse --steps 20000 --set model.features=8 --set patch=56,56,56",
)


def _how_to_resume(params: Mapping[str, Any]) -> str:
    """The command that goes on with a run; the settings are in its folder."""
    out = Path(str(params["out"]))
    if params["preview"] or not (out / "config.json").exists():
        return "nothing was written"
    from segkit.io.json_file import read_json_object

    data, validation = params["data"], params["validation"]
    if not data:  # that of the run which was repeated
        source = read_json_object(out / "card.json")["source"]
        data, validation = source["data"], source["validation"]
    words = ["segkit", "train", *data, "--out", str(out), "--resume"]
    words += [word for address in validation for word in ("--val", address)]
    for name in ("raw_dataset", "labels_dataset", "threads"):
        words += [f"--{name.replace('_', '-')}", str(params[name])] if params[name] else []
    return f"to go on from the last checkpoint: {shlex.join(words)}"


@dataclass(frozen=True)
class Volumes:
    """What DATA, --val, --raw-dataset and --labels-dataset say."""

    data: tuple[str, ...]
    validation: tuple[str, ...]
    raw_dataset: str | None
    labels_dataset: str | None


@dataclass(frozen=True)
class Patches:
    """What --preview and --samples say."""

    preview: str | None
    samples: int


@dataclass(frozen=True)
class Given:
    """What --config and --set say."""

    config: str | None
    assignments: tuple[str, ...]


SETTINGS = (
    *("model", "loss", "loss_backend", "steps", "voxel_size", "intensity_range"),
    *("seed", "device", "devices", "precision", "cache"),
)
"""Options that are settings of training."""


def _check(params: Mapping[str, Any], there: Callable[[str], bool]) -> None:
    """Refuse settings and volumes as training would, without reading the voxels."""
    from segkit.train import TrainConfig
    from segkit.train.run import check_settings, rehearse

    given, base = taken(Given, params), {}
    if params["like"]:
        if not there(params["like"]):
            return  # settings and data are those of a run to come
        from segkit.train.card import read_card

        base = read_card(Path(params["like"]))["settings"]
    settings = TrainConfig(
        **merged_settings(base, given.config, {name: params[name] for name in SETTINGS}, given.assignments)
    )
    if not params["data"] or not all(map(there, (*params["data"], *params["validation"]))):
        check_settings(settings)
        return
    datasets = params["raw_dataset"], params["labels_dataset"]
    check_names((*params["data"], *params["validation"]), *datasets)
    seen, others = (
        [volume for text in params[name] for volume in hollow_volumes(text, *datasets)]
        for name in ("data", "validation")
    )
    _check_voxels(settings, (*params["data"], *params["validation"]), *datasets)
    rehearse(settings, seen, others)


def _check_voxels(settings: Any, texts: Iterable[str], raw_dataset: str | None, labels_dataset: str | None) -> None:
    """Refuse volumes that do not say their voxel size where the settings need it."""
    from segkit.train.voxels import needs_voxel_size

    if why := needs_voxel_size(settings):
        check_all_stated(texts, raw_dataset, labels_dataset, why)


def _makes(params: Mapping[str, Any]) -> Made:
    found = {"out": params["out"], "steps": 1, "seconds": 1.0, "recoveries": 0, "ended_by": "steps"}
    return Made(found | ({"best": {}} if params["validation"] or params["like"] else {}), ("run",))


@click.command(
    "train", cls=Verb, stage=True, network=True, check=_check, makes=_makes, epilog=EXAMPLES, stopped=_how_to_resume
)
@click.argument("data", type=VOLUMES, nargs=-1)
@click.option(
    "--val",
    "validation",
    multiple=True,
    type=VOLUMES,
    help="Volume kept out of training, which is segmented and scored now and then: it chooses the best network and the "
    "threshold; repeatable.",
)
@click.option(
    "--out",
    type=NEW_RUN,
    help="Folder of the run, new or empty.  [required, but for --preview and --settings]",
)
@click.option("--steps", type=click.IntRange(min=1), help="Updates of the weights.  [default: 10000]")
@click.option("--like", type=RUN_FOLDER, help="Repeat this run: its settings, and its data unless DATA is given.")
@setting_options
@click.option("--voxel-size", type=VoxelSizeType(), help="Resample volumes to it, in nm.  [default: as they are]")
@intensity_option
@click.option("--raw-dataset", metavar="NAME", help="Dataset of the raw images.  [default: volumes/raw]")
@click.option(
    "--labels-dataset",
    metavar="NAME",
    help="Dataset of the labels; with * those of several annotators.  [default: volumes/labels/neuron_ids]",
)
@click.option("--settings", "listed", is_flag=True, help="List all settings, with --json for programs, and stop.")
@click.option(
    "--preview", type=FILE, metavar="FILE.png", help="Draw patches as the network will see them, and do not train."
)
@click.option("--samples", type=click.IntRange(min=1), default=4, show_default=True, help="Patches of --preview.")
@click.option("--resume", is_flag=True, help="Continue the run in RUN from its last checkpoint, with its settings.")
@seed_option
@click.option("--device", metavar="NAME", help=f"{DEVICES}  [default: auto]")
@click.option("--devices", type=click.IntRange(min=1), help="GPUs (or processes) that train together.  [default: 1]")
@precision_option(None)
@json_option
@gathered("volumes", Volumes)
@gathered("patches", Patches)
@gathered("given", Given)
def command(
    volumes: Volumes,
    out: str | None,
    resume: bool,
    like: str | None,
    patches: Patches,
    given: Given,
    listed: bool,
    as_json: bool,
    **options: Any,
) -> dict:
    """Train a network on DATA to predict affinities.

    DATA are files with raw images (volumes/raw), the ids of their neurons (volumes/labels/neuron_ids; 0 is background)
    and, if not all is annotated, a mask of what is (volumes/labels/mask). RUN receives the network and the log.

    Files of one volume, such as TIFF stacks, are named together: raw.tif,labels=neurons.tif, or with a mask
    raw.tif,labels=neurons.tif,mask=mask.tif.

    A crop, sample_A.hdf[0:100], is in voxels of the labels, z, y, x; the raw volume is cropped alike where it has the
    same shape, and kept whole, as context, where it is larger. Where --labels-dataset names several datasets, as
    volumes/labels/annotator_* does, each patch is labelled by one of them.

    --like RUN repeats a run: the same settings, data and seed give the same weights on the same machine. Options given
    beside it override its settings, and what differs from that run is reported.
    """
    if listed:
        return _list_settings(as_json)
    from segkit.train import TrainConfig, train

    if out is None:
        if resume or not patches.preview:
            raise click.MissingParameter(param_type="option", param_hint="'--out'")
        out = ""  # a preview writes no run
    if like and resume:
        raise click.UsageError("--like begins a new run, --resume goes on with an old one; give one of them")
    source = source_of(volumes.data, volumes.validation, volumes.raw_dataset, volumes.labels_dataset)
    base, on_card = read_settings(Path(out)) if resume else {}, None
    if like:
        from segkit.train.card import read_card

        check_run(Path(like), "--like", "card.json")
        card = read_card(Path(like))
        base, source, on_card = card["settings"], take_over(card, source), compare_with(card)
    elif not volumes.data:
        raise click.MissingParameter(param_type="argument", param_hint="'DATA...'")
    settings = TrainConfig(**merged_settings(base, given.config, options, given.assignments))
    chosen_precision(settings.precision, settings.device)  # a slow one is noted
    datasets = (source["raw_dataset"], source["labels_dataset"])
    check_names([*source["data"], *source["validation"]], *datasets)
    _check_voxels(settings, [*source["data"], *source["validation"]], *datasets)
    validation = () if patches.preview else source["validation"]
    seen, others = training_volumes(source["data"], validation, datasets, settings)
    if patches.preview:
        return _print(_preview(settings, seen, Path(patches.preview), patches.samples), as_json)
    with telling(settings, out, bool(others), on_card) as calls:
        result = train(settings, seen, Path(out), validation=others, resume=resume, source=source, **calls)
    return _print(_summary(result, settings, out), as_json)


def words_of_step(loss: float, parts: Mapping[str, float], rate: float, validated: str) -> tuple[str, str]:
    """What the bar says of a step: what must be seen, and the parts of the loss."""
    said = [f"loss {loss:.4f}", f"{rate:.{0 if rate >= 100 else 2}f} steps/s", validated]
    return "  ".join(filter(None, said)), "  ".join(f"{name} {value:.4f}" for name, value in parts.items())


def _print(result: dict, as_json: bool) -> dict:
    if as_json:
        echo_json(result)
    return result


@contextmanager
def telling(
    settings: Any, out: str, validates: bool, on_card: Callable[[dict], None] | None
) -> Iterator[dict[str, Callable]]:
    """Yield what training calls while it goes on: a bar of steps, and notes of what happens."""
    validated = _Validated()
    with progress("train") as report:

        def on_step(step: int, total: int, loss: float, parts: Mapping[str, float], steps_per_second: float) -> None:
            report(step, total, *words_of_step(loss, parts, steps_per_second, validated.text))

        def begin(card: dict) -> None:
            if settings.patch in (None, "auto"):
                note(f"patch={','.join(map(str, card['settings']['patch']))}, the network's output")
            if validates:
                note(f"what it looks like, renewed by each validation: {Path(out) / 'progress.png'}")
            if on_card is not None:
                on_card(card)

        yield {"on_step": on_step, "on_recovery": note, "on_validation": validated.see, "on_card": begin}


def _list_settings(as_json: bool) -> dict:
    from segkit.train.config import described_settings

    rows = described_settings()
    if as_json:
        echo_json([asdict(row) for row in rows])
    else:
        echo_described("Settings of training, as --set NAME=VALUE:\n", map(astuple, rows))
    return {}


def _summary(result: "TrainResult", settings: "TrainConfig", out: str) -> dict:
    """Say what a run came to, and return it."""
    found = {"out": out, "steps": result.steps, "seconds": result.seconds, "recoveries": result.recoveries}
    found["ended_by"] = result.ended_by
    found |= {"best": {"step": result.best.step, **result.best.scores}} if result.best else {}
    if result.already:
        note(_further(result, settings, out))
        return found
    losses = f"loss {result.first_loss:.4f} -> {result.last_loss:.4f}"
    recoveries = f", {result.recoveries} recoveries from a collapse" if result.recoveries else ""
    if result.best:
        scores = result.best.scores
        text = f"CREMI score {scores['cremi_score']:.3f} at threshold {scores['threshold']:g}"
        note(f"best on the validation volumes: {text}, after step {result.best.step}")
    if result.ended_by != "steps":
        note(_early(result, settings))
    note(f"{result.steps} steps in {result.seconds:.0f} s, {losses}{recoveries}; {out}")
    return found


def _further(result: "TrainResult", settings: "TrainConfig", out: str) -> str:
    """Say that a run had ended before, and how to train further."""
    if result.ended_by == "steps":
        return f"the run {out} has finished its {settings.steps} steps; set steps above {result.steps} to train further"
    rule = f"the run {out} has ended early, after {result.steps} steps"
    return f"{rule}; set validation.patience above {settings.validation.patience}, or to 0, to train further"


def _early(result: "TrainResult", settings: "TrainConfig") -> str:
    """What ended a run before its last step, in words."""
    if result.ended_by == "max_minutes":
        return f"stopped by max_minutes after step {result.steps} of {settings.steps}; --resume goes on"
    rule = f"no better CREMI score in {settings.validation.patience} validations in a row (validation.patience)"
    return f"ended early, after step {result.steps} of {settings.steps}: {rule}"


def _preview(settings: "TrainConfig", volumes: "Sequence[TrainingVolume]", path: Path, samples: int) -> dict:
    from segkit.io.atomic import check_folder, storage_errors
    from segkit.io.lock import writing
    from segkit.picture import save_picture
    from segkit.train.preview import enlargement, preview

    check_folder(path)
    rows = preview(settings, volumes, samples)
    with storage_errors("written", path), writing(path) as half:
        save_picture(half, rows, enlargement(rows))
    note(f"{samples} patches as the network will see them: {path}")
    return {"preview": str(path), "samples": samples}


class _Validated:
    """What the bar says of the last validation; what kept a network from being scored is said once."""

    text = problem = ""

    def see(self, step: int, values: Mapping[str, Any]) -> None:
        score = values.get("cremi_score")
        seen = f"validation loss {values['loss']:.4f}" if score is None else f"CREMI {score:.3f}"
        self.text = f"{seen} (step {step})"
        if values.get("problem", self.problem) != self.problem:
            self.problem = values["problem"]
            note(f"the validation volumes were not scored after step {step}: {self.problem}")
