"""Files that appear whole or not at all."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from segkit.errors import InvalidInput, MissingFile, SegkitError, StorageError, sentence


def check_folder(path: Path) -> None:
    """Raise MissingFile unless the folder that `path` will lie in exists."""
    folder = path.absolute().parent
    if not folder.exists():
        raise MissingFile(sentence(f"the folder {folder}", "must exist", next_step="create it, or write elsewhere"))
    if not folder.is_dir():
        raise InvalidInput(sentence(f"{folder}", "must be a folder", "a file", "write elsewhere"))


def check_kept(path: Path) -> None:
    """Raise InvalidInput for a pipe, a device or a socket, which would be waited for, or is read once.

    What does not exist, and what cannot be looked at, is somebody else's to refuse.
    """
    mode = stat.S_IFREG
    with suppress(OSError, ValueError):
        mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        next_step = "write what it gives to a file, and name that"
        raise InvalidInput(sentence(f"{path}", "must be a file or a folder", "a pipe or a device", next_step))


@contextmanager
def storage_errors(action: str, path: Path) -> Iterator[None]:
    """Turn what the file system and its libraries raise into a StorageError; `action` is "written" or "read"."""
    try:
        yield
    except SegkitError:
        raise
    except PermissionError as error:
        next_step = "ask for the permission, or choose another place"
        message = sentence(f"{path}", f"cannot be {action} (permission denied)", next_step=next_step)
        raise StorageError(message) from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        cause = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        next_step = "free space there, or write elsewhere; what was there before is unchanged"
        if action == "read":
            next_step = "the file seems damaged: copy or make it again"
        raise StorageError(sentence(f"{path}", f"cannot be {action} ({cause})", next_step=next_step)) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or a folder; moved into its place if all goes well, else removed.

    A file is replaced in one step. A folder that is there already is moved aside first, and back on failure; a kill
    between the two steps leaves no folder, never a mixed one.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        _sync(temporary)
        if temporary.is_dir():
            swap(temporary, target)
        else:
            os.replace(temporary, target)
    except BaseException:
        remove(temporary)
        raise
    sync_entry(target.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def swap(temporary: Path, target: Path) -> None:
    """Move a folder to `target`. What is there is moved aside first, back on failure, and removed at the end."""
    aside = temporary.with_suffix(".old")
    if target.exists():
        remove(aside)  # of a process that was killed
        os.rename(target, aside)
    try:
        os.rename(temporary, target)
    except BaseException:
        if aside.exists():
            os.rename(aside, target)
        raise
    remove(aside)


def _sync(path: Path) -> None:
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    for file in files:
        sync_entry(file)


def sync_entry(path: Path) -> None:
    """Let a file, or what a folder lists, survive a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
