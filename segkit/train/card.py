"""The card of a run: what it was made of, so that it can be repeated, and what differs when it is."""

import hashlib
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segkit import __version__
from segkit.data import Labels, Volume
from segkit.data.source import TypedSource
from segkit.errors import MissingFile, StorageError, sentence
from segkit.io.json_file import read_json_object
from segkit.losses.combined import parse_terms
from segkit.models.device import resolve_device
from segkit.models.inputs import sample_boxes
from segkit.registry import find
from segkit.system import cores
from segkit.train.checkpoint import RunFolder
from segkit.train.config import TrainConfig
from segkit.train.data import TrainingVolume

KIND, FORMAT_VERSION = "segkit-run", 1
LIBRARIES = ("torch", "lightning-fabric", "numba", "numpy", "scipy", "edt", "fastremap", "connected-components-3d")
"""Distributions whose version, beside segkit's own, may change a result."""


def make_card(
    config: TrainConfig,
    volumes: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
    source: Mapping[str, object] | None,
) -> dict[str, object]:
    """Collect all that decides what a run comes to; `source` says where its volumes were read, in plain values."""
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "settings": json.loads(config.model_dump_json()),
        "seed": config.seed,
        "source": dict(source or {}),
        "data": {
            "training": [fingerprint(volume) for volume in volumes],
            "validation": [fingerprint(volume) for volume in validation],
        },
        "versions": {"python": platform.python_version(), "segkit": __version__}
        | {name: _version(name) for name in LIBRARIES},
        "components": _components(config, bool(validation)),
        "hardware": _hardware(config),
    }


def fingerprint(volume: TrainingVolume) -> dict[str, dict[str, object]]:
    """Describe the arrays of a volume: shape, dtype, place, SHA-256; equal for equal values, however stored.

    Of what is not in memory not all is read: it has the SHA-256 of some boxes alone, which all have.
    """
    parts = {"raw": volume.raw, "labels": volume.labels, "mask": volume.mask}
    return {name: _fingerprint(part) for name, part in parts.items() if part is not None}


def _fingerprint(part: TypedSource) -> dict[str, object]:
    found: dict[str, object] = {
        "shape": list(part.shape),
        "dtype": part.dtype.name,
        "voxel_size": list(part.grid.voxel_size),
        "offset": list(part.grid.offset),
        "boxes_sha256": _digest(map(part.read, sample_boxes(part.shape))),
    }
    return found | ({"sha256": _digest(part.array)} if isinstance(part, Volume | Labels) else {})


def read_card(run: Path) -> dict[str, Any]:
    """Read the card of a run. Raises MissingFile if there is none, StorageError if it is damaged or of another kind."""
    path = RunFolder(run).card
    if not path.is_file():
        rule, next_step = "must be the folder of a run with a card.json", "check its path"
        raise MissingFile(sentence("the run to repeat", rule, repr(str(run)), next_step))
    card = read_json_object(path)
    if (card.get("kind"), card.get("format_version")) != (KIND, FORMAT_VERSION):
        raise StorageError(sentence(str(path), f"must be of kind {KIND}, version {FORMAT_VERSION}"))
    return card


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List what differs between two cards, a sentence for each thing; settings that name places do not count.

    >>> differences({"versions": {"torch": "2.1"}}, {"versions": {"torch": "2.2"}})
    ['versions: torch is 2.2 and was 2.1']
    """
    found = []
    for topic in ("settings", "versions", "components", "hardware"):
        old, new = before.get(topic, {}), now.get(topic, {})
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                found.append(f"{topic}: {name} is {new.get(name)} and was {old.get(name)}")
    for purpose in ("training", "validation"):
        found += _other_data(purpose, before.get("data", {}).get(purpose, []), now.get("data", {}).get(purpose, []))
    return found


def _other_data(purpose: str, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(before) != len(now):
        return [f"data: there are {len(now)} {purpose} volumes and were {len(before)}"]
    found = []
    for number, (old, new) in enumerate(zip(before, now, strict=True)):
        parts = [name for name in dict.fromkeys([*old, *new]) if _differ(old.get(name, {}), new.get(name, {}))]
        if parts:
            found.append(f"data: {' and '.join(parts)} of {purpose} volume {number} are others")
    return found


def _differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Say whether two fingerprints differ in what both say; earlier versions and volumes not in memory say less."""
    return not old or not new or any(old[name] != new[name] for name in old.keys() & new.keys())


def _digest(sections: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256()
    for section in sections:
        found.update(np.ascontiguousarray(section, dtype=section.dtype.newbyteorder("<")).data)
    return found.hexdigest()


def _components(config: TrainConfig, validated: bool) -> dict[str, str]:
    """List distribution and version of every component that takes part."""
    named = [("models", config.model)] + [("losses", name) for name in parse_terms(config.loss)]
    if config.health.every:
        named.append(("fragmenters", config.health.fragmenter))
    if validated and config.validation.segmentation:
        named += [("fragmenters", config.validation.fragmenter), ("agglomerators", config.validation.agglomerator)]
    found = [find(kind, name) for kind, name in named]
    return {f"{each.kind}/{each.name}": f"{each.distribution} {each.version}" for each in found}


def _hardware(config: TrainConfig) -> dict[str, object]:
    device = resolve_device(config.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "threads": config.threads or torch.get_num_threads(),
        "device": name,
    }


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
