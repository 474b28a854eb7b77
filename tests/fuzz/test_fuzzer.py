"""A short run of the fuzzer, and that it finds what it looks for."""

import subprocess
import sys
import time

import pytest

from segkit.errors import InvalidInput
from tests.fuzz import fuzzer


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    fuzzer.prepare(folder)
    return folder


def test_damaged_files_are_read_or_refused():
    """In a process of its own, since the trials are forks of it."""
    words = [sys.executable, "-m", "tests.fuzz.fuzzer", "--trials", "120", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["120 damaged files tried (seed 1), 120 held"], done.stdout + done.stderr


def leave_a_file(kind, folder):
    (folder / "left").write_text("x")


def take_too_long(kind, folder):
    time.sleep(60)


def take_too_much(kind, folder):
    bytearray(2 * fuzzer.ROOM)


def refuse(kind, folder):
    def read():
        raise InvalidInput("it must be otherwise")

    fuzzer.attempt(read)


def crash(kind, folder):
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    ("reader", "what"),
    [
        (leave_a_file, "something was written"),
        (take_too_long, "no end after"),
        (take_too_much, "MemoryError"),
        (crash, "ZeroDivisionError: division by zero"),
        (refuse, None),
    ],
)
def test_what_does_not_hold_is_found(files, monkeypatch, reader, what):
    monkeypatch.setattr(fuzzer, "read_everything", reader)
    monkeypatch.setattr(fuzzer, "SECONDS", 1)
    tried, findings = fuzzer.fuzz(files, 0, range(7, 9))
    assert tried == 2
    assert [found.number for found in findings] == ([7, 8] if what else [])
    assert all(what in found.what for found in findings)


def test_a_trial_is_its_number(files, tmp_path):
    """So that what was found can be repeated alone."""
    import shutil

    import numpy as np

    contents = []
    for name in ("a", "b"):
        shutil.copytree(files / "own-zarr", tmp_path / name)
        about = fuzzer.damage(tmp_path / name, np.random.default_rng([3, 5]))
        contents.append((about, [path.read_bytes() for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]))
    assert contents[0] == contents[1]
