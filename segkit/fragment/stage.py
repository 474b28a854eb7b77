"""Cut the affinities in files into fragments (`segkit fragment`), whole or by blocks and without seams.

Of a whole volume, what the fragmenter gives is written as it is: one task, "write". By blocks, three come before it.
"fragments": the fragmenter runs on each block and its halo, and what it finds is kept in files. "faces": the blocks on
both sides of each face are compared. "ids": one task finds the fragments that are one
(:mod:`segkit.fragment.stitch`). Then each block is written with its final ids.

The table of ids stays beside the volume, so that the same command, given again later, checks all blocks and mends
those that are damaged, and only those.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from segkit import io
from segkit.blockwise.blocks import Lattice, Triple
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.engine import Stage
from segkit.blockwise.job import BlockTask
from segkit.blockwise.marks import read_mark
from segkit.blockwise.passing import PassingAffinities
from segkit.blockwise.store import fingerprint
from segkit.blockwise.work import WHOLE, Work
from segkit.data import check_aligned
from segkit.errors import InvalidParameter, sentence
from segkit.fragment.tasks import FaceTask, FragmentTask, FragmentWholeTask, IdTask, WriteTask
from segkit.io.lookup import AnyAddress

HALO = 16
"""Voxels that a block sees beyond its own, unless somebody says another number. On affinities of real neuron shapes the
VOI after agglomeration then differs from that of the whole volume by less than 0.01 bits (benchmarks/by_blocks.py, part
"seams"); fragmenters whose fragments are small do with half of that."""


def fragment_files(
    affinities: AnyAddress | PassingAffinities,
    out: AnyAddress,
    fragmenter: ComponentSpec,
    *,
    mask: AnyAddress | None = None,
    neighborhood: ArrayLike | None = None,
    work: Work = WHOLE,
) -> int:
    """Cut a volume of any size into fragments; returns how many there are.

    By blocks, ids are global, from 1 without gaps. Many blocks give nearly what the whole volume gives: close to faces
    the fragmenter may decide otherwise for what it does not see, the less so the wider the halo; where that is 0,
    fragments end there. A fragment may be in two pieces where blocks disagree on what is between them.

    Memory: a worker holds what the fragmenter takes for a block and its halo. Computed are as many voxels as blocks and
    halos have; for blocks of 256 and a halo of 16, 1.2 times the volume of 2^3 blocks, at most 1.42 times.

    Parameters
    ----------
    affinities, neighborhood
        As of :func:`segkit.io.read_affinities`.
    out
        A file, by blocks a .zarr; its ``volumes/fragments`` or the dataset that is named.
    fragmenter
        Which one. One that treats sections apart (its parameter `per_section`) needs no halo along z and gets none:
        along z, blocks change nothing.
    mask
        Fragments only where this volume is not 0.
    work
        Whole, or by blocks. A halo is :data:`HALO` along each axis if not given; a good one is the radius of the
        thickest neurites, or of fragments where these are smaller.

    Raises
    ------
    InvalidInput
        If the mask is not aligned, a parameter is wrong or the address cannot be written to.
    BlocksFailed
        If a block could not be computed.
    """
    io.check_writable(out)
    fragmenter.load()
    source = work.source(affinities, "affinities", neighborhood)
    mask_source = None if mask is None else work.source(mask, "mask")
    check_aligned(affinities=source, mask=mask_source)
    lattice = work.lattice(source.shape, halo_of(fragmenter, work.halo))
    key = "" if work.whole else _key(source, mask_source, fragmenter, lattice)
    form, notes = io.Form("fragments", source.shape, source.grid), {"fragmenter": fragmenter.settings()}
    with work.output(out) as output:
        target = output.volume(form, key=key, notes=notes)
        task: BlockTask = FragmentWholeTask(source, mask_source, fragmenter, target)
        folder = work.folder_for(output.address, f"fragment {output.address.at('fragments').replace('/', '.')}", key)
        if not work.whole:
            fragments = FragmentTask(source, mask_source, fragmenter, lattice, folder / "pieces")
            task = WriteTask(fragments, lattice, _number(fragments, target.marks / "ids", key, work), target)
        results = work.run(Stage("write", task, [block.voxels for block in lattice], target.marks, key))
    if not work.whole:
        work.clear(folder)
    return sum(result["fragments"] for result in results)  # of each block, those that begin in it


def fragment_truth(truth: AnyAddress, out: AnyAddress, *, per_section: bool = False) -> int:
    """Write the objects of the truth as fragments, see :func:`segkit.fragment.from_labels.fragments_from_labels`."""
    from segkit.fragment.from_labels import fragments_from_labels  # fastremap takes some MB of memory

    io.check_writable(out)
    found = fragments_from_labels(io.read_labels(truth), per_section=per_section)
    io.write(out, found, "fragments")
    return len(found.ids())


def _key(source: io.RegionSource, mask: io.RegionSource | None, fragmenter: ComponentSpec, lattice: Lattice) -> str:
    inputs = [source.identity, np.asarray(source.neighborhood).tolist(), mask and mask.identity]
    settings = {"fragmenter": fragmenter.identity(), "block": lattice.block, "halo": lattice.halo}
    return fingerprint(stage="fragment", inputs=inputs, **settings)


def _number(fragments: FragmentTask, ids: Path, key: str, work: Work) -> Path:
    """Have the fragments of all blocks found and numbered, unless they are already; the folder of the table of ids."""
    lattice, folder = fragments.lattice, fragments.folder.parent
    faces = FaceTask(fragments, lattice, folder / "pairs")
    table = IdTask(faces, ids / "table")
    named = Stage("ids", table, [0], ids, key)
    if not _done(named):
        voxels = [block.voxels for block in lattice]
        work.run(Stage("fragments", fragments, voxels, folder / "marks" / "fragments", key))
        work.run(Stage("faces", faces, [0] * len(faces), folder / "marks" / "faces", key))
    work.run(named)
    return table.folder


def _done(stage: Stage) -> bool:
    """Whether its only block is done."""
    mark = read_mark(stage.folder, 0)
    return mark is not None and mark.key == stage.key and mark.digest == stage.task.digest(0)


def halo_of(fragmenter: ComponentSpec, halo: Sequence[int] | None) -> Triple:
    """The voxels that a block sees beyond its own: those given or :data:`HALO`; none between sections cut apart."""
    z, y, x = (HALO,) * 3 if halo is None else _checked(halo)
    apart = fragmenter.settings()["parameters"].get("per_section") is True  # type: ignore[attr-defined]
    return 0 if apart else z, y, x


def _checked(halo: Sequence[int]) -> Triple:
    if len(halo) != 3:
        raise InvalidParameter(sentence("halo", "must be three numbers of voxels, z, y, x, from 0 on", halo))
    z, y, x = halo
    return z, y, x
