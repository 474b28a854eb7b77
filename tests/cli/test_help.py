"""The help of every verb: it fits the screen, every option is described, and its examples are calls that parse."""

import shlex
from collections.abc import Iterator

import click
import pytest

from segkit.cli.main import VERBS, main

COLUMNS = 80


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every verb and subcommand."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def found(path: tuple[str, ...]) -> click.Command:
    command = main
    for name in path:
        command = command.get_command(click.Context(command), name)
    return command


def examples(text: str) -> list[str]:
    """The calls at the end of a help text, each in one line."""
    _, _, end = text.partition("Examples:\n")
    return [line.strip() for line in end.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help(segkit, path):
    result = segkit(*path, "--help")
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if len(line) > COLUMNS] == []
    calls = examples(result.stdout)
    assert 1 <= len(calls) <= 3
    for call in calls:
        program, *words = shlex.split(call)
        assert program == "segkit" and tuple(words[: len(path)]) == path
        parses(words)


def parses(words: list[str]) -> None:
    """Raise click's error unless the words are a call of a command, which is not run."""
    command = main
    while isinstance(command, click.Group):
        command, words = command.get_command(click.Context(command), words[0]), words[1:]
    command.make_context(command.name, list(words))


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_option_is_described(path):
    options = [parameter for parameter in found(path).params if isinstance(parameter, click.Option)]
    assert [option.opts for option in options if not option.help] == []
    for option in options:
        assert option.help[0].isupper() or not option.help[0].isalpha(), option.opts
        assert option.help.rstrip().endswith((".", "]")), option.opts


def test_an_example_that_is_no_call_is_found():
    with pytest.raises(click.NoSuchOption):
        parses(shlex.split("segment tree.h5 --threshhold 0.5 --out cut.h5"))


def test_the_table_of_verbs_says_what_each_does():
    assert all(text[0].isupper() and text.endswith(".") for text in VERBS.values())
