"""The recipe of a choice: what `segkit run` does with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from segkit.blockwise import ComponentSpec
from segkit.tune.space import Combination


@dataclass(frozen=True)
class Inputs:
    """Say what a recipe reads."""

    affinities: str
    """Address; of raw data where a network predicts the affinities."""
    truth: str
    run: str | None = None
    """Folder of the training run whose network predicts."""
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """More options of a stage, by its name."""


def recipe_text(combination: Combination, threshold: float, inputs: Inputs, description: str) -> str:
    """Return the TOML of a recipe: perhaps infer, then fragment, agglomerate at the threshold, and evaluate."""
    source = "raw" if inputs.run else "affinities"
    stages: dict[str, dict[str, object]] = {"data": {source: inputs.affinities, "truth": inputs.truth}}
    affinities = "{data.affinities}"
    if inputs.run:
        affinities = "{out}/affinities.h5"
        stages["infer"] = {"raw": "{data.raw}", "run": inputs.run, "out": affinities}
    fragmenter, agglomerator = combination.fragmenter, combination.agglomerator
    made: dict[str, object] = {"set": _parameters(fragmenter), "out": "{out}/fragments.h5"}
    stages["fragment"] = {"affinities": affinities, "method": fragmenter.name} | made
    made = {"set": _parameters(agglomerator), "threshold": threshold, "out": "{out}/segmentation.h5"}
    merged = {"affinities": affinities, "fragments": "{out}/fragments.h5", "backend": agglomerator.name}
    stages["agglomerate"] = merged | made
    stages["evaluate"] = {"segmentation": "{out}/segmentation.h5", "truth": "{data.truth}"}
    lines = [f'title = "Chosen by segkit tune"\ndescription = {_toml(description)}']
    for name, options in stages.items():
        known = {key: value for key, value in (options | dict(inputs.options.get(name, {}))).items() if value != {}}
        lines.append("\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in known.items())]))
    return "\n\n".join(lines) + "\n"


def _parameters(spec: ComponentSpec) -> dict[str, object]:
    return {name: value for name, value in spec.parameters.items() if value is not None}


def _toml(value: object) -> str:
    """A value as TOML, whose strings and lists may be written as those of JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON writes 😀 as two escapes: no TOML
