"""The settings of training in words: for the shell, and for whoever writes pages about them."""

import json
import subprocess
import sys

import pytest
from pydantic import BaseModel

from segkit.parameters import nest, parse_assignments
from segkit.train.config import TrainConfig, described_settings

SETTINGS = {setting.name: setting for setting in described_settings()}


def fields(model, prefix=""):
    """The names of all fields that are no tables, found in another way: in a dump of all of them."""
    for name in model.model_dump():
        inner = getattr(model, name)
        yield from fields(inner, f"{prefix}{name}.") if isinstance(inner, BaseModel) else [prefix + name]


def test_none_is_missing():
    everything = TrainConfig(descriptors={}, averaging={})
    tables = {"model_parameters": "model.NAME", "loss_parameters": "loss.NAME"}
    expected = [tables.get(name, name) for name in fields(everything)]
    expected = [f"{name}.NAME" if name.endswith("_parameters") else name for name in expected]
    assert [setting.name for setting in described_settings()] == expected


@pytest.mark.parametrize("name", SETTINGS)
def test_each_has_a_sentence(name):
    setting = SETTINGS[name]
    assert len(setting.description) > 10 and setting.description.endswith((".", ")"))
    assert setting.type and "Annotated" not in setting.type and "FieldInfo" not in setting.type


def test_defaults_can_be_set_as_they_are_shown():
    shown = [f"{name}={each.default}" for name, each in SETTINGS.items() if each.default not in ("", "None")]
    assert TrainConfig(**nest(parse_assignments(shown))) == TrainConfig(descriptors={}, averaging={})


def test_types_say_their_bounds():
    assert SETTINGS["steps"].type == "int >= 1" and SETTINGS["min_labelled"].type == "float in 0..1"
    assert SETTINGS["learning_rate"].type == "float > 0" and SETTINGS["schedule"].type == "'constant' | 'cosine'"


def test_the_shell_lists_them(segkit):
    text = segkit("train", "--settings").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "\naugmentation.elastic.spacing = [16.0, 32.0, 32.0]\n    (tuple[float >= 2, " in text
    words = " ".join(text.split())
    assert all(setting.description in words for setting in SETTINGS.values())
    assert json.loads(segkit("train", "--settings", "--json").stdout)[0]["name"] == "model"


def test_describing_needs_no_torch():
    code = "import sys, segkit.train.config as d; d.described_settings(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
