"""Single files of buckets and web servers: copied here before they are read, into a folder of bounded size."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

from segkit.errors import InvalidInput, MissingFile, SegkitError, sentence
from segkit.io.atomic import replacing, storage_errors
from segkit.io.remote import Remote
from segkit.memory import decimal_bytes

FOLDER, SIZE, WORK = "SEGKIT_CACHE", "SEGKIT_CACHE_GB", "SEGKIT_WORK"
"""The variables of the environment that say where copies lie, how many GB of them are kept, and where work goes on."""
USUAL_GB = 20.0
"""GB of copies that are kept if nothing else is said."""
THIS_PROCESS = uuid4().hex
"""A name that no other process has."""
PATIENCE = 3600.0
"""Seconds that a process waits for another that fetches the same file."""
LEFT_ALONE = 3600.0
"""Seconds after its last use during which a copy is not removed for others."""


def cache_folder() -> Path:
    """Where copies lie: $SEGKIT_CACHE, else segkit in the folder for caches."""
    stated = os.environ.get(FOLDER)
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(stated) if stated else Path(caches).expanduser() / "segkit"


def fetched(remote: Remote) -> Path:
    """A copy of the file here; it is fetched once, and anew when the one there is another.

    Those used longest ago are removed where all copies take more than $SEGKIT_CACHE_GB. Raises MissingFile if there is
    no such file, InvalidInput if it alone takes more.
    """
    found = remote.head()
    if found is None:
        raise MissingFile(sentence(f"{remote}", "does not exist", next_step="check the spelling"))
    folder = cache_folder() / "files"
    copy = folder / blake2b(f"{remote} {_version(found)}".encode(), digest_size=16).hexdigest() / remote.name
    if not copy.exists():
        _fetch(remote, copy, int(found["size"]))
    with suppress(OSError):
        os.utime(copy.parent)
    return copy


def _fetch(remote: Remote, copy: Path, needed: int) -> None:
    """Make the copy, of so many bytes, in one process; others wait for it."""
    from segkit.io.lock import lock_of, locked

    folder, limit = copy.parent.parent, _limit()
    if needed > limit:
        rule = f"takes {decimal_bytes(needed)}, and copies may take {decimal_bytes(limit)}"
        raise InvalidInput(sentence(f"{remote}", rule, next_step=f"give {SIZE}, or convert it to Zarr there"))
    with locked(lock_of(remote, "copy"), f"the copy of {remote}", PATIENCE), storage_errors("written", copy):
        if copy.exists():
            return
        shutil.rmtree(copy.parent, ignore_errors=True)  # what a killed process has left
        copy.parent.mkdir(parents=True)
        _make_room(folder, limit - needed)
        with replacing(copy) as temporary, open(temporary, "wb") as file:
            file.writelines(remote.pieces(needed))


@contextmanager
def named(remote: Remote, copy: Path) -> Iterator[None]:
    """Let messages name the file itself, not its copy."""
    try:
        yield
    except SegkitError as error:
        if str(copy) not in str(error):
            raise
        raise type(error)(str(error).replace(str(copy), str(remote))) from error


@contextmanager
def uploaded(remote: Remote, *, added_to: bool) -> Iterator[Path]:
    """A file here that is put in the place of `remote` if all goes well; a copy of that one if it is `added_to`.

    For one process at a time, which removes what a killed one has left.
    """
    folder = cache_folder() / "uploads" / blake2b(str(remote).encode(), digest_size=16).hexdigest()
    file = folder / remote.name
    with storage_errors("written", folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        if added_to and remote.is_file():
            with storage_errors("written", file):
                shutil.copyfile(fetched(remote), file)
        with named(remote, file):
            yield file
        remote.upload(file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def work_folder_of(store: Remote) -> Path:
    """Where work on what is written to a bucket leaves what the next step needs: $SEGKIT_WORK, else among the copies.

    All workers must reach it.
    """
    stated = os.environ.get(WORK)
    folder = Path(stated) if stated else cache_folder() / "work"
    return folder / blake2b(str(store).encode(), digest_size=16).hexdigest()


def _version(found: Mapping[str, Any]) -> str:
    """What differs once the file is another; each process has a copy of its own where the server does not say it."""
    told = found["e_tag"] or found["last_modified"].timestamp() > 0
    return f"{found['e_tag']} {found['size']} {found['last_modified']} {'' if told else THIS_PROCESS}"


def _limit() -> int:
    stated = os.environ.get(SIZE, str(USUAL_GB))
    try:
        return int(float(stated) * 1e9)
    except (ValueError, OverflowError) as error:
        rule = "must be a number of GB"
        raise InvalidInput(sentence(f"the variable {SIZE}", rule, repr(stated), "correct it")) from error


def _make_room(folder: Path, limit: int) -> None:
    """Remove the copies used longest ago until they take no more than `limit` bytes; those in use now stay."""
    copies = []
    for each in folder.iterdir():
        with suppress(OSError):
            copies.append((each.stat().st_mtime, sum(file.stat().st_size for file in each.iterdir()), each))
    taken = sum(size for _, size, _ in copies)
    for used, size, each in sorted(copies):
        if taken <= limit or time.time() - used < LEFT_ALONE:
            return
        taken -= size
        for file in each.iterdir():
            file.unlink(missing_ok=True)
        with suppress(OSError):
            each.rmdir()
