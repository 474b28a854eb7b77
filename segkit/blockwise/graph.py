"""The region graph by blocks: each block keeps the graph of its own affinity edges in a file.

United (:func:`segkit.agglomerate.pieces.unite`), the files are the graph of the whole volume, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segkit.agglomerate.pieces import AffinityLists, Piece
from segkit.agglomerate.reduce import Linkage
from segkit.blockwise.blocks import Lattice, Slices
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.engine import BlockTask
from segkit.blockwise.marks import IN_A_FOLDER
from segkit.blockwise.store import file_digest
from segkit.data import Affinities, Labels, RegionAdjacencyGraph
from segkit.errors import InvalidInput
from segkit.io.atomic import replacing, storage_errors
from segkit.io.regions import RegionSource

FEATURE, NODE_FEATURE = "feature ", "node feature "
"""What the names of statistics begin with in a file."""


@dataclass(frozen=True)
class GraphTask(BlockTask):
    """Makes the graph of the affinity edges that begin in a block."""

    affinities: RegionSource
    fragments: RegionSource
    lattice: Lattice
    agglomerator: ComponentSpec
    """Says which statistics are wanted."""
    folder: Path
    """Where the graphs lie."""

    def run(self, number: int) -> dict:
        """Read the affinities of the block, and the fragments as far as these lead; store the graph."""
        inner = self.lattice[number].inner
        outer = window(inner, self.lattice.shape, np.asarray(self.affinities.neighborhood))
        values = Affinities(
            self.affinities.read(inner),
            np.asarray(self.affinities.neighborhood),
            self.affinities.grid.crop([part.start for part in inner]),
        )
        labels = Labels(self.fragments.read(outer), self.fragments.grid.crop([part.start for part in outer]))
        z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
        try:
            piece = Linkage(self.agglomerator.load()).piece(values, labels, (z, y, x))
        except InvalidInput as error:
            raise type(error)(f"{error} (counted from the block's first voxel)") from error
        return {"nodes": len(piece.graph.node_ids), "edges": len(piece.graph.edges)} | self._store(number, piece)

    def digest(self, number: int) -> str | None:
        """Of the file."""
        return file_digest(piece_path(self.folder, number))

    def _store(self, number: int, piece: Piece) -> dict:
        path = piece_path(self.folder, number)
        save_piece(path, piece)
        return {"bytes": path.stat().st_size}


def window(inner: Slices, shape: Sequence[int], neighborhood: np.ndarray) -> Slices:
    """A box, and all that the edges of its voxels lead to inside the volume.

    >>> window((slice(4, 8), slice(0, 8), slice(0, 4)), (9, 9, 9), np.array([[-1, 0, 0], [0, 2, 0], [0, -1, 1]]))
    (slice(3, 8, None), slice(0, 9, None), slice(0, 5, None))
    """
    before, behind = np.minimum(neighborhood.min(axis=0), 0), np.maximum(neighborhood.max(axis=0), 0)
    z, y, x = (
        slice(max(part.start + int(low), 0), min(part.stop + int(high), size))
        for part, low, high, size in zip(inner, before, behind, shape, strict=True)
    )
    return z, y, x


def piece_path(folder: Path, number: int) -> Path:
    """Where the graph of a block lies."""
    return folder / f"{number // IN_A_FOLDER:06d}" / f"{number}.npz"


def save_piece(path: Path, piece: Piece) -> None:
    """Write a piece as .npz, not compressed, in one step, durably; its folder is made if need be."""
    graph = piece.graph
    arrays: dict[str, Any] = {"node_ids": graph.node_ids, "edges": _small(graph.edges, len(graph.node_ids))}
    arrays |= {FEATURE + name: values for name, values in graph.features.items()}
    arrays |= {NODE_FEATURE + name: values for name, values in graph.node_features.items()}
    if piece.lists is not None:
        arrays |= dict(zip(AffinityLists._fields, piece.lists, strict=True))
    if piece.lowest is not None:
        arrays["lowest"] = piece.lowest
    with storage_errors("written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)


def load_piece(path: Path) -> Piece:
    """The piece that :func:`save_piece` wrote."""
    with storage_errors("read", path), np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    features = {name.removeprefix(FEATURE): arrays[name] for name in arrays if name.startswith(FEATURE)}
    sizes = {name.removeprefix(NODE_FEATURE): arrays[name] for name in arrays if name.startswith(NODE_FEATURE)}
    lists = AffinityLists(*(arrays[name] for name in AffinityLists._fields)) if "starts" in arrays else None
    graph = RegionAdjacencyGraph(arrays["node_ids"], arrays["edges"].astype(np.int64), features, sizes)
    return Piece(graph, lists, arrays.get("lowest"))


def load_ids(path: Path) -> np.ndarray:
    """The fragments of a piece alone, uint64 (N,), sorted."""
    with storage_errors("read", path), np.load(path) as stored:
        return stored["node_ids"]


def _small(edges: np.ndarray, nodes: int) -> np.ndarray:
    """Edges in half the space, as a rule."""
    return edges.astype(np.uint32) if nodes < 2**32 else edges
