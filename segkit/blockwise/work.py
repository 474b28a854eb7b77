"""How a stage goes about a volume: whole, as one block in this process, or block by block.

A stage is one function of the addresses that it reads, one that it writes to, and a :class:`Work`. Of the work it asks

- :meth:`~Work.source`: what is read, box by box or all of it;
- :meth:`~Work.lattice`: the blocks; a whole volume is a lattice of one;
- :meth:`~Work.output`: where volumes are written, box by box: a file of any format that appears in one go, or shards of
  a Zarr store that many processes write;
- :meth:`~Work.run`: that a task is done on each block: here and now, or by an executor, with marks, so that who was
  stopped can go on;
- :meth:`~Work.folder_for`: where blocks leave what the next task needs.

What only several blocks need (ids across faces, graphs put together) is a step that a stage leaves out where the work
is `whole`. So a whole volume leaves no marks and no files but the result, and its errors are raised as they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from numpy.typing import ArrayLike

from segkit.blockwise.blocks import Lattice, Triple
from segkit.blockwise.engine import OnStageProgress, Stage, run_stage
from segkit.blockwise.executor import Executor
from segkit.blockwise.passing import PassingAffinities
from segkit.blockwise.progress import StageProgress, StageReport
from segkit.blockwise.store import Shelf, clear, work_folder
from segkit.io import Output, RegionSource
from segkit.io.address import Address
from segkit.io.lookup import AnyAddress


@dataclass(frozen=True)
class Work:
    """How the blocks of a volume are computed; by default the volume is one block.

    >>> [[block.inner[2] for block in work.lattice((8, 8, 8))] for work in (Work(), Work((8, 8, 5)))]
    [[slice(0, 8, None)], [slice(0, 5, None), slice(5, 8, None)]]
    """

    block: Triple | None = None
    """Size of a block in voxels, z, y, x, and of a shard of the result; None: the whole volume is one block."""
    halo: Triple | None = None
    """Voxels that a block sees beyond its own, along z, y, x; None leaves it to the stage."""
    executor: Executor | None = None
    """Who computes the blocks; None: this process."""
    report: OnStageProgress | None = None
    """Called with a :class:`~segkit.blockwise.progress.StageProgress` when a block ends, or something is to be said."""
    folder: Path | None = None
    """Where unfinished things lie meanwhile; beside the result if not given. All workers must reach it."""
    ended: list[StageReport] = field(default_factory=list, compare=False)
    """The stages by blocks that have ended, in order."""

    @property
    def whole(self) -> bool:
        """Whether the volume is one block, computed here, that leaves nothing but the result."""
        return self.block is None

    def source(
        self, address: AnyAddress | PassingAffinities, role: str, neighborhood: ArrayLike | None = None
    ) -> RegionSource:
        """A volume that is read; by blocks in any process. Affinities that pass by are a source already."""
        if isinstance(address, PassingAffinities):
            return address  # type: ignore[return-value]  # it is read as one
        return RegionSource(address, role, neighborhood, travels=not self.whole)

    def lattice(self, shape: Sequence[int], halo: Sequence[int] = (0, 0, 0)) -> Lattice:
        """The blocks of a volume, with a halo where there are several."""
        if self.block is None:
            return Lattice(tuple(shape), tuple(shape))  # type: ignore[arg-type]  # it checks that they are three
        return Lattice(tuple(shape), self.block, tuple(halo))  # type: ignore[arg-type]

    @contextmanager
    def output(self, out: AnyAddress | Output) -> Iterator[Output]:
        """Where volumes are written; the file is finished in the end, unless it is an output that others began."""
        if isinstance(out, Output):
            yield out
            return
        with ExitStack() as locks:
            output = Output(out)
            if self.block is not None:
                from segkit.io import shard_target  # zarr is not needed for whole volumes in HDF5

                output = shard_target.ShardOutput(out, self.block, locks)
            yield output
            output.finish()

    def folder_for(self, store: Address | Path, stage: str, key: str) -> Path:
        """Where the blocks of a stage leave what the next one needs; :meth:`clear` removes it in the end."""
        return (self.folder or work_folder(store, stage)) / key

    def shelf(self, folder: Path) -> Shelf:
        """For arrays that all blocks look up: in a folder, or in memory where there is one block."""
        return Shelf(None if self.whole else folder)

    def clear(self, folder: Path) -> None:
        """Remove a folder that :meth:`folder_for` gave, and what lies there of other keys."""
        clear(folder if self.folder else folder.parent)

    def run(self, stage: Stage) -> list[dict]:
        """Have a task done on all blocks; what it returned of each. See :func:`segkit.blockwise.engine.run_stage`."""
        if self.whole:
            return [stage.task.run(number) for number in range(len(stage.voxels))]
        done = run_stage(stage, self.executor, self.report)
        self.ended.append(done)
        return done.results

    def tell(self, stage: str, done: int, total: int) -> None:
        """Report how far the one block of a whole volume is, in parts of it."""
        if self.report is not None:
            self.report(StageProgress(stage, done, 0, 0, total, 1, None, None))


WHOLE = Work()
"""The volume as one block: what stages do if nothing else is said."""
