"""Real processes that are killed, stopped and starved; in the end the results are those of an undisturbed run."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from fault_tasks import Dies, NoSpace, Raises, Squares, check, runs, stage

from segkit.blockwise.cluster import open_executor
from segkit.blockwise.engine import run_stage
from segkit.blockwise.executor import Patience
from segkit.errors import BlocksFailed, ClusterUnavailable

pytest.importorskip("distributed")
pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(sys.platform == "win32", reason="sends signals")]
HASTY = Patience(pause=0.0, full_disk=30.0, full_disk_pauses=(0.05, 0.1))
HERE = os.path.dirname(__file__)
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.fixture(scope="module")
def two():
    """Two processes of this machine."""
    with open_executor("local:2", patience=HASTY) as executor:
        yield executor


def test_two_processes_share_the_blocks(two, tmp_path):
    report = run_stage(stage(Squares(tmp_path, seconds=0.02), blocks=30), two)
    check(report, tmp_path, 30)
    log = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(runs(tmp_path)) == list(range(30))
    assert len({pid for _, pid in log}) == 2 and str(os.getpid()) not in {pid for _, pid in log}
    assert report.workers == 2 and report.peak_bytes > 10_000_000
    assert run_stage(stage(Squares(tmp_path), blocks=30), two).kept == 30


def test_a_worker_killed_in_the_middle(two, tmp_path):
    said = []

    def kill_one(progress):
        said.append(progress.message or "")
        if progress.done == 5 and not progress.message:
            last = (tmp_path / "log").read_text().splitlines()[-1]
            os.kill(int(last.split()[1]), signal.SIGKILL)

    report = run_stage(stage(Squares(tmp_path, seconds=0.4), blocks=16), two, kill_one)
    check(report, tmp_path, 16)
    (line,) = filter(None, said)
    why = r" has ended \(killed by signal 9: is the memory enough\?\); what was computed there is computed by another"
    assert re.fullmatch(r"the worker tls://127\.0\.0\.1:\d+" + why, line)
    again = [number for number, times in Counter(runs(tmp_path)).items() if times > 1]
    assert set(runs(tmp_path)) == set(range(16)) and len(again) <= 2
    assert len({line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}) >= 2


@pytest.mark.slow
def test_a_block_whose_worker_dies_each_time_is_named_and_the_others_are_kept(two, tmp_path):
    with pytest.raises(BlocksFailed, match=r"1 of 12.*block 3: its worker died, 3 times in all: is the memory enough"):
        run_stage(stage(Dies(tmp_path, times={3: 10**9, 7: 2})), two)
    assert runs(tmp_path).count(3) == runs(tmp_path).count(7) == 3
    report = run_stage(stage(Squares(tmp_path)), two)
    check(report, tmp_path)
    assert report.kept == 11


def test_a_block_that_raises_is_tried_three_times_and_the_others_go_on(two, tmp_path):
    with pytest.raises(BlocksFailed, match=r"1 of 12.*block 3: ValueError: block 3 is cursed") as caught:
        run_stage(stage(Raises(tmp_path, numbers=(3,))), two)
    assert "fault_tasks.py" in caught.value.failures[0].trace
    assert Counter(runs(tmp_path)) == Counter(range(12)) + Counter([3, 3])
    assert run_stage(stage(Squares(tmp_path)), two).kept == 11


def test_a_task_that_cannot_be_understood_by_the_workers_is_a_failure(two, tmp_path):
    with pytest.raises(BlocksFailed, match=r"2 of 2.*nobody can read this"):
        run_stage(stage(Unreadable(tmp_path), blocks=2), two)


def test_a_task_that_cannot_be_sent_is_an_error_at_once(two, tmp_path):
    task = Squares(tmp_path, seconds=threading.Lock())
    with pytest.raises(TypeError, match="serialize"):
        run_stage(stage(task, blocks=2), two)
    check(run_stage(stage(Squares(tmp_path), blocks=2), two), tmp_path, 2)


class Unreadable(Squares):
    def __reduce__(self):
        return fail_to_read, ()


def fail_to_read():
    raise ValueError("nobody can read this")


def test_a_disk_that_is_full_for_a_while(two, tmp_path):
    said = []

    def report(progress):
        said.append(progress.message or "")
        if sum("disk is full" in message for message in said) == 3:
            (tmp_path / "space").touch()

    done = run_stage(stage(NoSpace(tmp_path, begin=4)), two, report)
    check(done, tmp_path)
    assert sum("disk is full" in message for message in said) == 3 and "there is space on the disk again" in said


FULL_DISK = """
import sys
from pathlib import Path
from fault_tasks import Squares, check, runs, stage
from segkit.blockwise.engine import run_stage
from segkit.blockwise.executor import Patience, inline

folder, said = Path(sys.argv[1]), []
(folder / "filler").write_bytes(bytes(400_000))

def report(progress):
    said.append(progress.message or "")
    if sum("disk is full" in message for message in said) == 3:
        (folder / "filler").unlink(missing_ok=True)

done = run_stage(stage(Squares(folder), 48), inline(Patience(full_disk_pauses=(0.01, 0.02))), report)
check(done, folder, 48)
assert not list(folder.rglob("*.tmp"))
print(sum("disk is full" in message for message in said), len(runs(folder)))
"""


def test_a_real_disk_that_is_full_for_a_while(tmp_path):
    if not shutil.which("unshare"):
        pytest.skip("needs unshare, to mount a small disk")
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    disk = f"mount -t tmpfs -o size=800k tmpfs '{tmp_path}'"
    if subprocess.run([*mount, disk], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    command = f'{disk} && "{sys.executable}" -c "$0" "{tmp_path}"'
    done = subprocess.run([*mount, command, FULL_DISK], capture_output=True, text=True, env=ENVIRONMENT, timeout=100)
    assert done.returncode == 0, done.stderr
    full, computed = map(int, done.stdout.split())
    assert full == 3 and computed == 48 + 3


DRIVER = """
import signal
import sys
from pathlib import Path
from fault_tasks import Squares, check, stage
from segkit.blockwise.cluster import open_executor
from segkit.blockwise.engine import run_stage

if __name__ == "__main__":
    # Not set where the tests run in the background: a shell has such processes ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    with open_executor(sys.argv[2]) as executor:
        report = run_stage(stage(Squares(folder, seconds=0.1), 40), executor, lambda p: print(p.message or p.done))
    check(report, folder, 40)
    print("kept", report.kept)
"""


@pytest.fixture
def driver(tmp_path):
    """Starts a process, with a group of its own, that computes 40 blocks by two more processes."""
    program, started = tmp_path / "driver.py", []
    program.write_text(DRIVER)

    def start():
        words = [sys.executable, str(program), str(tmp_path), "local:2"]
        (tmp_path / "temporary").mkdir(exist_ok=True)
        process = subprocess.Popen(
            words,
            env=ENVIRONMENT | {"TMPDIR": str(tmp_path / "temporary")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        with pytest.raises(ProcessLookupError):  # nobody of the group is left
            wait_for(lambda group=process.pid: os.killpg(group, 0))


def wait_for(condition, seconds=100.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_driver_killed_in_the_middle(tmp_path, driver):
    first = driver()
    wait_for(lambda: len(runs(tmp_path)) >= 12)
    first.kill()
    _, err = first.communicate()
    assert err == ""  # nothing of semaphores
    assert list((tmp_path / "temporary").iterdir())
    second = driver()
    out, err = second.communicate(timeout=150)
    assert second.returncode == 0, err
    assert not list((tmp_path / "temporary").iterdir())
    kept = int(out.split()[-1])
    assert kept >= 8 and set(runs(tmp_path)) == set(range(40))
    # What was at work, or stored and not yet marked, is computed again; what was marked is not.
    assert len(runs(tmp_path)) <= 44


def test_ctrl_c_ends_all_processes_in_order(tmp_path, driver):
    first = driver()
    wait_for(lambda: len(runs(tmp_path)) >= 6)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    out, err = first.communicate(timeout=100)
    assert first.returncode != 0 and out.splitlines()[-1].endswith("give the same command again to go on")
    assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt"), err


class Scheduler:
    """A scheduler and a worker, as on a cluster, that can be killed and started again."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.commands = {
            "scheduler": ["--host", "127.0.0.1", "--port", str(self.port)],
            "worker": [self.address, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)],
        }
        self.processes = {}

    def start(self, *names):
        for name in names:
            if name not in self.processes or self.processes[name].poll() is not None:
                words = [sys.executable, "-m", f"distributed.cli.dask_{name}", *self.commands[name], "--no-dashboard"]
                self.processes[name] = subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.DEVNULL)

    def kill(self, *names):
        for name in names:
            if name in self.processes:
                self.processes[name].kill()
                self.processes.pop(name).wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    scheduler = Scheduler(tmp_path_factory.mktemp("scratch"))
    yield scheduler
    scheduler.kill("worker", "scheduler")


def test_a_scheduler_without_workers(scheduler):
    scheduler.start("scheduler")
    scheduler.kill("worker")
    said = []
    with pytest.raises(ClusterUnavailable, match="there is no worker"):
        open_executor(scheduler.address, patience=Patience(workers=0.3), say=said.append)
    assert said == [f"the scheduler {scheduler.address} has no worker; waiting for one"]


@pytest.mark.slow
def test_a_scheduler_that_is_started_again(tmp_path, scheduler):
    scheduler.start("scheduler", "worker")
    said = []

    def restart(progress):
        said.append(progress.message or "")
        if progress.done == 4 and not any(said):
            scheduler.kill("scheduler")
        if "looking for it" in said[-1]:
            scheduler.kill("worker")
            scheduler.start("scheduler", "worker")

    with open_executor(scheduler.address, patience=HASTY) as executor:
        report = run_stage(stage(Squares(tmp_path, seconds=0.05), 20), executor, restart)
    check(report, tmp_path, 20)
    assert f"the scheduler {scheduler.address} has gone; looking for it" in said
    assert f"the scheduler {scheduler.address} is there again" in said
    assert len(runs(tmp_path)) <= 20 + 3 and set(runs(tmp_path)) == set(range(20))


@pytest.mark.slow
def test_a_scheduler_that_stays_away_is_given_up_and_a_later_call_goes_on(tmp_path, scheduler):
    scheduler.start("scheduler", "worker")

    def kill(progress):
        if progress.done == 4:
            scheduler.kill("scheduler")

    with (
        open_executor(scheduler.address, patience=HASTY) as executor,
        pytest.raises(ClusterUnavailable, match=r"no scheduler answers.*give the same command again"),
    ):
        executor.patience = replace(HASTY, scheduler=1.0)
        run_stage(stage(Squares(tmp_path, seconds=0.05), 20), executor, kill)
    report = run_stage(stage(Squares(tmp_path), 20))
    check(report, tmp_path, 20)
    assert report.kept >= 4


@pytest.mark.slow
def test_nobody_answers():
    with pytest.raises(ClusterUnavailable, match=r"no scheduler answers.*start it"):
        open_executor("tcp://127.0.0.1:9", patience=Patience(scheduler=0.3))
    with pytest.raises(ClusterUnavailable, match=r"there is no file nowhere\.json"):
        open_executor("nowhere.json", patience=Patience(scheduler=0.3))
