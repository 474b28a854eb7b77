"""Completion of component names, asked as a shell asks."""

import subprocess
import sys

import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from segkit.cli.main import main
from segkit.protocols import GROUPS
from segkit.registry import components


def completions(*words):
    """What a shell would offer for the last of the words."""
    *before, incomplete = words
    return [
        item.value for item in BashComplete(main, {}, "segkit", "_SEGKIT_COMPLETE").get_completions(before, incomplete)
    ]


def names(kind):
    return {component.name for component in components(kind)}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["train", "data.h5", "--model", ""], "models"),
        (["train", "data.h5", "--loss", ""], "losses"),
        (["fragment", "a.h5", "--method", ""], "fragmenters"),
        (["agglomerate", "a.h5", "--backend", ""], "agglomerators"),
        (["evaluate", "s.h5", "t.h5", "--metric", ""], "metrics"),
        (["evaluate", "s.h5", "t.h5", "--metric", "voi", "--metric", ""], "metrics"),
        (["benchmark", "agglomerate", "a.h5", "--backend", ""], "agglomerators"),
        (["benchmark", "fragment", "a.h5", "--method", ""], "fragmenters"),
        (["benchmark", "evaluate", "s.h5", "t.h5", "--metric", ""], "metrics"),
        (["plugins", "show", "loss", ""], "losses"),
        (["plugins", "show", "losses", ""], "losses"),
    ],
)
def test_all_names_of_a_kind(words, kind):
    found = completions(*words)
    assert set(found) == names(kind) and len(found) == len(set(found))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["agglomerate", "a.h5", "--backend", "refe"], ["reference"]),
        (["agglomerate", "a.h5", "--backend", "nothing"], []),
        (["train", "data.h5", "--loss", "mse+0.1*constr"], ["mse+0.1*constrained-malis"]),
        (["train", "data.h5", "--loss", "mse+bc"], ["mse+bce"]),
        (["benchmark", "agglomerate", "a.h5", "--backend", "mine=refe"], ["mine=reference"]),
        (["plugins", "show", "nonsense", ""], []),
        (["plugins", "show", "agg"], ["agglomerators"]),
        (["plugins", "list", "agglomerator"], ["agglomerators"]),
        (["plugins", "list", "loss"], ["losses"]),
    ],
)
def test_what_begins_so(words, expected):
    assert completions(*words) == expected


def test_kinds():
    assert completions("plugins", "list", "") == list(GROUPS)


@pytest.mark.parametrize("shell", [BashComplete, ZshComplete, FishComplete])
def test_every_shell(shell, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", "segkit agglomerate a.h5 --backend refe")
    monkeypatch.setenv("COMP_CWORD", "refe" if shell is FishComplete else "4")
    complete = shell(main, {}, "segkit", "_SEGKIT_COMPLETE")
    assert "reference" in complete.complete() and "python" not in complete.complete()
    assert f"_SEGKIT_COMPLETE={shell.name}_complete" in complete.source()


def test_the_help_says_how_to_switch_it_on(segkit):
    text = segkit("--help").stdout
    assert all(f"_SEGKIT_COMPLETE={shell}_source segkit" in text for shell in ("bash", "zsh", "fish"))


def test_it_loads_nothing_heavy():
    code = (
        "import sys; from click.shell_completion import BashComplete; from segkit.cli.main import main\n"
        "BashComplete(main, {}, 'segkit', 'X').get_completions(['train', 'd', '--model'], '')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "lightning_fabric", "numba", "scipy", "skimage", "higra", "pydantic"} & set(
        done.stdout.split()
    )
