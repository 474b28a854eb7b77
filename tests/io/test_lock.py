"""Locks, held by real processes."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from segkit import Grid, io
from segkit.data import Labels
from segkit.errors import InUse
from segkit.io import lock
from segkit.io.lock import lock_of, locked, locked_run, start_of, writing

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
HOLDER = """
import sys, time
from pathlib import Path
from segkit.io.lock import lock_of, locked
with locked(lock_of(Path(sys.argv[1])), "it"):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


@pytest.fixture
def holder(path):
    """Another process, which holds the lock of `path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_of_another_is_refused_and_names_it(holder, path):
    with pytest.raises(InUse) as caught, locked(lock_of(path), "the file a.h5"):
        pass
    said = str(caught.value)
    assert said.startswith(f"the file a.h5 is in use by process {holder.pid} on ") and str(path) in said
    assert "since 2" in said and "wait until it has ended" in said and "remove" not in said


def test_a_lock_is_waited_for(holder, path):
    threading.Timer(0.3, holder.terminate).start()
    with locked(lock_of(path), "it", patience=30):
        assert json.loads(lock_of(path).read_text())["pid"] == os.getpid()
    assert not lock_of(path).exists()


def test_who_waits_long_is_told_why(holder, path, monkeypatch):
    monkeypatch.setattr(lock, "HUSH", 0.0)
    threading.Timer(0.5, holder.kill).start()
    with pytest.warns(UserWarning, match=f"waiting for process {holder.pid} on "), locked(lock_of(path), "it", 30):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(holder, path):
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it stays in the table of processes
    with locked(lock_of(path), "it"):
        assert json.loads(lock_of(path).read_text())["pid"] == os.getpid()
    assert list(path.parent.iterdir()) == []


def forged(path, **changes):
    """The lock of a process that lives, but for some changes, and that the system knows nothing of."""
    stated = {"host": lock.socket.gethostname(), "pid": os.getppid(), "start": start_of(os.getppid())}
    lock_of(path).write_text(json.dumps({**stated, "command": "segkit", "since": "now", **changes}))


def test_a_process_that_lives_is_known_where_the_system_locks_nothing(path):
    forged(path)
    with pytest.raises(InUse, match=f"process {os.getppid()} on"), locked(lock_of(path), "it"):
        pass


def test_a_later_process_of_the_same_number_is_told_apart(path):
    forged(path, start="earlier")
    with locked(lock_of(path), "it"):
        pass


def test_of_another_host_the_message_says_what_to_remove(path):
    forged(path, host="elsewhere", start="earlier")
    said = r"on elsewhere \(segkit\).*if it has ended, remove .*\.a\.h5\.lock"
    with pytest.raises(InUse, match=said), locked(lock_of(path), "it"):
        pass


def test_a_lock_that_says_nothing_is_refused_in_the_end(path, monkeypatch):
    monkeypatch.setattr(lock, "HUSH", 0.1)
    lock_of(path).touch()
    with pytest.raises(InUse, match="a process that has not said who it is"), locked(lock_of(path), "it"):
        pass


def test_where_there_are_no_hard_links(path, monkeypatch):
    def no_links(*paths):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with locked(lock_of(path), "it"):
        assert [item.name for item in path.parent.iterdir()] == [".a.h5.lock"]
        assert refused_elsewhere(path)
    assert list(path.parent.iterdir()) == []


def refused_elsewhere(path):
    """Whether a forked process is refused the lock."""
    process = os.fork()
    if process == 0:
        try:
            with suppress(InUse), locked(lock_of(path), "it"):
                os._exit(1)
            os._exit(0)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_a_thread_may_take_its_lock_again_and_another_may_not(path):
    seen = []

    def other():
        try:
            with locked(lock_of(path), "it"):
                seen.append("had")
        except InUse:
            seen.append("refused")

    with locked(lock_of(path), "it"):
        with locked(lock_of(path), "it"):
            pass
        assert refused_elsewhere(path)  # forked processes have not what this one holds
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == ["refused"] and not lock_of(path).exists()


def test_the_folder_of_a_run(tmp_path):
    with locked_run(tmp_path / "runs" / "mine"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked_run(tmp_path / "runs" / "mine"):
        (tmp_path / "runs/mine/file").touch()
    assert [item.name for item in (tmp_path / "runs/mine").iterdir()] == ["file"]


def count(path, turns):
    for _ in range(turns):
        with locked(lock_of(path), "it", patience=60):
            number = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(number + 1))
            if number % 7 == 3:
                os.kill(os.getpid(), signal.SIGKILL)


def test_many_processes_that_are_killed_while_they_hold_it_never_meet(path):
    path.write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count, args=(path, 8)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    done = int(path.read_text())
    killed = sum(process.exitcode == -signal.SIGKILL for process in processes)
    assert killed == done // 7 + (done % 7 > 3) >= 2
    with locked(lock_of(path), "it"):
        pass


def write_many(path, name, turns):
    for number in range(turns):
        io.write(f"{path}:{name}/{number}", Labels(np.full((2, 3, 4), number + 1, np.uint64), Grid()), "fragments")


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_two_processes_write_to_one_file_and_nothing_is_lost(tmp_path, name):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_many, args=(tmp_path / name, each, 8)) for each in "xyz"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert io.datasets(tmp_path / name) == sorted(f"{each}/{number}" for each in "xyz" for number in range(8))
    assert [item.name for item in tmp_path.iterdir()] == [name]


def test_what_a_killed_process_was_writing_is_removed_by_the_next(path):
    process = os.fork()
    if process == 0:
        with writing(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    assert len(list(path.parent.iterdir())) == 2
    with writing(path) as temporary:
        temporary.write_text("whole")
    assert [item.name for item in path.parent.iterdir()] == ["a.h5"]
