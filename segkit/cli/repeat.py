"""Repeating a run: what `segkit train --like RUN` takes over from it, and what it says of differences."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segkit.cli.common import note
from segkit.errors import InvalidInput, sentence


def source_of(
    data: Sequence[str], validation: Sequence[str], raw_dataset: str | None, labels_dataset: str | None
) -> dict[str, Any]:
    """Where the volumes of a call are read, in a form that holds in any working directory."""
    return {
        "data": [_absolute(text) for text in data],
        "validation": [_absolute(text) for text in validation],
        "raw_dataset": raw_dataset,
        "labels_dataset": labels_dataset,
    }


def take_over(card: Mapping, source: dict[str, Any]) -> dict[str, Any]:
    """`source`, where it names no data that of the run with this card. Raises InvalidInput if there are none."""
    from segkit.io import parse_address, parts_of

    if source["data"]:
        return source
    before = card["source"]
    if not before.get("data"):
        rule = "must be given for a run that was not trained by the command line"
        raise InvalidInput(sentence("DATA", rule))
    files = [part for text in before["data"] for part in parts_of(text).values()]
    absent = next((text for text in files if not parse_address(text).path.exists()), None)
    if absent is not None:
        rule = f"must be given: {absent}, which the run was trained on, is not on this machine"
        raise InvalidInput(sentence("DATA", rule, None, "name the copy of it here"))
    return {name: source.get(name) or value for name, value in before.items()}


def compare_with(card: Mapping) -> Callable[[Mapping], None]:
    """What tells the user how a run differs from the one with this card."""

    def compare(now: Mapping) -> None:
        from segkit.train.card import differences

        for difference in differences(card, now):
            note(f"not as in the run that is repeated: {difference}")

    return compare


def _absolute(text: str) -> str:
    from segkit.io import parts_of
    from segkit.io.address import PARTS

    words = {role: f",{word}=" for word, role in PARTS.items()}
    return "".join(words.get(role, "") + _absolute_part(part) for role, part in parts_of(text).items())


def _absolute_part(text: str) -> str:
    from segkit.io import parse_address

    place = parse_address(text).path
    if not isinstance(place, Path):
        return text
    path = str(place)
    return os.path.abspath(path) + text[len(path) :] if text.startswith(path) else str(Path(text).absolute())
