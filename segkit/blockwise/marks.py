"""Marks: what says that a block was computed, and what its product looked like when it was."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from segkit.io.atomic import replacing, storage_errors

IN_A_FOLDER = 1000
"""So many marks lie in one folder: file systems become slow where millions do."""


@dataclass(frozen=True)
class Mark:
    """Records that the product of a block lies on disk, whole: what it looked like, and what it took."""

    key: str
    """Fingerprint of all that decides the result; a mark with another one does not count."""
    digest: str
    """Of the product, as it was read back."""
    result: dict
    """What the block returned."""
    seconds: float
    """How long it took."""
    peak_bytes: int | None
    """The most memory that its process held meanwhile; None where the system does not say."""


def mark_path(folder: Path, number: int) -> Path:
    """Where the mark of a block lies, in a folder below `folder`."""
    return folder / f"{number // IN_A_FOLDER:06d}" / f"{number}.json"


def write_mark(folder: Path, number: int, mark: Mark) -> None:
    """Write it, whole or not at all, through to the disk. Raises StorageError."""
    path = mark_path(folder, number)
    with storage_errors("written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = asdict(mark)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"mark": fields, "checksum": _checksum(fields)}))


def read_mark(folder: Path, number: int) -> Mark | None:
    """The mark of a block; None if there is none, or one that was damaged."""
    try:
        stored = json.loads(mark_path(folder, number).read_bytes())
        if stored["checksum"] == _checksum(stored["mark"]):
            return Mark(**stored["mark"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _checksum(fields: dict) -> str:
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()
