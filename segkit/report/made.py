"""The section on what was run: stages with their commands, settings, versions, data, machine."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segkit.benchmark.measure import machine
from segkit.io.json_file import read_json_if_whole
from segkit.report.blocks import Block, Code, Number, Section, Table, Text
from segkit.report.sources import FinishedStage, Sources

KEY, TITLE = "made", "What was run"
TOLD = ("merges", "fragments", "segments", "threshold", "cremi_score", "steps")
"""Keys of a stage's result that its row shows."""


def section(sources: Sources) -> Section:
    """Stages, the card of the training run, and where the files are."""
    cards = [(run, read_json_if_whole(run / "card.json")) for run in sources.runs]
    run, card = next(((run, card) for run, card in cards if card), (None, {}))
    blocks: list[Block] = []
    if sources.stages:
        blocks.append(Table.of([_stage(stage) for stage in sources.stages], "Stages in the order in which they ran."))
    else:
        blocks.append(Text("No record of a recipe (stages.json) is here, so the commands are not known.", "small"))
    if card:
        blocks += _card(run, card)
    elif not sources.runs:
        blocks.append(Text("No training run is here, and so no card of one.", "small"))
    if addresses := _addresses(sources):
        blocks.append(Table(["volume", "address"], addresses, "Where the volumes of this page were read."))
    return Section(KEY, TITLE, blocks)


def _stage(stage: FinishedStage) -> dict[str, object]:
    told = [f"{name.replace('_', ' ')} {_plain(stage.result[name])}" for name in TOLD if name in stage.result]
    return {
        "stage": stage.name,
        "command": Code(shlex.join(stage.command)),
        "seconds": Number(stage.seconds, 1),
        "result": ", ".join(told),
    }


def _card(run: Path | None, card: Mapping[str, Any]) -> list[Block]:
    settings = card.get("settings", {})
    names = ("model", "loss", "steps", "batch_size", "patch", "learning_rate", "schedule", "precision", "seed")
    rows = [(name.replace("_", " "), _plain(settings[name])) for name in names if settings.get(name) is not None]
    model = ", ".join(f"{name} {_plain(value)}" for name, value in settings.get("model_parameters", {}).items())
    if model:
        rows.insert(1, ("parameters of the model", model))
    versions = ", ".join(f"{name} {each}" for name, each in card.get("versions", {}).items() if each)
    hardware = ", ".join(f"{name} {each}" for name, each in card.get("hardware", {}).items())
    rows += [("versions", versions), ("machine", hardware)]
    settings_table = Table(["", f"training run {run}"], rows, "The rest of the settings is in its config.json.")
    data = [row for purpose, volumes in card.get("data", {}).items() for row in _volumes(purpose, volumes)]
    return [settings_table, *([Table.of(data, "Data of the training run.")] if data else [])]


def _volumes(purpose: str, volumes: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    return [
        {
            "for": purpose,
            "volume": f"{number}, {name}",
            "shape z, y, x": " x ".join(map(str, part["shape"])),
            "type": part["dtype"],
            "voxel (nm)": " x ".join(f"{edge:g}" for edge in part["voxel_size"]),
            "SHA-256 begins": Code(part["sha256"][:12]) if "sha256" in part else _of_boxes(part),
        }
        for number, volume in enumerate(volumes)
        for name, part in volume.items()
    ]


def _of_boxes(part: Mapping[str, Any]) -> str:
    """Say what is known of a volume that was not in memory."""
    return f"{part['boxes_sha256'][:12]} (of some boxes)"


def _addresses(sources: Sources) -> list[tuple[str, object]]:
    known = {"raw": sources.raw, "truth": sources.truth, "affinities": sources.affinities}
    known |= {"fragments": sources.fragments, "merge tree": sources.merge_tree}
    titles = {
        title: "segmentation" if title == "segmentation" else f"segmentation {title}" for title in sources.segmentations
    }
    known |= {titles[title]: at for title, at in sources.segmentations.items() if title not in known}
    return [(name, Code(str(at))) for name, at in known.items() if at]


def made_by() -> str:
    """Who made a page, where and when."""
    here = machine()
    versions: Any = here["versions"]
    return f"Made by segkit {versions['segkit']} on {here['date']}, {here['processor']}, {here['cores']} cores."


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
