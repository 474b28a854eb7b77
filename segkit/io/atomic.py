"""Files that appear whole or not at all."""

import ctypes
import errno
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from segkit.errors import InvalidInput, MissingFile, SegkitError, StorageError, sentence
from segkit.io.remote import AnyPath, Remote
from segkit.system import sync_entry


def check_folder(path: AnyPath) -> None:
    """Raise MissingFile unless the folder that `path` will lie in exists; buckets have no folders."""
    if isinstance(path, Remote):
        if not path.listed:
            rule, next_step = "must be in a bucket (s3://, gs://) or on this machine", "web servers take nothing"
            raise InvalidInput(sentence("what is written", rule, str(path), next_step))
        return
    folder = path.absolute().parent
    if not folder.exists():
        raise MissingFile(sentence(f"the folder {folder}", "must exist", next_step="create it, or write elsewhere"))
    if not folder.is_dir():
        raise InvalidInput(sentence(f"{folder}", "must be a folder", "a file", "write elsewhere"))


def check_kept(path: AnyPath) -> None:
    """Raise InvalidInput for a pipe, a device or a socket, which would be waited for, or is read once.

    What does not exist, and what cannot be looked at, is somebody else's to refuse.
    """
    if isinstance(path, Remote):
        return
    mode = stat.S_IFREG
    with suppress(OSError, ValueError):
        mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        next_step = "write what it gives to a file, and name that"
        raise InvalidInput(sentence(f"{path}", "must be a file or a folder", "a pipe or a device", next_step))


@contextmanager
def storage_errors(action: str, path: AnyPath | zipfile.Path) -> Iterator[None]:
    """Turn what the file system and its libraries raise into a StorageError; `action` is "written" or "read".

    Nothing but calls of those should stand in it: what else is raised while something is read is taken for damage.
    """
    try:
        yield
    except SegkitError:
        raise
    except PermissionError as error:
        next_step = "ask for the permission, or choose another place"
        message = sentence(f"{path}", f"cannot be {action} (permission denied)", next_step=next_step)
        raise StorageError(message) from error
    except MemoryError as error:
        next_step = "name a part of it as ADDRESS[0:100,0:500,0:500], or go by blocks"
        raise StorageError(sentence(f"{path}", f"does not fit into memory ({error})", next_step=next_step)) from error
    except Exception as error:  # libraries that meet damaged data raise whatever comes: AttributeError, zlib.error ...
        of_store = isinstance(error, OSError | RuntimeError | ValueError | KeyError | TypeError)
        if action != "read" and not (of_store or type(error).__module__.startswith("obstore")):
            raise
        if isinstance(path, Remote):
            raise path.failed(action, error) from error
        cause = getattr(error, "strerror", None) or " ".join(f"{type(error).__name__}: {error}".split())
        next_step = "free space there, or write elsewhere; what was there before is unchanged"
        if action == "read":
            next_step = "the file seems damaged: copy or make it again"
        raise StorageError(sentence(f"{path}", f"cannot be {action} ({cause})", next_step=next_step)) from error


LEFT_OVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.(?P<kind>tmp|old)")
"""Hidden names of what is being written (.tmp), and of what was moved aside for it (.old)."""
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
"""What systems and file systems say that cannot exchange two names."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or a folder; moved into its place if all goes well, else removed.

    What is there already is replaced in one step, see :func:`swap`.
    """
    target = Path(os.path.realpath(path))
    temporary = hidden(target, "tmp")
    try:
        yield temporary
        _sync(temporary)
        swap(temporary, target)
    except BaseException:
        remove(temporary)
        raise
    sync_entry(target.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove a file or a folder in one step, so that no half one is ever under its name."""
    if path.exists():
        away = hidden(path, "tmp")
        os.rename(path, away)
        remove(away)


def swap(temporary: Path, target: Path) -> None:
    """Move a file or a folder to `target`, in one step; what was there is removed.

    Where the file system cannot exchange two folders, the old one is moved aside first, and back on failure; what a
    kill between these two steps leaves, :func:`mend` puts right.
    """
    if not (temporary.is_dir() and target.exists()):
        os.replace(temporary, target)
        return
    if not exchange(temporary, target):
        aside = hidden(target, "old")
        os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except BaseException:
            os.rename(aside, target)
            raise
        temporary = aside
    sync_entry(target.parent)
    remove(temporary)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False, and nothing done, where that cannot be had."""
    library: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):
        code = library.renameat2(-100, names[0], -100, names[1], 2)  # AT_FDCWD, RENAME_EXCHANGE
    elif hasattr(library, "renamex_np"):
        code = library.renamex_np(*names, 2)  # RENAME_SWAP
    else:
        return False
    failed = ctypes.get_errno()
    if code and failed not in NO_EXCHANGE:
        raise OSError(failed, os.strerror(failed), str(one), None, str(other))
    return code == 0


def mend(path: Path) -> None:
    """Put right what killed processes have left beside `path`, for who alone writes it now.

    It is moved back if one of them had moved it aside, and what they were writing is removed.
    """
    target = Path(os.path.realpath(path))
    for kind, item in left_over(target):
        if kind == "old" and not target.exists():
            os.rename(item, target)
        else:
            remove(item)


def left_over(path: Path) -> list[tuple[str, Path]]:
    """What lies beside `path` under its hidden names: the kind of each, "tmp" or "old", and where."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        return []
    with os.scandir(target.parent) as items:
        found = [(LEFT_OVER.fullmatch(item.name), Path(item)) for item in items]
    return [(each["kind"], item) for each, item in found if each and each["name"] == target.name]


def tidy(folder: Path) -> None:
    """Remove what killed processes were writing in a folder and those in it, for who alone works there now."""
    for place, folders, files in os.walk(folder):
        for name in filter(LEFT_OVER.fullmatch, [*folders, *files]):
            remove(Path(place) / name)


def hidden(path: Path, kind: str) -> Path:
    """A new hidden name beside `path` for what is being written ("tmp"), or moved aside ("old"): see `LEFT_OVER`."""
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}.{kind}")


def _sync(path: Path) -> None:
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    for file in files:
        sync_entry(file)
