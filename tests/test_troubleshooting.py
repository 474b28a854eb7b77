"""The page on troubleshooting: what it quotes is what the code says, and its commands are calls.

Each line of a ```text block is a message of segkit; `...` stands for what varies.
"""

import ast
import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text()
SHORTEST = 6
"""Letters of a piece of a message that are looked for."""


def quoted() -> list[str]:
    """The messages on the page."""
    return [line for block in re.findall(r"^```text\n(.*?)^```$", TEXT, re.M | re.S) for line in block.splitlines()]


def pieces(message: str) -> list[str]:
    """The parts of a message between what varies; `sentence` puts in ", not" and semicolons."""
    parts = re.split(r"(?<!\d)\.\.\.|, not |; ", message)
    return [part.strip(" .") for part in parts if len(part.strip(" .")) >= SHORTEST]


@cache
def literals() -> tuple[str, ...]:
    """All texts in the code but docstrings; of an f-string the parts between its fields."""
    found = set()
    for path in [*(ROOT / "segkit").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]:
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
        found |= {node.value for node in nodes if isinstance(node.value, str)}
    return tuple(found)


def is_said(piece: str) -> bool:
    """Whether a text of the code holds a piece, or several make it up: argument and rule, say."""
    if any(piece in text for text in literals()):
        return True
    return any(
        begins(piece[at:].strip()) and any(text.strip().endswith(piece[:at].strip()) for text in literals())
        for at in range(2, len(piece) - 1)
    )


@cache
def begins(rest: str) -> bool:
    """Whether a text begins with `rest`, or is the first part of it and others make up what follows."""
    if any(text.strip().startswith(rest) for text in literals()):
        return True
    heads = {text.strip() for text in literals() if len(text.strip()) >= SHORTEST}
    return any(rest.startswith(head) and begins(rest[len(head) :].strip()) for head in heads if head != rest)


@pytest.mark.parametrize("message", quoted())
def test_messages_are_those_of_the_code(message):
    assert pieces(message), "nothing of it can be looked for"
    for piece in pieces(message):
        assert is_said(piece), piece


def test_a_message_that_nobody_says_is_seen():
    assert is_said("must lie in 0..1") and is_said("affinities must lie in 0..1")
    assert not is_said("affinities must lie in 1..2") and not is_said("the voxels are unhappy today")


def test_there_is_enough():
    assert len(re.findall(r"^### ", TEXT, re.M)) >= 25


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("segkit ")]


@pytest.mark.parametrize("line", [line for line in commands() if line != "segkit --version"])
def test_commands_are_calls(line):
    verb, *words = shlex.split(line)[1:]
    command = import_module(f"segkit.cli.{verb}").command
    if verb == "plugins":
        command, words = command.commands[words[0]], words[1:]
    command.make_context(verb, words)
