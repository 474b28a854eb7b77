"""The engine in this process, and with an executor that loses and delays what it likes."""

import random
from dataclasses import dataclass

import pytest
from fault_tasks import NoSpace, Raises, Squares, check, runs, stage
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.blockwise.blocks import Lattice
from segkit.blockwise.engine import Stage, duration, run_stage
from segkit.blockwise.executor import Executor, Inline, Patience, inline
from segkit.blockwise.job import Job, Outcome, in_a_line, no_space
from segkit.blockwise.marks import mark_path, read_mark
from segkit.blockwise.progress import Pace, Tally, rows
from segkit.errors import BlocksFailed, SegkitError, StorageError

HASTY = Patience(pause=0.0, full_disk=0.5, full_disk_pauses=(0.01, 0.05))


def test_blocks_are_computed_once_and_kept(tmp_path):
    task = Squares(tmp_path)
    first = run_stage(stage(task))
    check(first, tmp_path)
    second = run_stage(stage(task))
    check(second, tmp_path)
    assert (first.kept, second.kept) == (0, 12) and runs(tmp_path) == list(range(12))
    assert second.work_seconds == pytest.approx(first.work_seconds) and second.peak_bytes == first.peak_bytes
    assert (first.voxels, second.voxels) == (12_000, 0)


def test_another_key_computes_all_blocks_anew(tmp_path):
    run_stage(stage(Squares(tmp_path)))
    report = run_stage(stage(Squares(tmp_path), key="other settings"))
    assert report.kept == 0 and runs(tmp_path) == 2 * list(range(12))


def damage_product(task):
    content = bytearray(task.path(3).read_bytes())
    content[-5] ^= 1
    task.path(3).write_bytes(content)


def cut_product(task):
    task.path(3).write_bytes(task.path(3).read_bytes()[:-1])


DAMAGES = {
    "flipped": damage_product,
    "cut": cut_product,
    "no product": lambda task: task.path(3).unlink(),
    "no mark": lambda task: mark_path(task.folder / "marks", 3).unlink(),
    "half a mark": lambda task: mark_path(task.folder / "marks", 3).write_text('{"mark": {"key": "sett'),
    "product of another": lambda task: task.path(3).write_bytes(task.path(4).read_bytes()),
    "mark of another": lambda task: mark_path(task.folder / "marks", 3).write_bytes(
        mark_path(task.folder / "marks", 4).read_bytes()
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_block_counts_only_if_mark_and_product_agree(tmp_path, damage):
    task = Squares(tmp_path)
    run_stage(stage(task))
    damage(task)
    report = run_stage(stage(task))
    check(report, tmp_path)
    assert report.kept == 11 and runs(tmp_path) == [*range(12), 3]


def test_half_written_files_are_not_looked_at(tmp_path):
    task = Squares(tmp_path)
    run_stage(stage(task, blocks=2))
    for folder in (task.path(0).parent, mark_path(tmp_path / "marks", 0).parent):
        for name in (".1.npy.0123.tmp", ".1.json.0123.tmp", "1.json.tmp"):
            (folder / name).write_bytes(b"half")
    assert run_stage(stage(task, blocks=2)).kept == 2


def test_a_digest_that_raises_means_computing_anew_but_not_for_ever(tmp_path):
    @dataclass(frozen=True)
    class Unreadable(Squares):
        def digest(self, number):
            raise OSError("cannot be read")

    run_stage(stage(Squares(tmp_path), blocks=2))
    with pytest.raises(BlocksFailed, match="cannot be read"):
        run_stage(stage(Unreadable(tmp_path), blocks=2), inline(HASTY))
    assert sorted(runs(tmp_path)) == 4 * [0] + 4 * [1]


@pytest.mark.parametrize(("result", "message"), [(None, "NoneType"), ([1], "list"), ({"a": object()}, "object")])
def test_results_must_be_plain(tmp_path, result, message):
    @dataclass(frozen=True)
    class Odd(Squares):
        def run(self, number):
            super().run(number)
            return result

    with pytest.raises(BlocksFailed, match=f"plain values.*not {message}"):
        run_stage(stage(Odd(tmp_path), blocks=1), inline(HASTY))


def test_a_block_that_raises_now_and_then_is_done_in_the_end(tmp_path):
    said = []
    task = Raises(tmp_path, numbers=(2, 5), times=2)
    report = run_stage(stage(task), inline(HASTY), lambda progress: said.append(progress.message))
    check(report, tmp_path)
    assert runs(tmp_path).count(2) == runs(tmp_path).count(5) == 3 and len(runs(tmp_path)) == 16
    tried = [message for message in said if message]
    assert tried[0] == "block 2: ValueError: block 2 is cursed; it is tried again (2 of 3)" and len(tried) == 4


@dataclass(frozen=True)
class Placed(Raises):
    lattice: Lattice | None = None


def test_a_block_that_raises_three_times_is_named_and_the_others_are_kept(tmp_path):
    task = Placed(tmp_path, numbers=(1, 8), lattice=Lattice((10, 10, 30), (10, 5, 5)))
    with pytest.raises(BlocksFailed) as caught:
        run_stage(stage(task), inline(HASTY))
    assert str(caught.value) == (
        "the stage squares has 2 of 12 blocks that cannot be computed (block 1 at (0, 0, 1), voxels z 0:10, y 0:5, "
        "x 5:10: ValueError: block 1 is cursed; block 8 at (0, 1, 2), voxels z 0:10, y 5:10, x 10:15: ValueError: "
        "block 8 is cursed); mend the cause and give the same command again: the 10 that are done are kept"
    )
    assert [failure.number for failure in caught.value.failures] == [1, 8]
    assert "Traceback" in caught.value.failures[0].trace and runs(tmp_path).count(8) == 3
    report = run_stage(stage(Squares(tmp_path)))
    check(report, tmp_path)
    assert report.kept == 10


def test_a_failed_block_waits_before_it_is_tried_again(tmp_path):
    task = Raises(tmp_path, numbers=(0,), times=2)
    report = run_stage(stage(task, blocks=2), inline(Patience(pause=0.05)))
    assert runs(tmp_path) == [0, 1, 0, 0] and report.seconds >= 0.05 + 0.1


def test_a_stage_without_hope_ends_early(tmp_path):
    task = Raises(tmp_path, numbers=tuple(range(1000)))
    with pytest.raises(BlocksFailed, match="5 of 1000"):
        run_stage(stage(task, blocks=1000), inline(Patience(pause=0.0, hopeless=5)))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_waited_for_and_is_no_failure(tmp_path, wrapped):
    said = []

    def report(progress):
        said.append(progress.message or "")
        if sum("disk is full" in message for message in said) >= 5:
            (tmp_path / "space").touch()

    done = run_stage(stage(NoSpace(tmp_path, begin=4, wrapped=wrapped)), inline(HASTY), report)
    check(done, tmp_path)
    told = [message for message in said if message]
    assert len(told) == 6 and told[-1] == "there is space on the disk again"
    assert "the next look is in 0.01 s" in told[0] and "in 0.05 s" in told[3] and "in 0.05 s" in told[4]
    assert told[0].startswith("the disk is full (OSError: [Errno 28] No space left on device); ")
    assert len(runs(tmp_path)) == 12 + 5


def test_a_disk_that_stays_full_is_given_up_after_a_while(tmp_path):
    with pytest.raises(StorageError, match=r"the disk has been full for .*No space left.*4 of 12 blocks are kept"):
        run_stage(stage(NoSpace(tmp_path, begin=4)), inline(HASTY))
    (tmp_path / "space").touch()
    assert run_stage(stage(NoSpace(tmp_path, begin=4))).kept == 4


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path):
    @dataclass(frozen=True)
    class Interrupted(Squares):
        def trouble(self, number):
            if number == 7:
                raise KeyboardInterrupt

    said = []
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage(Interrupted(tmp_path)), report=said.append)
    assert said[-1].message == "stopped; 7 of 12 blocks are kept: give the same command again to go on"
    assert run_stage(stage(Squares(tmp_path))).kept == 7


def test_progress_counts_blocks_and_voxels(tmp_path):
    run_stage(stage(Squares(tmp_path), blocks=4))
    seen = []
    run_stage(stage(Squares(tmp_path, seconds=0.002), blocks=8), report=seen.append)
    assert [progress.done for progress in seen] == list(range(1, 9))
    assert [progress.kept for progress in seen] == [1, 2, 3, 4, 4, 4, 4, 4]
    assert all(progress.total == 8 and progress.failed == 0 and progress.stage == "squares" for progress in seen)
    assert seen[-1].seconds_left == 0 and 0 < seen[-1].voxels_per_second < 1000 / 0.002 * 2.1
    assert seen[3].seconds_left == pytest.approx(4000 / seen[3].voxels_per_second)


def test_a_stage_may_count_no_voxels_or_have_no_blocks(tmp_path):
    seen = []
    task = Squares(tmp_path)
    report = run_stage(Stage("reduce", task, [0, 0], tmp_path / "marks", "key"), report=seen.append)
    assert report.voxels == 0 and report.row()["megavoxels_per_second"] is None
    assert seen[0].voxels_per_second is None and seen[0].seconds_left > 0
    assert run_stage(Stage("nothing", task, [], tmp_path / "none", "key")).results == []


def test_the_slowest_blocks_are_named(tmp_path):
    report = run_stage(stage(Placed(tmp_path, lattice=Lattice((1, 1, 12), (1, 1, 1)))))
    slowest = report.slowest
    marks = {number: read_mark(tmp_path / "marks", number) for number in range(12)}
    expected = sorted(marks, key=lambda number: -marks[number].seconds)[:5]
    assert [block.number for block in slowest] == expected
    assert [block.seconds for block in slowest] == [marks[number].seconds for number in expected]
    assert slowest[0].place.startswith(f"at (0, 0, {slowest[0].number}), voxels z 0:1, y 0:1, x {slowest[0].number}:")
    assert report.peak_bytes == max(mark.peak_bytes for mark in marks.values())
    row = rows([report])[0]
    assert row["stage"] == "squares" and row["blocks"] == 12 and row["slowest"].startswith(f"{slowest[0].number} (")


class Unruly(Executor):
    """Ends blocks in any order, loses some, finds the disk full and fails as a random generator says."""

    workers = 3

    def __init__(self, seed, faults):
        super().__init__(Patience(tries=10**6, pause=0.0, full_disk_pauses=(0.0, 0.0)))
        self.random, self.faults, self.jobs, self.most = random.Random(seed), faults, [], 0

    @property
    def room(self):
        return self.random.randint(1, 7)

    def submit(self, job, number):
        self.jobs.append((job, number))
        self.most = max(self.most, len(self.jobs))

    def next(self, timeout):
        self.random.shuffle(self.jobs)
        ended = [self.jobs.pop() for _ in range(self.random.randint(0, len(self.jobs)))]
        return [self.outcome(job, number) for job, number in ended]

    def outcome(self, job, number):
        if self.random.random() >= self.faults:
            return job(number)
        if self.random.random() < 0.5:
            job(number)  # done, but nobody hears of it
        kind = self.random.choice(["lost", "full", "cause"])
        return Outcome(number, **{kind: "it fell" if kind == "cause" else True})

    def drop(self):
        self.jobs.clear()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), faults=st.floats(0, 0.6), blocks=st.integers(0, 20))
def test_whatever_happens_the_results_are_those_of_an_undisturbed_run(tmp_path_factory, seed, faults, blocks):
    folder = tmp_path_factory.mktemp("squares")
    executor = Unruly(seed, faults)
    report = run_stage(stage(Squares(folder), blocks), executor)
    check(report, folder, blocks)
    assert sorted(runs(folder)) == list(range(blocks)) and executor.most <= 7


def test_a_worker_of_another_version_computes_nothing(tmp_path):
    outcome = Job("squares", Squares(tmp_path), tmp_path / "marks", "key", version="0.0.1")(0)
    assert "must have segkit 0.0.1" in outcome.cause and "install it there" in outcome.cause
    assert outcome.result is None and runs(tmp_path) == []


def test_which_errors_are_a_full_disk():
    full = OSError(28, "No space left on device", "volume")
    wrapped = StorageError("volume cannot be written (No space left on device)")
    wrapped.__cause__ = full
    assert no_space(full) is no_space(wrapped) is no_space(ExceptionGroup("two", [ValueError(), wrapped])) is full
    hdf5 = OSError("Can't write data (errno = 28, error message = 'No space left on device')")
    for error in (OSError(122, "Disk quota exceeded"), OSError("1000 requested and 496 written"), hdf5):
        assert no_space(error) is error
    loop = ValueError()
    loop.__context__ = loop
    for error in (loop, OSError(5, "I/O error"), ValueError(28), StorageError("cannot be read")):
        assert no_space(error) is None


def test_errors_in_a_line():
    assert in_a_line(SegkitError("a sentence\nmore")) == "a sentence"
    assert in_a_line(ValueError("\nbad value\nmore")) == "ValueError: bad value"
    assert in_a_line(MemoryError()) == "MemoryError"


def test_pace_looks_at_the_last_blocks_only():
    pace = Pace(begin=0.0, memory=4)
    assert pace.speed is None
    for now in range(1, 11):
        pace.add(now, 100.0)
    for now in range(11, 15):
        pace.add(now, 7.0)
    assert pace.speed == pytest.approx(7.0)


def test_pace_remembers_more_where_many_end_at_once():
    pace = Pace(begin=0.0, memory=4)
    pace.remember(16)
    for block in range(16):
        pace.add(1.0 + block // 8, 1.0)
    assert pace.speed == pytest.approx(8.0)


def test_tally_knows_no_memory_where_the_system_tells_none():
    tally = Tally()
    tally.add(Outcome(0, {}, 1.0, None))
    assert tally.peak_bytes is None
    tally.add(Outcome(1, {}, 1.0, 5, kept=True))
    assert (tally.peak_bytes, tally.kept, tally.work_seconds) == (5, 1, 2.0)
    assert [block.number for block in tally.slowest(str)] == [0, 1]


def test_durations():
    assert [duration(seconds) for seconds in (0.25, 9.9, 30, 600, 7200)] == ["0.25 s", "9.9 s", "30 s", "10 min", "2 h"]


def test_inline_needs_no_cluster():
    with inline() as executor:
        assert isinstance(executor, Inline) and executor.dashboard is None and list(executor.next(0.0)) == []
