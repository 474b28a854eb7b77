"""How a stage goes about a volume: what a whole volume is spared, and what blocks get."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from segkit import Grid, Labels, io
from segkit.blockwise.engine import Stage
from segkit.blockwise.executor import Inline, Patience
from segkit.blockwise.job import BlockTask
from segkit.blockwise.work import WHOLE, Work
from segkit.errors import BlocksFailed, InvalidInput
from segkit.io.shard_target import ShardOutput

LABELS = Labels(np.arange(1, 2 * 4 * 6 + 1, dtype=np.uint64).reshape(2, 4, 6), Grid((40, 4, 4)))


@dataclass(frozen=True)
class Copy(BlockTask):
    """Writes the blocks of a volume."""

    source: io.RegionSource
    lattice: object
    target: io.Target
    ran: list = field(default_factory=list, compare=False)

    def run(self, number: int) -> dict:
        self.ran.append(number)
        part = self.lattice[number].inner
        self.target.write(part, self.source.read(part))
        return {"voxels": self.lattice[number].voxels}

    def digest(self, number: int) -> str | None:
        return self.target.digest(self.lattice[number].inner)


def copied(folder: Path, out: str, work: Work) -> Copy:
    """The task, after a volume was copied by it."""
    source = work.source(folder / "in.h5", "fragments")
    lattice = work.lattice(source.shape)
    with work.output(folder / out) as output:
        target = output.volume(io.Form("fragments", source.shape, source.grid), key="k")
        task = Copy(source, lattice, target)
        results = work.run(Stage("copy", task, [block.voxels for block in lattice], target.marks, "k"))
    assert sum(each["voxels"] for each in results) == LABELS.array.size
    return task


@pytest.fixture
def folder(tmp_path):
    """With the volume that is copied."""
    io.write(tmp_path / "in.h5", LABELS, "fragments")
    return tmp_path


@pytest.mark.parametrize(
    ("out", "block"), [("o.h5", None), ("o.zarr", None), ("o.zarr", (1, 3, 4)), ("o.zarr", (9, 9, 9))]
)
def test_one_body_copies_a_volume_whole_and_by_blocks(folder, out, block):
    work = Work(block)
    task = copied(folder, out, work)
    found = io.read_labels(folder / out, "fragments")
    np.testing.assert_array_equal(found.array, LABELS.array)
    assert found.grid == LABELS.grid and task.ran == list(range(len(task.lattice)))
    assert [len(each.results) for each in work.ended] == ([] if work.whole else [len(task.lattice)])


def test_a_whole_volume_is_one_block_that_leaves_no_marks(folder):
    task = copied(folder, "out.zarr", Work(halo=(1, 1, 1)))
    assert len(task.lattice) == 1 and task.lattice[0].outer == task.lattice[0].inner
    assert sorted(path.name for path in folder.iterdir()) == ["in.h5", "out.zarr"]
    assert not [path for path in folder.rglob("*") if "mark" in path.name or "segkit-work" in path.name]
    assert copied(folder, "out.zarr", Work()).ran == [0]  # again: nothing says that it was done


def test_blocks_are_marked_and_not_computed_again(folder):
    assert len(copied(folder, "out.zarr", Work((1, 3, 4))).ran) == 8
    work = Work((1, 3, 4))
    assert copied(folder, "out.zarr", work).ran == [] and work.ended[0].kept == 8


class Fails(Copy):
    """A volume that cannot be computed."""

    def run(self, number: int) -> dict:
        raise InvalidInput("the volume is wrong")


def test_the_error_of_a_whole_volume_is_raised_as_it_is(tmp_path):
    stage = Stage("fails", Fails(None, Work().lattice((1, 1, 1)), None), [1], tmp_path / "marks", "k")
    with pytest.raises(InvalidInput, match=r"^the volume is wrong$"):
        Work().run(stage)
    with pytest.raises(BlocksFailed, match="has 1 of 1 blocks that cannot be computed"):
        Work((1, 1, 1), executor=Inline(Patience(tries=1))).run(stage)


def test_outputs(tmp_path):
    io.write(tmp_path / "False.zarr", LABELS, "truth")
    for work, kind in ((WHOLE, io.Output), (Work((1, 1, 1)), ShardOutput)):
        path = tmp_path / f"{work.whole}.zarr"
        with work.output(path) as output:
            assert isinstance(output, kind) and work.whole == (kind is io.Output)
            with work.output(output) as again:
                again.put(LABELS, "fragments")
            assert again is output and path.exists() == (not work.whole)
        assert io.exists(path, "fragments")
    with pytest.raises(KeyboardInterrupt), WHOLE.output(tmp_path / "none.h5") as output:
        output.put(LABELS, "fragments")
        raise KeyboardInterrupt
    assert not (tmp_path / "none.h5").exists()


def test_sources_travel_only_by_blocks():
    assert WHOLE.source("a.h5", "raw").address.path == Path("a.h5")
    assert Work((1, 1, 1)).source("a.h5", "raw").address.path == Path("a.h5").absolute()


def test_shelves(tmp_path):
    array = np.arange(5)
    for work, files in ((WHOLE, 0), (Work((1, 1, 1), folder=tmp_path / "work"), 1)):
        shelf = work.shelf(work.folder_for(tmp_path / "out.zarr", "test", "k"))
        shelf.put("numbers", array)
        np.testing.assert_array_equal(shelf.get("numbers"), array)
        assert len(list(tmp_path.rglob("numbers.npy"))) == files
        shelf.clear()
        assert not list(tmp_path.rglob("numbers.npy"))


def test_a_whole_volume_tells_how_far_it_is():
    told = []
    Work(report=told.append).tell("infer", 3, 7)
    assert [(each.stage, each.done, each.total) for each in told] == [("infer", 3, 7)]
    WHOLE.tell("infer", 3, 7)
