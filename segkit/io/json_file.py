"""JSON that lies in files: read in one place, so that what is damaged is said alike."""

import json
from pathlib import Path
from typing import Any

from segkit.errors import InvalidInput, StorageError, sentence
from segkit.io.atomic import storage_errors


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises StorageError if it cannot be read or is no JSON, or is nested beyond reason."""
    with storage_errors("read", path):
        content = path.read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        next_step = "the file seems damaged: copy or make it again"
        raise StorageError(sentence(f"{path}", f"is no valid JSON ({error})", next_step=next_step)) from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that must hold an object, at its top. Raises what :func:`read_json` does, and InvalidInput."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise InvalidInput(sentence(f"{path}", "must be a JSON object", type(content).__name__, "correct the file"))
    return content
