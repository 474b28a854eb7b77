"""What other systems lack, taken away here: Windows' rules for open files, and its missing functions."""

import errno
import json
import os
import signal
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from segkit import Grid, io, system
from segkit.data import Labels
from segkit.errors import InUse
from segkit.io import lock
from segkit.io.lock import Holder, lock_of, locked

fcntl = pytest.importorskip("fcntl", reason="needs fcntl, to see what a file was opened for")
OPEN, FSYNC, CLOSE = os.open, os.fsync, os.close


@pytest.fixture
def windows(monkeypatch):
    """As Windows has it: no fcntl, no pread, folders that cannot be opened, open files that stay.

    Yields the files that are open by their descriptors.
    """
    opened = {}

    def open_(path, flags, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "a folder", str(path))
        found = OPEN(path, flags, *rest, **options)
        opened[found] = os.fstat(found)
        return found

    def fsync(file):
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "not open for writing")
        FSYNC(file)

    def close(file):
        opened.pop(file, None)
        CLOSE(file)

    def refusing(function):
        def call(path, *rest, **options):
            for each in (path, *rest):
                with suppress(FileNotFoundError):
                    if any(os.path.samestat(os.stat(each), known) for known in opened.values()):
                        raise PermissionError(errno.EACCES, "in use", str(each))
            return function(path, *rest, **options)

        return call

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "close", close)
    for name in ("unlink", "remove", "rename", "replace"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.delattr(os, "pread")
    monkeypatch.setattr(system, "WINDOWS", True)
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(lock, "start_of", lambda pid: None)
    return opened


def test_the_rules_of_windows_are_those_that_the_fixture_says(windows, tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    held = os.open(file, os.O_RDONLY)
    for refused in (lambda: os.open(tmp_path, os.O_RDONLY), file.unlink, lambda: os.fsync(held)):
        with pytest.raises(OSError):
            refused()
    os.lseek(held, 2, os.SEEK_SET)
    assert system.read_start(held, 2) == b"ab"
    os.close(held)
    monkeypatch.setattr(system, "WINDOWS", False)
    with pytest.raises(PermissionError):
        system.sync_entry(tmp_path)


@pytest.mark.parametrize("name", ["a.h5", "a.zarr", "a.ome.zarr"])
def test_files_are_written_and_replaced_on_windows(windows, tmp_path, name):
    for value in (1, 2):
        labels = Labels.convert(np.full((2, 3, 4), value), Grid())
        io.write(tmp_path / name, labels)
        assert (io.read_labels(tmp_path / name, role="segmentation").array == value).all()
    assert [each.name for each in tmp_path.iterdir()] == [name] and not windows


def test_a_lock_on_windows_goes_by_the_open_file(windows, tmp_path):
    path = tmp_path / "a.h5"
    with locked(lock_of(path), "it"):
        assert len(windows) == 1
        lock._held.clear()  # as another process, which has not taken it
        with pytest.raises(InUse, match="in use by process"), locked(lock_of(path), "it"):
            pass
        lock._held.clear()
    left = lock_of(path)
    left.write_text(json.dumps(asdict(Holder.this())))  # a killed process leaves the file, which nobody has open
    with locked(left, "it"):
        assert len(windows) == 1 and left.exists()
    assert not left.exists() and not windows


def test_a_lock_of_another_host_stays_on_windows(windows, tmp_path):
    left = lock_of(tmp_path / "a.h5")
    left.write_text(json.dumps(asdict(Holder.this()) | {"host": "elsewhere"}))
    with pytest.raises(InUse, match="elsewhere"), locked(left, "it"):
        pass
    assert left.exists()


def test_names_that_windows_lacks_have_their_numbers():
    assert (system.KILLED, system.BROKEN_PIPE) == (signal.SIGKILL, signal.SIGPIPE)


def test_cores_without_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert system.cores() == 3


def test_nothing_else_asks_for_what_only_posix_has():
    only_posix = ("import fcntl", "signal.SIGKILL", "signal.SIGPIPE", "os.pread(", "os.sched_getaffinity(", "os.fork(")
    root = Path(system.__file__).parent
    found = {path.name: word for path in root.rglob("*.py") for word in only_posix if word in path.read_text()}
    assert found.keys() == {"system.py"}, found
