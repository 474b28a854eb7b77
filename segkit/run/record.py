"""What a run has finished: a stage is done if its command, its inputs and its outputs are what they were then."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segkit import __version__


class Record:
    """The file stages.json in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stages.json"
        self.stages: dict[str, dict] = {}
        if self.path.exists():
            try:
                self.stages = json.loads(self.path.read_text())
            except json.JSONDecodeError:
                self.stages = {}

    def result(self, stage: str, inputs: str, outputs: Iterable[Path]) -> dict | None:
        """What a finished stage returned; None if it must be run (again)."""
        entry = self.stages.get(stage, {})
        if "result" not in entry or entry["inputs"] != inputs or entry["outputs"] != fingerprint([], outputs):
            return None
        return entry["result"]

    def begin(self, stage: str, inputs: str) -> bool:
        """Note that a stage begins; True if the same stage had begun before, with equal inputs, and was cut off."""
        entry = self.stages.get(stage, {})
        self.stages[stage] = {"inputs": inputs}
        self._save()
        return "result" not in entry and entry.get("inputs") == inputs

    def finish(
        self,
        stage: str,
        inputs: str,
        outputs: Iterable[Path],
        result: dict,
        seconds: float,
        command: Sequence[str] = (),
        given: Mapping[str, object] | None = None,
    ) -> None:
        """Note that a stage is done, with its command and, by role (raw, truth, ...), the addresses given to it."""
        entry = {"inputs": inputs, "outputs": fingerprint([], outputs), "result": result, "seconds": seconds}
        self.stages[stage] = entry | {"command": list(command), "given": dict(given or {})}
        self._save()

    def _save(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.stages, indent=2, default=str))
        os.replace(temporary, self.path)


def fingerprint(words: Iterable[str], files: Iterable[Path]) -> str:
    """A digest of words, and of the size and time of change of files (and of all files in folders)."""
    digest = hashlib.sha256(__version__.encode())
    for word in words:
        digest.update(b"\0" + word.encode())
    for path in files:
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            state = (member.stat().st_size, member.stat().st_mtime_ns) if member.exists() else None
            digest.update(f"\0{member}\0{state}".encode())
    return digest.hexdigest()
