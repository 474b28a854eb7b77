"""The segments that nodes of skeletons lie in, read block by block; blocks without a node are not read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit.blockwise.blocks import Lattice
from segkit.blockwise.engine import Stage
from segkit.blockwise.job import BlockTask
from segkit.blockwise.store import Shelf, array_digest, file_digest, fingerprint, load_array, save_array
from segkit.blockwise.work import Work
from segkit.data.skeletons import Skeletons
from segkit.evaluate.run_length import placed
from segkit.io import RegionSource
from segkit.io.lookup import AnyAddress


@dataclass(frozen=True)
class LookUpTask(BlockTask):
    """Looks up the labels of the nodes in a block."""

    labels: RegionSource
    lattice: Lattice
    tables: Shelf
    """`voxels`, z, y, x, of all nodes, in the order of the blocks; `starts`, the first of each block."""
    folder: Path
    """Where the labels of each block are put."""

    def run(self, number: int) -> dict:
        """Read the smallest box that holds the nodes of the block, if any; store their labels and return how many."""
        starts = self.tables.get("starts")
        voxels = np.asarray(self.tables.get("voxels")[starts[number] : starts[number + 1]])
        found = np.empty(0, np.uint64)
        if len(voxels):
            low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
            box = self.labels.read(tuple(slice(*each) for each in zip(low.tolist(), high.tolist(), strict=True)))
            found = box[tuple((voxels - low).T)]
        save_array(found_path(self.folder, number), found)
        return {"nodes": len(found)}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the file of the labels."""
        return file_digest(found_path(self.folder, number))


def found_path(folder: Path, number: int) -> Path:
    """The file of the labels of a block, uint64."""
    return folder / f"{number // 1000:06d}" / f"{number}.npy"


def look_up_files(labels: AnyAddress, role: str, skeletons: Skeletons, work: Work) -> tuple[Skeletons, np.ndarray]:
    """Look up the labels of nodes in a volume that plays a `role`; return the nodes inside, and their labels (N,).

    The labels are uint64. Nodes outside are left out, see :func:`segkit.evaluate.run_length.placed`. Memory: the
    nodes, and one block.
    """
    source = work.source(labels, role)
    inside, voxels = placed(skeletons, source.grid, source.shape)
    if work.whole:
        return inside, source.whole().array[tuple(voxels.T)]
    lattice = work.lattice(source.shape)
    index = voxels // lattice.block
    number = (index[:, 0] * lattice.counts[1] + index[:, 1]) * lattice.counts[2] + index[:, 2]
    order = np.argsort(number, kind="stable")
    key = fingerprint(stage="nodes", labels=source.identity, voxels=array_digest([voxels]), block=lattice.block)
    folder = work.folder_for(source.address, "nodes", key)
    tables = work.shelf(folder / "tables")
    tables.put("voxels", voxels[order])
    tables.put("starts", np.searchsorted(number[order], np.arange(len(lattice) + 1)))
    task = LookUpTask(source, lattice, tables, folder)
    work.run(Stage("nodes", task, [each.voxels for each in lattice], folder / "marks", key))
    found = np.empty(len(voxels), np.uint64)
    found[order] = np.concatenate([load_array(found_path(folder, number)) for number in range(len(lattice))])
    work.clear(folder)
    return inside, found
