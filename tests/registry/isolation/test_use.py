"""Components among bad plugins: the others load, run and describe themselves."""

import json

import numpy as np
import pytest

from segkit import Grid, Labels, io

TWO = np.repeat(np.array([1, 2], np.uint64), 4).reshape(2, 2, 2)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.h5"
    io.write(str(path), Labels(TWO, Grid((1, 1, 1))), "segmentation")
    return path


def test_others_run(installed, labels):
    words = ["evaluate", f"{labels}:volumes/segmentation", f"{labels}:volumes/segmentation"]
    scores = installed.json(*words, "--metric", "good-lab", "--metric", "cremi", "--metric", "cremi-lab:cremi")
    assert scores["good-lab"] == 2 and scores["cremi"] == 2 and scores["cremi_score"] == 0
    assert sorted(installed.imported()) == ["cremi_lab", "good_lab"]


def test_what_an_import_prints_spares_the_results(installed, labels):
    words = ["evaluate", f"{labels}:volumes/segmentation", f"{labels}:volumes/segmentation", "--metric", "loud-lab"]
    done = installed.segkit(*words, "--json")
    assert json.loads(done.stdout)["loud-lab"] == 2
    assert "hello" in done.stderr and "from C" in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("exits-lab", 1, "metric 'exits-lab' of exits-lab 1.0 cannot be used (SystemExit: 0)"),
        ("needs-lab", 1, "pip install 'no-such-lib>=2'"),
        ("twin", 2, "metric 'twin' is offered by twin-a 1.0 and twin-b 1.0; choose 'twin-a:twin' or 'twin-b:twin'"),
        ("damaged", 2, "the declarations of damaged-lab 1.0 cannot be read"),
    ],
)
def test_a_bad_one_says_why(installed, labels, name, code, reason):
    words = ["evaluate", f"{labels}:volumes/segmentation", f"{labels}:volumes/segmentation", "--metric", name]
    done = installed.segkit(*words)
    assert done.returncode == code and done.stdout == ""
    assert reason in done.stderr and "Traceback" not in done.stderr


def test_show(installed):
    shown = installed.json("plugins", "show", "metric", "good-lab")
    assert shown == {
        "kind": "metrics",
        "name": "good-lab",
        "distribution": "good-lab",
        "version": "1.0",
        "summary": "The plugin good-lab.",
        "home_page": "https://example.org/good-lab",
        "class": "good_lab:Thing",
        "segkit_api": "1",
        "file": str(installed.folder / "good_lab.py"),
        "description": shown["description"],
        "references": ["doi:10.1000/182"],
        "parameters": [
            {
                "parameter": "factor",
                "type": "float",
                "choices": None,
                "required": False,
                "default": "1.0",
                "description": "What the count is multiplied by.",
            }
        ],
        "problem": "",
    }
    assert shown["description"].startswith("Counts the segments")


def test_show_says_what_is_wrong(installed):
    assert "it prints when it is imported" in installed.json("plugins", "show", "metrics", "loud-lab")["problem"]
    done = installed.segkit("plugins", "show", "metrics", "raises-lab", "--json")
    assert done.returncode == 1 and done.stdout == "" and "RuntimeError: no GPU" in done.stderr


def test_completion_imports_none(installed):
    words = "segkit plugins show metric good"
    done = installed.segkit(_SEGKIT_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="4")
    assert done.stdout.split() == ["plain,good-lab"]
    assert installed.imported() == []


def test_completion_tells_equal_names_apart(installed):
    words = "segkit evaluate a b --metric "
    done = installed.segkit(_SEGKIT_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="5")
    names = {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert {"cremi", "cremi-lab:cremi", "twin-a:twin", "twin-b:twin", "good-lab"} <= names and "twin" not in names
