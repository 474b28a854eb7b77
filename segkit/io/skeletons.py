"""Skeletons in files: SWC, neuroglancer's precomputed skeletons, and NumPy's .npz. Nothing that is read is executed.

- SWC: a file, or a folder of files, each of one neuron. The format states no unit, so that one has to be said.
- Precomputed: a folder whose `info` is of `neuroglancer_skeletons`, or that of a volume that names one; sharded
  (through TensorStore) or a file each, compressed or not; in buckets too. Lengths are nm once transformed, as the
  format says.
- NumPy: ``nodes`` (N, 3) z, y, x, ``edges`` (E, 2) and ``ids`` (N,); or a graph of em_erl (PyTorch Connectomics), of
  version 2 or older. Lengths are nm, unless another unit is said. Pickles are refused, graphs of networkx among them.
"""

import codecs
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from segkit.data.skeletons import Skeletons
from segkit.errors import InvalidInput, MissingFile, sentence
from segkit.io.atomic import storage_errors
from segkit.io.json_file import read_json_object
from segkit.io.precomputed import PACKED, unpacked_file
from segkit.io.records import located
from segkit.io.remote import AnyPath, as_place
from segkit.io.schemas import Schema, checked
from segkit.io.tensor import kvstore_of, tensorstore

Unit = Literal["nm", "um"]
NANOMETERS = {"nm": 1.0, "um": 1000.0}
KIND = "neuroglancer_skeletons"
IDENTITY = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
PICKLES = (".pkl", ".pickle", ".p")
Part = tuple[np.ndarray, np.ndarray, int]
"""Nodes z, y, x, float64 (N, 3), edges, int64 (E, 2), and the neuron."""


class SkeletonInfo(Schema):
    """`info` of precomputed skeletons."""

    transform: Annotated[tuple[float, ...], Field(min_length=12, max_length=12)] = IDENTITY
    sharding: dict[str, Any] | None = None


def read_skeletons(place: str | AnyPath, unit: Unit | None = None) -> Skeletons:
    """Read all skeletons of a file or a folder, see above; `unit` is that of their lengths where the format has none.

    An edge that the file names twice, either way round, counts once.

    Raises MissingFile if there is nothing, InvalidInput for what is no skeleton, or where a unit is missing or
    superfluous, StorageError for damaged files.
    """
    path = as_place(place) if isinstance(place, str) else place
    with located(path):
        suffix = path.suffix.lower()
        if suffix in PICKLES:
            rule, next_step = "must be no pickle, which may run code", "save nodes, edges and ids by numpy.savez"
            raise InvalidInput(sentence("a file of skeletons", rule, next_step=next_step))
        if not path.exists():
            raise MissingFile(sentence("the file", "does not exist", next_step="check the spelling"))
        if suffix == ".npz":
            found = _archive(path, NANOMETERS[unit or "nm"])
        elif suffix == ".swc":
            found = _united([_swc(path, 1, _stated(unit))])
        elif path.is_dir():
            found = _folder(path, unit)
        else:
            rule = "must be .swc, .npz, or a folder of .swc files or of precomputed skeletons"
            raise InvalidInput(sentence("a file of skeletons", rule, repr(path.name), "convert it"))
        found.check()
        return _with_edges_once(found)


def _with_edges_once(skeletons: Skeletons) -> Skeletons:
    """Leave out edges that join what an edge before them joins, as graphs that are stored both ways round have."""
    ends = np.sort(skeletons.edges, axis=1)
    _, first = np.unique(ends[:, 0] * len(skeletons.nodes) + ends[:, 1], return_index=True)
    return Skeletons(skeletons.nodes, skeletons.edges[np.sort(first)], skeletons.ids)


def _stated(unit: Unit | None) -> float:
    if unit is None:
        rule, next_step = "must be said for SWC, which does not state it", "give nm or um (--skeletons-unit)"
        raise InvalidInput(sentence("the unit of lengths", rule, next_step=next_step))
    return NANOMETERS[unit]


def _folder(path: AnyPath, unit: Unit | None) -> Skeletons:
    if (path / "info").is_file():
        if unit not in (None, "nm"):
            rule = "must be nm for precomputed skeletons"
            raise InvalidInput(sentence("the unit of lengths", rule, repr(unit), "leave it out"))
        return _precomputed(path)
    files = sorted(item for item in path.iterdir() if item.suffix.lower() == ".swc")
    if not files:
        rule = "must hold files .swc, or the file info of precomputed skeletons"
        raise InvalidInput(sentence("a folder of skeletons", rule, next_step="name the folder that they lie in"))
    scale = _stated(unit)
    return _united([_swc(file, number, scale) for number, file in enumerate(files, 1)])


def _united(parts: list[Part]) -> Skeletons:
    if not parts:
        next_step = "name the folder that they lie in"
        raise InvalidInput(sentence("a folder of skeletons", "must hold at least one", next_step=next_step))
    sizes = [len(nodes) for nodes, _, _ in parts]
    starts = np.cumsum([0, *sizes])
    edges = [each + start for (_, each, _), start in zip(parts, starts, strict=False)]
    ids = np.repeat(np.array([neuron for _, _, neuron in parts], np.uint64), sizes)
    return Skeletons(np.concatenate([nodes for nodes, _, _ in parts]), np.concatenate(edges), ids)


def _swc(path: AnyPath, neuron: int, scale: float) -> Part:
    """Samples: number, type, x, y, z, radius, number of the parent or -1."""
    with storage_errors("read", path):
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("latin1")
        table = np.empty((0, 5))
        if any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
            table = np.loadtxt(io.StringIO(text), comments="#", usecols=(0, 2, 3, 4, 6), ndmin=2)
    with located(path):
        numbers, parents = table[:, 0], table[:, 4]
        order = np.argsort(numbers, kind="stable")
        if not np.isfinite(table).all() or (np.diff(numbers[order]) == 0).any():
            rule = "must be numbers, those of samples each once"
            raise InvalidInput(sentence("samples", rule, next_step="correct the file"))
        children = np.flatnonzero(parents >= 0)
        places = np.searchsorted(numbers[order], parents[children])
        missing = (places == len(order)) | (numbers[order][np.minimum(places, len(order) - 1)] != parents[children])
        if missing.any():
            rule, value = "must be numbers of samples, or -1", f"{parents[children][missing][0]:g}"
            raise InvalidInput(sentence("parents", rule, value, "correct the file"))
        edges = np.stack([children, order[places]], axis=1) if len(children) else np.empty((0, 2), np.int64)
        return table[:, 3:0:-1] * scale, edges, neuron


def _archive(path: AnyPath, scale: float) -> Skeletons:
    with storage_errors("read", path):
        arrays = _arrays(path.read_bytes())
        for names, made in LAYOUTS.items():
            if arrays.keys() >= set(names):
                nodes, edges, ids = made(arrays)
                if nodes.dtype.kind not in "iuf":
                    rule, next_step = "must be numbers, z, y, x", "correct the file"
                    raise InvalidInput(sentence("nodes", rule, nodes.dtype, next_step))
                return Skeletons(nodes.astype(np.float64) * scale, edges, ids)
    rule = "must hold the arrays nodes, edges and ids, or be a graph of em_erl"
    raise InvalidInput(sentence("a file of skeletons", rule, ", ".join(arrays) or "empty", "save them by numpy.savez"))


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file .npz, none of which is a pickle."""
    if not content.startswith(b"PK"):  # numpy.load would take it for one array, or for a pickle
        rule, next_step = "must be an archive of NumPy", "save nodes, edges and ids by numpy.savez"
        raise InvalidInput(sentence("a file of skeletons", rule, next_step=next_step))
    arrays = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        for name in file.files:
            try:
                arrays[name] = file[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                rule, next_step = "must hold no pickles, which may run code", "save nodes, edges and ids as numbers"
                raise InvalidInput(sentence("a file of skeletons", rule, next_step=next_step)) from error
    return arrays


def _own(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    return arrays["nodes"], arrays["edges"], arrays["ids"]


def _graph(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """em_erl, version 2."""
    edges = np.stack([arrays["edge_u"], arrays["edge_v"]], axis=1).astype(np.int64)
    return arrays["node_coords_zyx"], edges, arrays["node_skeleton_index"]


def _old_graph(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """em_erl before: nodes of skeleton, z, y, x; edges_K of node, node, length."""
    found = [each[:, :2] for name, each in arrays.items() if name.startswith("edges_") and len(each)]
    edges = np.concatenate(found).astype(np.int64) if found else np.empty((0, 2), np.int64)
    return arrays["nodes"][:, 1:], edges, arrays["nodes"][:, 0].astype(np.uint64)


LAYOUTS: dict[tuple[str, ...], Callable[[Mapping[str, np.ndarray]], tuple[np.ndarray, ...]]] = {
    ("nodes", "edges", "ids"): _own,
    ("node_coords_zyx", "edge_u", "edge_v", "node_skeleton_index"): _graph,
    ("skeleton_id", "skeleton_len", "nodes"): _old_graph,
}
"""The arrays by which a layout is known, and how it is read."""


def _precomputed(path: AnyPath) -> Skeletons:
    values = read_json_object(path / "info")
    named = values.get("skeletons")
    if values.get("@type") != KIND and isinstance(named, str) and named and ".." not in named.split("/"):
        path = path / named
        values = read_json_object(path / "info") if (path / "info").is_file() else {"@type": KIND}
    if values.get("@type") != KIND:
        rule, next_step = f"must be of {KIND}", "name the folder of the skeletons"
        raise InvalidInput(sentence("info", rule, repr(values.get("@type")), next_step))
    info = checked(SkeletonInfo, values, "info")
    matrix = np.array(info.transform).reshape(3, 4)
    contents = _in_shards(path, info.sharding) if info.sharding else _in_files(path)
    return _united([_decoded(content, matrix, neuron, path) for neuron, content in contents])


def _in_files(path: AnyPath) -> Iterator[tuple[int, bytes]]:
    names = {item.name.removesuffix(item.suffix) if item.suffix in PACKED else item.name for item in path.iterdir()}
    for name in sorted((each for each in names if each.isascii() and each.isdigit()), key=int):
        if int(name) >= 2**64:
            rule = "must be numbers of 64 bits"
            raise InvalidInput(sentence("names of skeletons", rule, name, "rename the file, or move it elsewhere"))
        content = unpacked_file(path / name)
        if content is not None:
            yield int(name), content


def _in_shards(path: AnyPath, sharding: Mapping[str, Any]) -> Iterator[tuple[int, bytes]]:
    package = tensorstore("sharded skeletons")
    with storage_errors("read", path):
        spec = {"driver": "neuroglancer_uint64_sharded", "metadata": dict(sharding), "base": kvstore_of(path)}
        store = package.KvStore.open(spec).result()
        keys = sorted(store.list().result())
    for key in keys:
        with storage_errors("read", path):
            content = bytes(store[key])
        yield int.from_bytes(key, "big"), content


def _decoded(content: bytes, matrix: np.ndarray, neuron: int, path: AnyPath) -> Part:
    """Numbers of nodes and edges, uint32; nodes x, y, z, float32; edges, uint32; then attributes. Little-endian."""
    with located(f"{path}/{neuron}"):
        nodes, edges = np.frombuffer(content, "<u4", 2).tolist() if len(content) >= 8 else (1, 0)
        if 8 + 12 * nodes + 8 * edges > len(content):
            rule, next_step = f"must hold {nodes} nodes and {edges} edges", "the file is cut short: copy it again"
            raise InvalidInput(sentence("the skeleton", rule, f"{len(content)} bytes", next_step))
        places = np.frombuffer(content, "<f4", 3 * nodes, 8).reshape(-1, 3).astype(np.float64)
        joined = np.frombuffer(content, "<u4", 2 * edges, 8 + 12 * nodes).reshape(-1, 2).astype(np.int64)
        if edges and joined.max() >= nodes:
            raise InvalidInput(sentence("edges", f"must join two of {nodes} nodes", int(joined.max())))
        return (places @ matrix[:, :3].T + matrix[:, 3])[:, ::-1], joined, neuron
