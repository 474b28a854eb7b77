"""Stages of recipes as typed calls: what a verb gets, what a stage reads and makes, and what is refused."""

from pathlib import Path

import click
import pytest

from segkit.cli.main import VERBS, find_verbs, verb_named
from segkit.cli.steps import Step
from segkit.cli.types import Text, components
from segkit.errors import InvalidInput, InvalidParameter
from segkit.run import RecipeStage


def step(verb: str, **options) -> Step:
    return Step.of(RecipeStage("own", verb, options))


def test_values_have_the_types_of_the_parameters():
    values = step("infer", raw="r.h5", run="run", out="a.h5", tile=[1, 2, 3], augment="flips").values()
    assert values["tile"] == (1, 2, 3) and values["batch_size"] == 1 and values["compiled"] is False
    assert values["run_folder"] == "run" and values["blockwise"] is False and values["threads"] is None
    assert step("evaluate", segmentation="s.h5", truth=["a", "b"], border=25).values()["truth"] == ("a", "b")
    assert step("evaluate", segmentation="s.h5", truth="a").values()["metrics"] == ("cremi",)


def test_settings_keep_their_types():
    """A text is read as on a command line, and everything else is as TOML has it."""
    table = {"threshold": 0.4, "per_section": True, "offsets": [[1, 2]], "seed_distance": "40", "name": "same"}
    values = step("fragment", affinities="a.h5", out="f.h5", set=table).values()
    assert values["assignments"] == table | {"seed_distance": 40}


def test_what_a_step_reads_and_makes_and_names():
    train = step("train", data=["a.h5[0:5]"], val="b.h5", config="c.toml", model="unet3d", out="x/run")
    values = train.values()
    assert list(train.given(values).items()) == [
        ("data", ("a.h5[0:5]",)),
        ("validation", ("b.h5",)),
        ("config", "c.toml"),
    ]
    assert train.files(values) == ([Path("a.h5"), Path("b.h5"), Path("c.toml")], [Path("x/run")])
    assert train.components(values) == [("models", "unet3d")]
    segment = step("segment", merge_tree="t.h5", like="raw.h5", threshold=0.5, out="s.h5")
    assert segment.files(segment.values()) == ([Path("t.h5"), Path("raw.h5")], [Path("s.h5")])
    both = step("evaluate", segmentation="s.h5", truth="t.h5", metric=["voi", "rand"])
    assert both.components(both.values()) == [("metrics", "voi"), ("metrics", "rand")]


@pytest.mark.parametrize(
    ("verb", "options", "message"),
    [
        ("infer", {"raw": ["a", "b"]}, "raw of stage 'own' must be one value"),
        ("infer", {"raw": {"a": 1}}, "must be no table"),
        ("fragment", {"per-section": 1}, "must be true or false"),
        ("benchmark", {}, "must be one of train, infer, fragment, fit, agglomerate, fuse, segment, evaluate, not"),
        ("types", {}, "verb of stage 'own' must be one of"),
    ],
)
def test_refusals(verb, options, message):
    with pytest.raises(InvalidInput, match=message):
        step(verb, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": "r", "out": "o"}, "Missing argument 'RAW'"),
        ({"raw": "a", "run": "r", "out": "o", "batch-size": 1.5}, "'1.5' is not a valid integer"),
        ({"raw": "a", "run": "r", "out": "o", "batch-size": 0}, "0 is not in the range"),
        ({"raw": "a", "run": "r", "out": "o", "tile": [1, 2]}, "Takes 3 values but 2 were given"),
        ({"raw": "a", "run": "r", "out": "o", "augment": "half"}, "'half' is not one of"),
    ],
)
def test_values_that_a_call_would_refuse(options, message):
    with pytest.raises(click.UsageError) as refused:
        step("infer", **options).values()
    assert message in refused.value.format_message()


def test_an_empty_list_is_no_argument():
    evaluate = step("evaluate", segmentation="s.h5", truth=[])
    with pytest.raises(InvalidParameter, match="TRUTH must be given"):
        evaluate.verb.check(evaluate.values(), lambda path: False)


def test_every_verb_says_what_it_reads():
    """The parameters of stages whose values look like addresses have a type that says so."""
    for name in VERBS:
        verb = verb_named(name)
        if getattr(verb, "stage", False):
            reads = [param for param in verb.params if getattr(param.type, "reads", False)]
            writes = [param for param in verb.params if getattr(param.type, "writes", False)]
            assert reads and (writes or name == "evaluate"), name
            assert verb.makes.__module__ == f"segkit.cli.{name}", f"{name} must say what it makes"
            context = click.Context(verb)
            called = {param: param.make_metavar(context).strip("[].") for param in verb.params}
            words = ("ADDRESS", "AFFINITIES", "DATA", "MERGE_TREE", "RAW", "RUN", "SEGMENTATION", "TRUTH")
            assert all(isinstance(param.type, Text) for param, word in called.items() if word in words), name
            named = [param for param in verb.params if param.name in ("model", "method", "backend", "metrics")]
            assert [param for param, _ in components(verb.params)] == named, name


def test_a_verb_is_one_file(tmp_path):
    (tmp_path / "zap.py").write_text('"""segkit zap: Remove what nobody needs."""\n')
    (tmp_path / "infer.py").write_text('"""segkit infer: Predict.\n\nMore."""\n')
    (tmp_path / "zap_all.py").write_text('"""segkit zap all: no verb."""\n')
    (tmp_path / "tools.py").write_text('"""What verbs share."""\n')
    (tmp_path / "empty.py").write_text("")
    assert find_verbs(tmp_path) == {"infer": "Predict.", "zap": "Remove what nobody needs."}
