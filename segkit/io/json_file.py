"""JSON that lies in files: read in one place, so that what is damaged is said alike."""

import json
import zipfile
from pathlib import Path
from typing import Any

from segkit.errors import InvalidInput, SegkitError, StorageError, sentence
from segkit.io.atomic import storage_errors
from segkit.io.remote import AnyPath


def read_json_object(path: AnyPath | zipfile.Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises StorageError if it cannot be read, is no JSON or is nested beyond reason, InvalidInput if it holds anything
    else than an object.
    """
    with storage_errors("read", path):
        text = path.read_bytes()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        next_step = "the file seems damaged: copy or make it again"
        raise StorageError(sentence(f"{path}", f"is no valid JSON ({error})", next_step=next_step)) from error
    if not isinstance(content, dict):
        raise InvalidInput(sentence(f"{path}", "must be a JSON object", type(content).__name__, "correct the file"))
    return content


def read_json_if_whole(path: Path) -> dict[str, Any]:
    """Read a JSON file that something can do without: nothing where it is missing, damaged or no object."""
    try:
        return read_json_object(path)
    except SegkitError:
        return {}
