"""What a run has finished: a stage is done if its command, its inputs and its outputs are what they were then."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any
from warnings import warn

from segkit import __version__
from segkit.errors import SegkitError, SegkitWarning
from segkit.io.address import Address, parse_address
from segkit.io.atomic import replacing, storage_errors
from segkit.io.json_file import read_json_object
from segkit.io.remote import Remote


class Record:
    """The file stages.json in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stages.json"
        self._changing = Lock()  # a stage ends in another thread, once its files are written
        self.stages: dict[str, dict[str, Any]] = _entries(self.path) if self.path.exists() else {}

    def result(self, stage: str, inputs: str, outputs: Iterable[Path | Remote]) -> dict | None:
        """What a finished stage returned; None if it must be run (again)."""
        entry = self.stages.get(stage, {})
        if "result" not in entry or entry.get("inputs") != inputs or entry.get("outputs") != fingerprint([], outputs):
            return None
        return entry["result"]

    def begin(self, stage: str, inputs: str) -> bool:
        """Note that a stage begins; True if the same stage had begun before, with equal inputs, and was cut off."""
        entry = self.stages.get(stage, {})
        self._note(stage, {"inputs": inputs})
        return "result" not in entry and entry.get("inputs") == inputs

    def finish(
        self,
        stage: str,
        inputs: str,
        outputs: Iterable[Path | Remote],
        result: dict,
        seconds: float,
        command: Sequence[str] = (),
        given: Mapping[str, object] | None = None,
    ) -> None:
        """Note that a stage is done, with its command and, by role (raw, truth, ...), the addresses given to it."""
        entry = {"inputs": inputs, "outputs": fingerprint([], outputs), "result": result, "seconds": seconds}
        self._note(stage, entry | {"command": list(command), "given": dict(given or {})})

    def _note(self, stage: str, entry: dict[str, Any]) -> None:
        with self._changing, storage_errors("written", self.path), replacing(self.path) as temporary:
            self.stages[stage] = entry
            temporary.write_text(json.dumps(self.stages, indent=2, default=str))


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    """The stages that are noted; a stage of which the note is damaged counts as one that was never begun."""
    try:
        stages = read_json_object(path)
    except SegkitError as error:
        warn(f"{error}; no stage counts as finished", SegkitWarning, stacklevel=3)
        return {}
    whole = {name: entry for name, entry in stages.items() if _is_whole(entry)}
    for name in stages.keys() - whole.keys():
        message = f"{path}: the entry of {name} is damaged; that stage does not count as finished"
        warn(message, SegkitWarning, stacklevel=3)
    return whole


FIELDS = {"inputs": str, "outputs": str, "result": dict, "seconds": int | float, "command": list, "given": dict}
"""What is noted of a stage, and its type; all but the first of finished ones."""


def _is_whole(entry: object) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry[name], FIELDS[name]) for name in entry.keys() & FIELDS)


def fingerprint(words: Iterable[str], files: Iterable[Path | Remote]) -> str:
    """A digest of words, and of the size and time of change of files (and of all files in folders)."""
    digest = hashlib.sha256(__version__.encode())
    for word in words:
        digest.update(b"\0" + word.encode())
    for path in files:
        if isinstance(path, Remote):
            digest.update(f"\0{path}\0{path.state()}".encode())
            continue
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            state = (member.stat().st_size, member.stat().st_mtime_ns) if member.exists() else None
            digest.update(f"\0{member}\0{state}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class FinishedStage:
    """A stage of a recipe that is finished."""

    name: str
    command: tuple[str, ...]
    given: Mapping[str, Any]
    result: Mapping[str, Any]
    seconds: float

    @property
    def verb(self) -> str:
        """The verb that it called."""
        return self.command[1]

    def option(self, name: str) -> str | None:
        """The value of an option of its command; None if it was not given."""
        return self.command[self.command.index(name) + 1] if name in self.command else None


def read_stages(folder: Path) -> tuple[FinishedStage, ...]:
    """Read the finished stages of a run, in their order; none where there is no record, or none that can be read."""
    return tuple(
        FinishedStage(
            name, tuple(entry["command"]), entry.get("given", {}), entry["result"] or {}, entry.get("seconds", 0.0)
        )
        for name, entry in Record(folder).stages.items()
        if "result" in entry and len(entry.get("command", ())) > 1
    )


def located(text: str, folder: Path) -> Address:
    """Find what the address of a run means now: it may have been called from another folder, or moved since."""
    address = parse_address(text)
    if isinstance(address.path, Remote):
        return address
    places = (address.path, folder / address.path, folder.parent / address.path, folder / address.path.name)
    return replace(address, path=next((path for path in places if path.exists()), address.path))
