"""Fragments by blocks, without seams.

Four stages. "fragments": the fragmenter runs on each block and its halo, and what it finds is kept in files. "faces":
the blocks on both sides of each face are compared. "ids": one task finds the fragments that are one
(:mod:`segkit.fragment.stitch`). "write": each block is written with its final ids.

The table of ids stays beside the volume, so that the same command, given again later, checks all blocks and mends
those that are damaged, and only those.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segkit.blockwise.blocks import BLOCK, Lattice, Triple
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.engine import Executor, Report, Stage, StageReport, run_stage
from segkit.blockwise.marks import read_mark
from segkit.blockwise.store import clear, fingerprint, work_folder
from segkit.data import check_aligned
from segkit.errors import InvalidParameter, sentence
from segkit.fragment.tasks import FaceTask, FragmentTask, IdTask, WriteTask
from segkit.io import check_writable
from segkit.io.address import as_address
from segkit.io.lookup import AnyAddress
from segkit.io.reader import RegionSource
from segkit.io.zarr_target import Target

HALO = 16
"""Voxels that a block sees beyond its own, unless somebody says another number. On affinities of real neuron shapes the
VOI after agglomeration then differs from that of the whole volume by less than 0.01 bits (benchmarks/by_blocks.py, part
"seams"); fragmenters whose fragments are small do with half of that."""


def fragment_files(
    affinities: AnyAddress,
    out: AnyAddress,
    fragmenter: ComponentSpec,
    *,
    mask: AnyAddress | None = None,
    neighborhood=None,
    block: Sequence[int] = BLOCK,
    halo: Sequence[int] | None = None,
    executor: Executor | None = None,
    report: Report | None = None,
    work: Path | None = None,
) -> list[StageReport]:
    """Cut a volume of any size into fragments, block by block; ids are global, from 1 without gaps.

    One block gives just what the fragmenter gives of the whole volume. Many give nearly the same: close to faces the
    fragmenter may decide otherwise for what it does not see, the less so the wider the halo. The result depends on
    `block` and `halo`, never on the executor. A fragment may be in two pieces where the blocks disagree on what is
    between them. Where the halo is 0 along an axis, fragments end at the faces of blocks.

    Memory: a worker holds what the fragmenter takes for a block and its halo. Work: as many voxels are computed as
    blocks and halos have; for blocks of 256 and a halo of 16, 1.2 times the volume of 2^3 blocks, at most 1.42 times.

    Parameters
    ----------
    affinities, neighborhood
        As of :func:`segkit.io.read_affinities`.
    out
        A .zarr; its ``volumes/fragments`` or the dataset that is named.
    fragmenter
        Which one. One that treats sections apart (its parameter `per_section`) needs no halo along z and gets none:
        along z, blocks change nothing.
    mask
        Fragments only where this volume is not 0.
    block
        Size of a block in voxels, z, y, x, and of a shard of the result.
    halo
        Voxels that a block sees beyond its own, along z, y, x; :data:`HALO` each if not given. A good one is the
        radius of the thickest neurites, or of fragments where these are smaller.
    executor, report
        As of :func:`segkit.blockwise.engine.run_stage`.
    work
        Where unfinished things lie meanwhile; in `out` if not given. All workers must reach it.

    Returns
    -------
    A report of each stage that was run; the "fragments" in the results of the last one add up to their number.

    Raises
    ------
    InvalidInput
        If the mask is not aligned, a parameter is wrong or the address cannot be written to.
    BlocksFailed
        If a block could not be computed.
    """
    check_writable(out)
    fragmenter.load()
    source = RegionSource(affinities, "affinities", neighborhood)
    mask_source = None if mask is None else RegionSource(mask, "mask")
    check_aligned(affinities=source, mask=mask_source)
    lattice = Lattice(source.shape, block, _halo(fragmenter, halo))  # type: ignore[arg-type]
    inputs = [source.identity, np.asarray(source.neighborhood).tolist(), mask_source and mask_source.identity]
    key = fingerprint(
        stage="fragment", inputs=inputs, fragmenter=fragmenter.identity(), block=lattice.block, halo=lattice.halo
    )
    notes = {"fragmenter": fragmenter.settings()}
    target = Target.create(out, "fragments", source.shape, source.grid, np.uint64, lattice.block, key=key, notes=notes)
    folder = (work or work_folder(as_address(out), f"fragment {target.name.replace('/', '.')}")) / key
    found = _run(
        FragmentTask(source, mask_source, fragmenter, lattice, folder / "pieces"), target, key, executor, report
    )
    target.finish()
    clear(folder if work else folder.parent)
    return found


def _run(
    fragments: FragmentTask, target: Target, key: str, executor: Executor | None, report: Report | None
) -> list[StageReport]:
    """All stages; those before the last only where the table of ids is not there already."""
    lattice, folder = fragments.lattice, fragments.folder.parent
    voxels = [block.voxels for block in lattice]
    faces = FaceTask(fragments, lattice, folder / "pairs")
    ids = IdTask(faces, target.marks / "ids" / "table")
    write = WriteTask(fragments, lattice, ids.folder, target)
    named = Stage("ids", ids, [0], target.marks / "ids", key)
    stages = [
        Stage("fragments", fragments, voxels, folder / "marks" / "fragments", key),
        Stage("faces", faces, [0] * len(faces), folder / "marks" / "faces", key),
    ]
    if _done(named):
        stages = []
    stages += [named, Stage("write", write, voxels, target.marks, key)]
    return [run_stage(stage, executor, report) for stage in stages]


def _done(stage: Stage) -> bool:
    """Whether its only block is done."""
    mark = read_mark(stage.folder, 0)
    return mark is not None and mark.key == stage.key and mark.digest == stage.task.digest(0)


def _halo(fragmenter: ComponentSpec, halo: Sequence[int] | None) -> Triple:
    z, y, x = (HALO,) * 3 if halo is None else _checked(halo)
    apart = fragmenter.settings()["parameters"].get("per_section") is True  # type: ignore[attr-defined]
    return 0 if apart else z, y, x


def _checked(halo: Sequence[int]) -> Triple:
    if len(halo) != 3:
        raise InvalidParameter(sentence("halo", "must be three numbers of voxels, z, y, x, from 0 on", halo))
    z, y, x = halo
    return z, y, x
