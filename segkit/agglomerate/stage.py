"""Merge the fragments in files into a tree (`segkit agglomerate`): at once, or from the graphs of blocks.

The blocks' graphs are reduced (:mod:`segkit.agglomerate.pieces`): merges that are certain whatever lies outside are
made, and what is left goes up to blocks of 2 x 2 x 2 blocks, and so on, until one block is the volume. The merges of
all levels together are the tree: leaves, parents and altitudes are those of the whole-volume run, bit for bit.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from segkit import io
from segkit.agglomerate.pieces import MERGE, AffinityLists, Linkage, Piece, reduce_piece, tree_of, unite
from segkit.blockwise.blocks import Lattice, Triple
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.engine import Stage
from segkit.blockwise.job import BlockTask
from segkit.blockwise.marks import IN_A_FOLDER
from segkit.blockwise.passing import PassingAffinities
from segkit.blockwise.store import array_digest, file_digest, fingerprint, load_array, save_array
from segkit.blockwise.work import WHOLE, Work
from segkit.data import Affinities, Labels, MergeTree, RegionAdjacencyGraph, check_aligned
from segkit.data.boxes import counted_from, reached
from segkit.data.source import Held
from segkit.errors import InvalidInput
from segkit.io import RegionSource
from segkit.io.atomic import replacing, storage_errors
from segkit.io.lock import lock_of, locked
from segkit.io.lookup import AnyAddress
from segkit.registry import calls

TREE = ("leaf_ids", "parents", "altitudes")
FEATURE, NODE_FEATURE = "feature ", "node feature "
"""What the names of statistics begin with in a file."""


@dataclass(frozen=True)
class GraphTask(BlockTask):
    """Makes the graph of the affinity edges that begin in a block."""

    affinities: RegionSource | PassingAffinities
    fragments: RegionSource
    lattice: Lattice
    agglomerator: ComponentSpec
    """Says which statistics are wanted."""
    folder: Path
    """Where the graphs lie."""

    def run(self, number: int) -> dict:
        """Read the affinities of the block, and the fragments as far as these lead; store the graph."""
        linkage = Linkage(self.agglomerator.load())
        if isinstance(self.affinities, PassingAffinities):
            piece = self.affinities.piece(number, self.fragments, linkage)
        else:
            piece = self._piece(number, linkage)
        return {"nodes": len(piece.graph.node_ids), "edges": len(piece.graph.edges)} | self._store(number, piece)

    def _piece(self, number: int, linkage: Linkage) -> Piece:
        inner = self.lattice[number].inner
        outer = reached(inner, self.lattice.shape, np.asarray(self.affinities.neighborhood))
        values = Affinities(
            self.affinities.read(inner),
            np.asarray(self.affinities.neighborhood),
            self.affinities.grid.crop([part.start for part in inner]),
        )
        labels = Labels(self.fragments.read(outer), self.fragments.grid.crop([part.start for part in outer]))
        try:
            return linkage.piece(values, labels, counted_from(outer, inner))
        except InvalidInput as error:
            raise type(error)(f"{error} (counted from the block's first voxel)") from error

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the file of the graph."""
        return file_digest(piece_path(self.folder, number))

    def _store(self, number: int, piece: Piece) -> dict:
        path = piece_path(self.folder, number)
        save_piece(path, piece)
        return {"bytes": path.stat().st_size}


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


@dataclass(frozen=True)
class ReduceTask(BlockTask):
    """Unites the graphs of 2 x 2 x 2 blocks of the level below, and makes all merges that are certain."""

    agglomerator: ComponentSpec
    counts: Triple
    """How many blocks there are along z, y, x."""
    level: int
    """A block of this level is 2^level blocks along each axis; at level 0 there is nothing to unite."""
    folder: Path
    """Where all graphs and merges lie."""

    @property
    def parts(self) -> Lattice:
        """Return the lattice of the blocks of this level, in which a voxel stands for a block of the volume."""
        return Lattice(self.counts, (2**self.level,) * 3)

    def run(self, number: int) -> dict:
        """Store what is left of the graph, and the merges."""
        linkage = Linkage(self.agglomerator.load())
        below, numbers = self._below(number)
        piece = linkage.unite([load_piece(piece_path(below, each)) for each in numbers])
        found = {"nodes": len(piece.graph.node_ids), "edges": len(piece.graph.edges)}
        reduction = reduce_piece(piece, self._complete(piece.graph.node_ids), linkage)
        del piece
        save_array(self._merges(number), reduction.merges)
        save_piece(piece_path(graphs(self.folder, self.level + 1), number), reduction.piece)
        graph = reduction.piece.graph
        left = {"nodes_left": len(graph.node_ids), "edges_left": len(graph.edges)}
        return found | left | {"merges": len(reduction.merges)}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the files of graph and merges."""
        paths = piece_path(graphs(self.folder, self.level + 1), number), self._merges(number)
        found = [file_digest(path) for path in paths]
        return None if None in found else "-".join(map(str, found))

    def place(self, number: int) -> str:
        """Say which blocks of the volume are united."""
        along = zip("zyx", self.parts[number].inner, strict=True)
        return "at blocks " + ", ".join(f"{axis} {part.start}:{part.stop}" for axis, part in along)

    def merges(self) -> Iterator[np.ndarray]:
        """The merges of all blocks of this level."""
        return (load_array(self._merges(number)) for number in range(len(self.parts)))

    def _merges(self, number: int) -> Path:
        return piece_path(self.folder / f"merges-{self.level}", number).with_suffix(".npy")

    def _below(self, number: int) -> tuple[Path, list[int]]:
        """The folder of the graphs of the level below, and which of them lie in this block."""
        if self.level == 0:
            return graphs(self.folder, 0), [number]
        below = Lattice(self.counts, (2 ** (self.level - 1),) * 3)
        return graphs(self.folder, self.level), below.touching(self.parts[number].inner)

    def _complete(self, ids: np.ndarray) -> np.ndarray:
        """Which nodes no other block of this level holds. A cluster is in one block, as its fragments are."""
        shared = load_array(self.folder / "shared.npy", mapped=True)
        places = np.searchsorted(shared, ids)
        listed = places < len(shared)
        listed[listed] = shared[places[listed]] == ids[listed]
        complete = np.ones(len(ids), bool)
        complete[listed] = load_array(self.folder / "levels.npy", mapped=True)[places[listed]] <= self.level
        return complete


@dataclass(frozen=True)
class ClusterTask(BlockTask):
    """Unites the graphs of all blocks and clusters them at once."""

    agglomerator: ComponentSpec
    blocks: int
    folder: Path

    def run(self, number: int) -> dict:
        """Store the tree."""
        linkage = Linkage(self.agglomerator.load())
        paths = (piece_path(graphs(self.folder, 0), each) for each in range(self.blocks))
        piece = unite([load_piece(path) for path in paths], largest=linkage.largest)
        tree = linkage.cluster(piece)
        for name, path in self.paths().items():
            save_array(path, getattr(tree, name))
        return {"nodes": len(piece.graph.node_ids), "edges": len(piece.graph.edges), "merges": len(tree.altitudes)}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the files of the tree."""
        found = [file_digest(path) for path in self.paths().values()]
        return None if None in found else "-".join(map(str, found))

    def paths(self) -> dict[str, Path]:
        """Where the arrays of the tree lie."""
        return {name: self.folder / f"{name}.npy" for name in TREE}


@dataclass(frozen=True)
class Merged:
    """Hold the tree that fragments were merged into, and figures of the graphs that it was made from."""

    tree: MergeTree
    fragments: RegionSource | Held
    """Those that the tree is of: of a whole volume as they were read, to be cut at once."""
    graph: dict[str, dict[str, int]]
    """By stage the nodes and edges that its largest block had before and after ("nodes_left", "edges_left"), and the
    "total_edges" of all its blocks; empty of a whole volume, and of a tree that was there already."""


def agglomerate_files(
    affinities: AnyAddress | PassingAffinities,
    fragments: AnyAddress,
    out: AnyAddress | io.Output,
    agglomerator: ComponentSpec,
    *,
    neighborhood: ArrayLike | None = None,
    notes: Mapping[str, object] | None = None,
    whole_graph: bool = False,
    work: Work = WHOLE,
) -> Merged:
    """Merge the fragments of a volume of any size; the tree is that of `agglomerator` on the whole volume, bit for bit.

    By blocks, a tree that was made of the same inputs in the same way and is whole is not made again.

    Memory: a worker holds a block, and later the graph of a block of 2, 4, 8 ... blocks along each axis, of which the
    reduction leaves mostly what lies near faces. The driver holds the tree: at most about 150 bytes a fragment. The
    files take about as much as the graph of the volume, twice.

    Parameters
    ----------
    affinities, neighborhood
        As of :func:`segkit.io.read_affinities`.
    fragments
        Aligned with them.
    out
        A file, or one that is being made; its ``merge_tree`` or the dataset that is named. It receives the fragments
        too, or by blocks their address; where no dataset is named, segmentations of another tree are removed.
    agglomerator
        By blocks one that works on the region adjacency graph. If it is not `reducible`
        (:class:`segkit.protocols.RagAgglomerator`), one worker holds the graph of the whole volume.
    notes
        What the tree says about itself; by blocks beside the address of the fragments.
    whole_graph
        By blocks, cluster the graph of the volume at once, even where parts could be merged before: for comparison.
    work
        Whole, or by blocks.

    Raises
    ------
    InvalidInput
        If both are not aligned; InvalidParameter by blocks, if the agglomerator does not work on graphs.
    BlocksFailed
        If a block could not be computed.
    """
    component = agglomerator.load()
    linkage = None if work.whole else Linkage(component)
    values = work.source(affinities, "affinities", neighborhood)
    labels = work.source(fragments, "fragments")
    with work.output(out) as output:
        io.check_writable(output.address)
        check_aligned(affinities=values, fragments=labels)
        if linkage is not None:
            make_tree = _by_reduction if linkage.reducible and not whole_graph else _at_once
            return _from_graphs(output, (values, labels, agglomerator), notes or {}, make_tree, work)
        held = labels.whole()
        tree = calls.agglomerate(component, values.whole(), held)
        _put(output, tree, notes or {})
        output.put(held, "fragments")
        return Merged(tree, Held(held), {})


def _from_graphs(
    output: io.Output,
    inputs: tuple[RegionSource, RegionSource, ComponentSpec],
    notes: Mapping[str, object],
    make_tree: Callable[..., MergeTree],
    work: Work,
) -> Merged:
    """The tree of affinities, fragments and an agglomerator, from graphs of blocks, unless it is there already."""
    address, name = output.address, output.address.at("merge_tree")
    Linkage(inputs[2].load()).check_neighborhood(np.asarray(inputs[0].neighborhood))
    with locked(lock_of(address.path, name), f"{address.path}:{name}"):
        return _made_once(output, inputs, notes, make_tree, work)


def _made_once(
    output: "io.Output",
    inputs: tuple[RegionSource, RegionSource, ComponentSpec],
    notes: Mapping[str, object],
    make_tree: Callable[..., MergeTree],
    work: Work,
) -> Merged:
    values, labels, agglomerator = inputs
    identities = [values.identity, np.asarray(values.neighborhood).tolist(), labels.identity]
    decided = fingerprint(stage="agglomerate", inputs=identities, agglomerator=agglomerator.identity())
    stated = {**notes, "fragments": str(labels.address), "key": decided}
    first, address, lattice = len(work.ended), output.address, work.lattice(values.shape)
    key = fingerprint(tree=decided, block=lattice.block)
    folder = work.folder_for(address, f"agglomerate {address.at('merge_tree').replace('/', '.')}", key)
    found = _finished(output, stated)
    if found is not None:
        work.clear(folder)  # a run that was killed may have left it
        return Merged(found, labels, {})
    if address.path.suffix.lower() == ".zarr" and not address.path.exists():
        io.write_all(address.path, {})  # a store, for the folder for work lies in it
    task, marks = GraphTask(values, labels, lattice, agglomerator, graphs(folder, 0)), folder / "marks"
    work.run(Stage("region graph", task, [each.voxels for each in lattice], marks / "graph", key))
    tree = make_tree(task, marks, key, work)
    _put(output, tree, {**stated, "digest": _digest(tree)})
    work.clear(folder)
    return Merged(tree, labels, {each.name: _largest(each.results) for each in work.ended[first:]})


def graphs(folder: Path, level: int) -> Path:
    """Where the graphs lie that go into a level: 0 are those of the blocks, level + 1 what the level leaves."""
    return folder / f"graphs-{level}"


def _by_reduction(task: GraphTask, marks: Path, key: str, work: Work) -> MergeTree:
    folder, counts = task.folder.parent, task.lattice.counts
    leaf_ids = list_nodes(task, folder)
    tasks = [ReduceTask(task.agglomerator, counts, k, folder) for k in range((max(counts) - 1).bit_length() + 1)]
    for each in tasks:
        name = f"reduce {each.level}"
        work.run(Stage(name, each, [0] * len(each.parts), marks / name, key))
    merges = [found for each in tasks for found in each.merges()]
    return tree_of(leaf_ids, np.concatenate([np.empty(0, MERGE), *merges]))


def _at_once(task: GraphTask, marks: Path, key: str, work: Work) -> MergeTree:
    cluster = ClusterTask(task.agglomerator, len(task.lattice), task.folder.parent)
    work.run(Stage("cluster", cluster, [0], marks / "cluster", key))
    return MergeTree(*(load_array(path) for path in cluster.paths().values()))


def list_nodes(task: GraphTask, folder: Path) -> np.ndarray:
    """All fragments, uint64 (N,), sorted; in files those that several blocks hold, with the level at which one does.

    Why from the graphs, and not from where fragments lie? A block also holds those that only its edges lead to.
    """
    paths = [piece_path(task.folder, number) for number in range(len(task.lattice))]
    ids = np.concatenate([load_ids(path) for path in paths])
    ids.sort()
    again = ids[1:] == ids[:-1]
    shared = np.unique(ids[1:][again])
    ids = ids[np.concatenate([[True], ~again])] if len(ids) else ids
    low, high = np.full((len(shared), 3), 2**31 - 1, np.int32), np.full((len(shared), 3), -1, np.int32)
    for block, path in zip(task.lattice, paths, strict=True):
        places = np.flatnonzero(np.isin(shared, load_ids(path), assume_unique=True))
        low[places] = np.minimum(low[places], block.index)
        high[places] = np.maximum(high[places], block.index)
    save_array(folder / "shared.npy", shared)
    save_array(folder / "levels.npy", np.frexp((low ^ high).max(axis=1, initial=0))[1].astype(np.int8))
    return ids


def _finished(output: io.Output, stated: Mapping[str, object]) -> MergeTree | None:
    """The tree that is there, if it was made by this key and is as it was; it then says what is stated now."""
    out = output.address
    if not out.path.exists() or not io.exists(out, "merge_tree"):
        return None
    notes = io.read_notes(out, "merge_tree")
    if notes.get("key") != stated["key"]:
        return None
    tree = io.read_merge_tree(out)
    digest = _digest(tree)
    if digest != notes.get("digest"):
        return None
    if notes != json.loads(json.dumps({**stated, "digest": digest})):
        output.put(tree, "merge_tree", notes={**stated, "digest": digest})
    return tree


def _put(output: io.Output, tree: MergeTree, notes: Mapping[str, object]) -> None:
    """Put a new tree into the file, in place of what is of another one."""
    if output.address.dataset is None:
        output.drop("volumes/segmentation")
    output.put(tree, "merge_tree", notes=notes)


def _digest(tree: MergeTree) -> str:
    return array_digest([getattr(tree, name) for name in TREE])


def _largest(results: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The results of the block with the most edges, and the edges of all blocks together."""
    return {**max(results, key=lambda result: result["edges"]), "total_edges": sum(each["edges"] for each in results)}
