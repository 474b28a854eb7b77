"""Sequences of numbers after --set, with and without brackets."""

import json
from typing import Annotated, Literal

import pytest
from pydantic import Field

from segkit import io
from segkit.errors import InvalidParameter
from segkit.parameters import Parameter, as_numbers, convert
from segkit.train.config import TrainConfig


@pytest.mark.parametrize("text", ["48,32,16", "[48,32,16]", "48, 32, 16", "[48, 32, 16]"])
def test_a_setting_of_training(text):
    from segkit.cli.runs import merged_settings

    assert TrainConfig(**merged_settings({}, None, {}, (f"patch={text}",))).patch == [48, 32, 16]


def test_settings_of_nested_tables():
    config = TrainConfig(augmentation={"flips": "0,0.5,1", "elastic": {"spacing": "8,16,16"}}, voxel_size="40,4,4")
    assert config.augmentation.flips == (0, 0.5, 1) and config.augmentation.elastic.spacing == (8, 16, 16)
    assert config.voxel_size == (40, 4, 4)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (tuple[int, int, int], "1,2,3", (1, 2, 3)),
        (list[float] | None, "1,2.5", [1.0, 2.5]),
        (Literal["auto"] | tuple[int, ...], "4,4", (4, 4)),
        (Literal["auto"] | tuple[int, ...], "auto", "auto"),
        (tuple[Annotated[int, Field(ge=1)], ...], "-1,2", None),
        (str, "1,2", "1,2"),
        (tuple[int, int], "1,x", None),
        (tuple[int, int], "1,true", None),
        (list[str], "a,b", None),
    ],
)
def test_parameters_of_components(annotation, value, expected):
    known = {"name": Parameter("name", annotation, None)}
    if expected is None:
        with pytest.raises(InvalidParameter, match="parameter 'name' of it"):
            convert(known, {"name": value}, "it")
    else:
        assert convert(known, {"name": value}, "it") == {"name": expected}


def test_lists_of_lists_need_their_brackets():
    assert as_numbers("1,3,3", list[tuple[int, int, int]]) == "1,3,3"


def test_what_is_no_list_is_refused_with_the_name_of_the_setting(segkit, tmp_path):
    done = segkit("train", "x.h5", "--out", tmp_path / "run", "--set", "patch=48,x,48")
    assert done.exit_code == 2 and "setting 'patch' does not fit, not '48,x,48'" in done.stderr


def test_auto_from_the_shell(segkit, tmp_path):
    """The sizes are said, and written down."""
    from tests.train.training_helpers import tubes

    tube = tubes()
    io.write_all(tmp_path / "tubes.h5", {"raw": tube.raw, "truth": tube.labels})
    words = [
        "--set",
        "model.features=3",
        "--set",
        "model.growth=2",
        "--set",
        "model.pooling=[[1,2,2]]",
        "--loss",
        "mse",
    ]
    words += ["--set", "patch=auto", "--steps", "1", "--device", "cpu", "--set", "health.every=0", "--json"]
    done = segkit("train", tmp_path / "tubes.h5", "--out", tmp_path / "run", *words)
    assert done.exit_code == 0, done.stderr
    patch = json.loads((tmp_path / "run/config.json").read_text())["patch"]
    assert f"patch={','.join(map(str, patch))}" in done.stderr
    assert json.loads(done.stdout)["steps"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("view", "x.h5", "--threshold", "nan"),
        ("report", "run", "--border", "inf"),
        ("evaluate", "a.h5", "b.h5", "--border", "nan"),
        ("evaluate", "a.h5", "b.h5", "--border", "-1"),
        ("plugins", "list", "--check", "--timeout", "nan"),
        ("view", "x.h5", "--size", "0", "10"),
        ("infer", "x.h5", "--run", "r", "--out", "y.h5", "--tile", "0", "8", "8"),
        ("agglomerate", "x.h5", "--out", "y.h5", "--threshold", "50"),
    ],
)
def test_options_refuse_what_is_no_number_in_their_range(segkit, words):
    done = segkit(*words)
    option = next(word for word in words[::-1] if word.startswith("--"))
    assert done.exit_code == 2 and option in done.stderr


def test_a_parameter_is_never_nan():
    with pytest.raises(InvalidParameter, match="'alpha' of it must be float and a number, not nan"):
        convert({"alpha": Parameter("alpha", float, 1.0)}, {"alpha": float("nan")}, "it")
