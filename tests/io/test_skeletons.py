"""Skeletons in files of each format: read back as they were written, and what is refused."""

import codecs
import gzip
import json
import pickle

import numpy as np
import pytest

from segkit.errors import InvalidInput, MissingFile, StorageError
from segkit.io.skeletons import read_skeletons

NODES = np.array([[0.0, 10, 20], [0, 10, 30], [40, 10, 35], [0, 0, 500], [40, 0, 500]])
EDGES = np.array([[1, 0], [1, 2], [3, 4]])
IDS = np.array([7, 7, 7, 2**63 + 1, 2**63 + 1], np.uint64)
SHARDING = {
    "@type": "neuroglancer_uint64_sharded_v1",
    "preshift_bits": 1,
    "hash": "murmurhash3_x86_128",
    "minishard_bits": 1,
    "shard_bits": 1,
    "minishard_index_encoding": "gzip",
    "data_encoding": "gzip",
}
SWC = "# a comment\n1 1 20 10 0 3.5 2\n\n2 0 30 10 0 nan -1\n  9 0 35.0 10 4e1 1 2\n"
"""Neuron 7; the root is the second sample."""


def same(found, nodes=NODES, ids=IDS) -> None:
    """The same nodes and neurons, and edges whichever way round."""
    order, expected = np.lexsort(found.nodes.T), np.lexsort(nodes.T)
    assert np.array_equal(found.nodes[order], nodes[expected])
    _, names = np.unique(found.ids[order], return_inverse=True)
    _, wanted = np.unique(ids[expected], return_inverse=True)
    assert len(set(zip(names.tolist(), wanted.tolist(), strict=True))) == len(np.unique(ids)) == len(np.unique(names))
    assert {tuple(sorted(map(tuple, ends))) for ends in found.nodes[found.edges].tolist()} == {
        tuple(sorted(map(tuple, ends))) for ends in nodes[EDGES].tolist()
    }


def content(neuron) -> bytes:
    """A precomputed skeleton, as the format describes it, with radii after it."""
    own = np.flatnonzero(neuron == IDS)
    edges = EDGES[neuron == IDS[EDGES[:, 0]]] - own[0]
    head = np.array([len(own), len(edges)], "<u4").tobytes()
    return head + NODES[own, ::-1].astype("<f4").tobytes() + edges.astype("<u4").tobytes() + b"\0" * 4 * len(own)


def precomputed(folder, **info):
    folder.mkdir(parents=True)
    (folder / "info").write_text(json.dumps({"@type": "neuroglancer_skeletons", "vertex_attributes": []} | info))
    return folder


def test_arrays(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "s.npz", nodes=NODES, edges=EDGES, ids=IDS)
        found = read_skeletons(tmp_path / "s.npz")
        same(found)
        assert np.array_equal(found.ids, IDS)
    same(read_skeletons(str(tmp_path / "s.npz"), "um"), NODES * 1000)


def test_edges_that_are_named_twice_count_once(tmp_path):
    np.savez(tmp_path / "s.npz", nodes=NODES, edges=np.concatenate([EDGES, EDGES[:, ::-1], EDGES[:1]]), ids=IDS)
    found = read_skeletons(tmp_path / "s.npz")
    assert np.array_equal(found.edges, EDGES)
    (tmp_path / "a.swc").write_text("1 0 0 0 0 1 2\n2 0 3 4 0 1 1\n")
    assert read_skeletons(tmp_path / "a.swc", "nm").lengths.tolist() == [5.0]


def test_graphs_of_em_erl(tmp_path):
    which = np.array([0, 0, 0, 1, 1], np.uint32)
    more = {"skeleton_id": np.array([7, 9]), "skeleton_len": np.array([51.0, 40.0])}
    now = {"node_skeleton_index": which, "node_coords_zyx": NODES.astype(np.uint32), "edge_ptr": np.array([0, 2, 3])}
    now |= {"edge_u": EDGES[:, 0].astype(np.uint32), "edge_v": EDGES[:, 1].astype(np.uint32), "edge_len": np.ones(3)}
    np.savez(tmp_path / "now.npz", erl_graph_schema_version=np.uint16(2), **more, **now)
    same(read_skeletons(tmp_path / "now.npz"))
    before = {"edges_0": np.column_stack([EDGES[:2], [1, 1]]), "edges_1": np.column_stack([EDGES[2:], [1]])}
    nodes = np.column_stack([which, NODES]).astype(np.uint32)
    np.savez(tmp_path / "before.npz", **more, nodes=nodes, **before)
    same(read_skeletons(tmp_path / "before.npz"))


def test_swc(tmp_path):
    (tmp_path / "a.swc").write_bytes(SWC.encode())
    (tmp_path / "b.SWC").write_bytes(b"# \xe9\r\n1 0 500 0 0 1 -1\r\n2 0 500 0 40 1 1\r\n")
    same(read_skeletons(tmp_path, "nm"))
    same(read_skeletons(str(tmp_path), "um"), NODES * 1000)
    (tmp_path / "a.swc").write_bytes(codecs.BOM_UTF8 + SWC.encode())  # as editors of Windows write it
    same(read_skeletons(tmp_path, "nm"))
    one = read_skeletons(tmp_path / "a.swc", "nm")
    assert len(one.nodes) == 3 and len(one.edges) == 2 and len(one.skeleton_ids) == 1
    for place in (tmp_path, tmp_path / "a.swc"):
        with pytest.raises(InvalidInput, match="unit of lengths must be said for SWC"):
            read_skeletons(place)


@pytest.mark.parametrize("pack", ["", ".gz"])
def test_precomputed_skeletons_a_file_each(tmp_path, pack):
    folder = precomputed(tmp_path / "volume" / "skeletons")
    for neuron in np.unique(IDS).tolist():
        packed = gzip.compress(content(neuron)) if pack else content(neuron)
        (folder / f"{neuron}{pack}").write_bytes(packed)
    (folder / "provenance").write_text("{}")
    found = read_skeletons(folder)
    same(found)
    assert np.array_equal(found.ids, IDS)
    (tmp_path / "volume" / "info").write_text(json.dumps({"type": "segmentation", "skeletons": "skeletons"}))
    same(read_skeletons(tmp_path / "volume"))


def test_precomputed_skeletons_are_transformed(tmp_path):
    folder = precomputed(tmp_path / "s", transform=[2, 0, 0, 5, 0, 1, 0, 0, 0, 0, 3, -1])
    for neuron in np.unique(IDS).tolist():
        (folder / f"{neuron}").write_bytes(content(neuron))
    same(read_skeletons(folder, "nm"), NODES * [3, 1, 2] + [-1, 0, 5])
    with pytest.raises(InvalidInput, match="unit of lengths must be nm"):
        read_skeletons(folder, "um")


def test_precomputed_skeletons_in_shards(tmp_path):
    tensorstore = pytest.importorskip("tensorstore", reason="needs tensorstore")
    folder = precomputed(tmp_path / "s", sharding=SHARDING)
    base = {"driver": "file", "path": f"{folder}/"}
    spec = {"driver": "neuroglancer_uint64_sharded", "metadata": SHARDING, "base": base}
    store = tensorstore.KvStore.open(spec).result()
    for neuron in np.unique(IDS).tolist():
        store[neuron.to_bytes(8, "big")] = content(neuron)
    found = read_skeletons(folder)
    same(found)
    assert np.array_equal(found.ids, IDS)


class Bomb:
    """Something that does what is no reading once it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("it was executed",)


def test_pickles_are_refused_and_not_executed(tmp_path):
    (tmp_path / "skeleton.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InvalidInput, match="must be no pickle, which may run code"):
        read_skeletons(tmp_path / "skeleton.pkl")
    np.savez(tmp_path / "s.npz", nodes=np.array([Bomb()], object), edges=EDGES, ids=IDS)
    with pytest.raises(InvalidInput, match="must hold no pickles"):
        read_skeletons(tmp_path / "s.npz")
    (tmp_path / "t.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InvalidInput, match=r"t\.npz: .* must be an archive of NumPy"):
        read_skeletons(tmp_path / "t.npz")


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-30], lambda content: b"\x93NUMPY"])
def test_damaged_archives_are_refused(tmp_path, damage):
    np.savez(tmp_path / "s.npz", nodes=NODES, edges=EDGES, ids=IDS)
    (tmp_path / "s.npz").write_bytes(damage((tmp_path / "s.npz").read_bytes()))
    with pytest.raises((InvalidInput, StorageError), match=r"s\.npz.*(must be an archive|cannot be read)") as caught:
        read_skeletons(tmp_path / "s.npz")
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("1 0 1 2 3 1 -1\n1 0 1 2 3 1 1\n", InvalidInput, "samples must be numbers, those of samples each once"),
        ("1 0 1 2 3 1 -1\n2 0 1 2 3 1 5\n", InvalidInput, "parents must be numbers of samples, or -1, not 5"),
        ("1 0 1 nan 3 1 -1\n", InvalidInput, "samples must be numbers"),
        ("1 0 1 2 3\n", StorageError, "cannot be read"),
        ("1 0 a b c 1 -1\n", StorageError, "cannot be read"),
    ],
)
def test_damaged_swc_is_refused(tmp_path, text, error, said):
    (tmp_path / "a.swc").write_text(text)
    with pytest.raises(error, match=rf"a\.swc.*{said}"):
        read_skeletons(tmp_path, "nm")


def test_damaged_precomputed_skeletons_are_refused(tmp_path):
    folder = precomputed(tmp_path / "s")
    for cut in (content(7)[:-13], content(7)[:3], b""):
        (folder / "7").write_bytes(cut)
        with pytest.raises(InvalidInput, match=r"s/7: the skeleton must hold .* cut short"):
            read_skeletons(folder)
    (folder / "7").write_bytes(np.array([1, 1, 0, 0, 0, 0, 1], "<u4").tobytes())
    with pytest.raises(InvalidInput, match="edges must join two of 1 nodes, not 1"):
        read_skeletons(folder)
    (folder / "7").rename(folder / str(2**64))
    with pytest.raises(InvalidInput, match=f"names of skeletons must be numbers of 64 bits, not {2**64}"):
        read_skeletons(folder)
    (folder / str(2**64)).unlink()
    with pytest.raises(InvalidInput, match="must hold at least one"):
        read_skeletons(folder)
    (folder / "info").write_text('{"@type": "neuroglancer_legacy_mesh"}')
    with pytest.raises(InvalidInput, match="info must be of neuroglancer_skeletons, not 'neuroglancer_legacy_mesh'"):
        read_skeletons(folder)


@pytest.mark.parametrize(
    "arrays",
    [
        {"nodes": NODES},
        {"nodes": NODES[0], "edges": EDGES, "ids": IDS},
        {"nodes": NODES, "edges": EDGES * 9, "ids": IDS},
        {"nodes": NODES * 1j, "edges": EDGES, "ids": IDS},
        {"nodes": NODES.astype(str), "edges": EDGES, "ids": IDS},
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(InvalidInput, match=r"s\.npz: "):
        read_skeletons(tmp_path / "s.npz")


def test_what_holds_no_skeletons_is_refused(tmp_path):
    for name in ("nothing", "nothing.npz", "nothing.swc"):
        with pytest.raises(MissingFile, match=f"{name}.* does not exist"):
            read_skeletons(tmp_path / name)
    with pytest.raises(InvalidInput, match=r"must hold files \.swc"):
        read_skeletons(tmp_path)
    (tmp_path / "a.obj").write_text("v 0 0 0\n")
    with pytest.raises(InvalidInput, match=r"must be \.swc, \.npz, or a folder .*, not 'a.obj'"):
        read_skeletons(tmp_path / "a.obj")
