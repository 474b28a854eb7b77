"""A write that fails leaves what was there, and nothing else."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from segkit.data import Grid, Labels
from segkit.errors import StorageError
from segkit.io import atomic, read_labels, write, write_all
from segkit.io.atomic import mend, replacing, swap

OLD = Labels(np.full((2, 3, 4), 7, np.uint64), Grid())
NEW = Labels(np.full((2, 3, 4), 9, np.uint64), Grid())


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def no_permission(*args, **kwargs):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [
        (full_disk, StorageError, "No space left.*free space"),
        (interrupted, KeyboardInterrupt, None),
        (no_permission, StorageError, "permission denied"),
    ],
)
@pytest.mark.parametrize("when", ["array", "sync"])
def test_failures(tmp_path, monkeypatch, name, exists, failure, error, message, when):
    if exists:
        write(tmp_path / name, OLD, "fragments")
    before = contents(tmp_path)
    if when == "sync":
        monkeypatch.setattr(os, "fsync", failure)
    elif name == "a.h5":
        monkeypatch.setattr(h5py.Group, "create_dataset", failure)
    else:
        monkeypatch.setattr(zarr.Array, "__setitem__", failure)
    with pytest.raises(error, match=message) as caught:
        write(tmp_path / name, NEW, "fragments")
    if error is StorageError:
        assert name in str(caught.value)
    assert contents(tmp_path) == before
    monkeypatch.undo()
    write(tmp_path / name, NEW, "fragments")
    assert read_labels(tmp_path / name, "fragments").array.max() == 9


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_all_or_none(tmp_path, monkeypatch, name):
    create, calls = h5py.Group.create_dataset, []

    def second_fails(self, *args, **kwargs):
        calls.append(1)
        return create(self, *args, **kwargs) if len(calls) < 2 else full_disk()

    monkeypatch.setattr(h5py.Group, "create_dataset", second_fails)
    monkeypatch.setattr(zarr.Group, "create_array", full_disk)
    with pytest.raises(StorageError):
        write_all(tmp_path / name, {"truth": OLD, "fragments": NEW})
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, signal, sys
import numpy as np
from segkit.data import Grid, Volume
from segkit.errors import StorageError
from segkit.io import write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write(sys.argv[1], Volume(np.random.default_rng(0).random((50, 50, 50)), Grid()))
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_a_real_limit(tmp_path, name):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / name], capture_output=True, text=True, timeout=120)
    assert "cannot be written" in done.stdout, done.stderr
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


def test_a_folder_comes_back_if_its_successor_cannot_move_in(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    rename = os.rename

    def fails(source, destination):
        return full_disk() if str(source).endswith(".tmp") else rename(source, destination)

    monkeypatch.setattr(atomic, "exchange", lambda *paths: False)
    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError), replacing(target) as temporary:
        temporary.mkdir()
    assert contents(tmp_path).keys() == {"folder/old"} and len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_a_link(tmp_path):
    write(tmp_path / "real.h5", OLD, "fragments")
    (tmp_path / "link.h5").symlink_to(tmp_path / "real.h5")
    write(tmp_path / "link.h5", NEW, "fragments")
    assert (tmp_path / "link.h5").is_symlink()
    assert read_labels(tmp_path / "real.h5", "fragments").array.max() == 9


def test_rewriting_does_not_make_the_file_grow(tmp_path):
    labels = Labels(np.random.default_rng(0).integers(0, 2**60, (20, 20, 20)).astype(np.uint64), Grid())
    write(tmp_path / "a.h5", labels)
    size = (tmp_path / "a.h5").stat().st_size
    for _ in range(4):
        write(tmp_path / "a.h5", labels)
    assert (tmp_path / "a.h5").stat().st_size < 1.5 * size


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(atomic, "exchange", lambda *paths: False)
    elif not atomic.exchange(*two_folders(tmp_path)):
        pytest.skip("needs a file system that exchanges two names")
    new, target = two_folders(tmp_path)
    swap(new, target)
    assert (target / "file").read_text() == "new"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["target"]


def two_folders(folder):
    for name in ("new", "target"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "file").write_text(name)
    return folder / "new", folder / "target"


def test_two_folders_change_places_while_others_read(tmp_path):
    new, target = two_folders(tmp_path)
    if not atomic.exchange(new, target):
        pytest.skip("needs a file system that exchanges two names")
    missing, done = [], threading.Event()

    def read():
        while not done.is_set():
            if not target.exists():
                missing.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(300):
        new, _ = two_folders(tmp_path)
        swap(new, target)
    done.set()
    reader.join()
    assert not missing


def test_what_a_kill_has_left_is_put_right(tmp_path):
    _, target = two_folders(tmp_path)
    hidden = [tmp_path / f".target.{number:012x}.{kind}" for number, kind in enumerate(["old", "tmp"])]
    other = tmp_path / ".target.more.0123456789ab.tmp"
    other.touch()
    target.rename(hidden[0])
    hidden[1].mkdir()
    mend(target)
    assert (target / "file").read_text() == "target"
    assert sorted(item.name for item in tmp_path.iterdir()) == [other.name, "new", "target"]
    hidden[0].mkdir()  # now there is nothing to restore
    mend(target)
    assert (target / "file").exists() and not hidden[0].exists()


def test_what_is_dropped_goes_in_one_step(tmp_path, monkeypatch):
    _, target = two_folders(tmp_path)
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **options: None)  # as if it were killed before
    atomic.discard(target)
    assert not target.exists() and len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    mend(target)
    assert [item.name for item in tmp_path.iterdir()] == ["new"]
