"""Chunks that were lost or damaged are refused by name; nothing leads out of a file unless that is asked for."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr

from segkit import Grid, Labels, Volume, io
from segkit.errors import InvalidInput, MissingDataset, MissingFile, StorageError
from segkit.io.shard_target import ShardTarget
from segkit.io.writer import Form

RAW = Volume(np.random.default_rng(0).integers(1, 200, (70, 70, 70)).astype(np.uint8), Grid((4, 4, 4)))
BLANK = Volume(np.zeros((70, 70, 70), np.uint8), Grid((4, 4, 4)))


@pytest.mark.parametrize("volume", [RAW, BLANK], ids=["full", "blank"])
def test_a_chunk_that_was_lost(tmp_path, volume):
    io.write(tmp_path / "a.zarr", volume)
    chunk = tmp_path / "a.zarr/volumes/raw/0/c/1/0/1"
    chunk.unlink()
    with pytest.raises(MissingFile, match=rf"the chunk {chunk} is not there, it was lost; .*missing=0"):
        io.read_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(
        io.read_volume(f"{tmp_path}/a.zarr[0:64]").array, volume.array[:64]
    )  # it lies elsewhere
    found = io.read_volume(f"{tmp_path}/a.zarr[missing=0]").array
    assert not found[64:, :64, 64:].any()
    np.testing.assert_array_equal(found[:64], volume.array[:64])


def test_a_shard_that_was_lost(tmp_path):
    target = ShardTarget.create(tmp_path / "a.zarr", Form("fragments", (8, 8, 8), Grid()), (4, 8, 8), key="k")
    for start in (0, 4):
        target.write((slice(start, start + 4), slice(0, 8), slice(0, 8)), np.ones((4, 8, 8), np.uint64))
    target.finish()
    (tmp_path / "a.zarr/volumes/fragments/0/c/1/0/0").unlink()
    with pytest.raises(MissingFile, match="c/1/0/0 is not there"):
        io.read_labels(tmp_path / "a.zarr", "fragments")


@pytest.mark.parametrize("at", [3, 100, -5])
def test_a_chunk_that_was_damaged(tmp_path, at):
    io.write(tmp_path / "a.zarr", RAW)
    chunk = tmp_path / "a.zarr/volumes/raw/0/c/0/0/1"
    content = bytearray(chunk.read_bytes())
    content[at] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(StorageError, match=rf"the chunk {chunk} cannot be read; it is damaged"):
        io.read_volume(tmp_path / "a.zarr")


def test_a_chunk_of_hdf5_that_was_damaged(tmp_path):
    io.write(tmp_path / "a.h5", RAW)
    with h5py.File(tmp_path / "a.h5") as file:
        where = file["volumes/raw"].id.get_chunk_info(1)
    with open(tmp_path / "a.h5", "r+b") as file:
        file.seek(where.byte_offset + where.size - 6)  # in the checksum, which gzip does not know
        file.write(b"\x00\x01")
    with pytest.raises(StorageError, match=r"a\.h5.*damaged"):
        io.read_volume(tmp_path / "a.h5")


def test_blank_chunks_of_other_tools_may_be_left_out(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    array = group.create_array("raw", shape=(4, 4, 4), chunks=(2, 4, 4), dtype="u1")
    array[:2] = 7
    array.attrs["resolution"] = [4, 4, 4]
    assert io.read_volume(f"{tmp_path}/a.zarr:raw").array.sum() == 7 * 32


def linked(path, how):
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file.create_dataset("raw", data=RAW.array[:4, :4, :4]).attrs["resolution"] = [4, 4, 4]
    with h5py.File(path, "w") as file:
        if how == "link":
            file["raw"] = h5py.ExternalLink("other.h5", "/raw")
        elif how == "link to a link":
            file["hop"] = h5py.ExternalLink("other.h5", "/")
            file["raw"] = h5py.SoftLink("/hop/raw")
        elif how == "virtual":
            layout = h5py.VirtualLayout((4, 4, 4), "u1")
            layout[...] = h5py.VirtualSource("other.h5", "raw", (4, 4, 4))
            file.create_virtual_dataset("raw", layout).attrs["resolution"] = [4, 4, 4]
        else:
            values = path.with_name("values.bin")
            values.write_bytes(RAW.array[:4, :4, :4].tobytes())
            stored = file.create_dataset("raw", (4, 4, 4), "u1", external=[(str(values), 0, 64)])
            stored.attrs["resolution"] = [4, 4, 4]
    return path


@pytest.mark.parametrize("how", ["link", "link to a link", "virtual", "external"])
def test_values_in_other_files(tmp_path, how):
    path = linked(tmp_path / "a.h5", how)
    for read in (io.read_volume, lambda address: io.shape_of(address, "raw")):
        with pytest.raises(InvalidInput, match=r"must not lead out of the file.*\[links=follow\]"):
            read(f"{path}:raw")
    np.testing.assert_array_equal(io.read_volume(f"{path}:raw[links=follow]").array, RAW.array[:4, :4, :4])


def with_links(path):
    with h5py.File(path, "w") as file:
        file["raw"] = RAW.array[:4, :4, :4]
        for name, to in {"good": "raw", "lost": "/no/such", "via": "lost", "one": "two", "two": "/one"}.items():
            file[name] = h5py.SoftLink(to)
        file["elsewhere"] = h5py.ExternalLink("gone.h5", "/raw")
        file["tree/parents"] = h5py.SoftLink("/gone")
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lost", "a.h5:lost is a link to /no/such, which is not there"),
        ("via", "a.h5:lost is a link to /no/such, which is not there"),
        ("lost/raw", "a.h5:lost is a link to /no/such, which is not there"),
        ("one", "a.h5:one is a link that leads in a circle"),
        ("elsewhere[links=follow]", "a.h5:elsewhere is a link to gone.h5:/raw, which is not there"),
    ],
)
def test_links_that_lead_nowhere(tmp_path, name, message):
    path = with_links(tmp_path / "a.h5")
    with pytest.raises(MissingDataset, match=message):
        io.read_volume(f"{path}:{name}")


def test_a_link_that_leads_nowhere_in_a_tree(tmp_path):
    with pytest.raises(MissingDataset, match=r"a\.h5:tree/parents is a link to /gone, which is not there"):
        io.read_merge_tree(f"{with_links(tmp_path / 'a.h5')}:tree")


@pytest.mark.parametrize("name", ["lost", "one", "good"])
def test_a_link_is_replaced(tmp_path, name):
    path = with_links(tmp_path / "a.h5")
    io.write(f"{path}:{name}", Labels.convert([[[1]]], Grid()), "fragments")
    assert io.read_labels(f"{path}:{name}").array.tolist() == [[[1]]]
    with h5py.File(path) as file:
        assert file["raw"].shape == (4, 4, 4)


@pytest.mark.parametrize("name", ["lost/new", "one/new"])
def test_nothing_is_written_below_a_link_that_leads_nowhere(tmp_path, name):
    path = with_links(tmp_path / "a.h5")
    with pytest.raises(InvalidInput, match=r"cannot be written; .* is a link that leads nowhere"):
        io.write(f"{path}:{name}", Labels.convert([[[1]]], Grid()), "fragments")


def test_a_virtual_dataset_of_its_own_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"] = RAW.array[:4, :4, :4]
        layout = h5py.VirtualLayout((4, 4, 4), "u1")
        layout[...] = h5py.VirtualSource(file["one"])
        file.create_virtual_dataset("raw", layout).attrs["resolution"] = [4, 4, 4]
    assert io.read_volume(f"{tmp_path}/a.h5:raw").shape == (4, 4, 4)


@pytest.mark.parametrize("dataset", ["../../evil", "volumes/../../../evil", "/../evil"])
@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_nothing_is_written_outside(tmp_path, name, dataset):
    store = tmp_path / "store"
    store.mkdir()
    with pytest.raises(InvalidInput, match="must not lead out of its file"):
        io.write(f"{store / name}:{dataset}", Labels.convert([[[1]]], Grid()), "fragments")
    assert [path.name for path in tmp_path.rglob("*")] == ["store"]


def by_blocks(address, labels):
    ShardTarget.create(address, Form("fragments", labels.shape, Grid()), (1, 1, 1), key="k")


@pytest.mark.parametrize("write", [lambda address, labels: io.write(address, labels, "fragments"), by_blocks])
@pytest.mark.parametrize("dataset", ["link", "link/evil", "group/link/evil"])
def test_nothing_is_written_through_links_out_of_a_store(tmp_path, dataset, write):
    (tmp_path / "outside").mkdir()
    io.write(f"{tmp_path}/a.zarr:group/fragments", Labels.convert([[[1]]], Grid()), "fragments")
    for place in (tmp_path / "a.zarr/link", tmp_path / "a.zarr/group/link"):
        place.symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidInput, match=r"must not lead out of the store: .*link is a link to .*outside"):
        write(f"{tmp_path}/a.zarr:{dataset}", Labels.convert([[[1]]], Grid()))
    assert not list((tmp_path / "outside").iterdir())


def test_nothing_is_written_through_links_out_of_an_hdf5_file(tmp_path):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_group("group")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(tmp_path / "b.h5"), "/group")
    with pytest.raises(InvalidInput, match="link/evil must not lead out of the file: link is a link to another"):
        io.write(f"{tmp_path}/a.h5:link/evil", Labels.convert([[[1]]], Grid()), "fragments")


def test_no_scale_of_an_image_is_replaced(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("0", data=RAW.array[:2, :2, :2])
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    scale = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [4, 4, 4]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [scale]}]}
    for name in ("0", "0/more"):
        with pytest.raises(InvalidInput, match=r"a\.zarr is an image itself, of which that is a part"):
            io.write(f"{tmp_path}/a.zarr:{name}", Labels.convert([[[1]]], Grid()), "fragments")
    io.write(f"{tmp_path}/a.zarr:labels/one", Labels.convert([[[1]]], Grid()), "fragments")


@pytest.mark.parametrize("path", ["../outside", "/etc"])
def test_scales_that_lie_outside_their_store(tmp_path, path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    zarr.create_array(str(tmp_path / "outside"), data=RAW.array[:2, :2, :2])
    axes = [{"name": axis, "type": "space"} for axis in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": path}]}]
    with pytest.raises(InvalidInput, match="must be a path inside the store"):
        io.read_volume(tmp_path / "a.zarr")


def test_filters_of_hdf5plugin(tmp_path):
    """Read by a process that has not imported it: segkit does, once a dataset needs it."""
    hdf5plugin = pytest.importorskip("hdf5plugin", reason="needs hdf5plugin (the extra segkit-em[hdf5plugin])")
    lossless = ("Bitshuffle", "Blosc", "Blosc2", "BZip2", "LZ4", "Zstd")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in lossless:
            dataset = file.create_dataset(name, data=RAW.array, chunks=True, compression=getattr(hdf5plugin, name)())
            dataset.attrs["resolution"] = [40, 4, 4]
    np.save(tmp_path / "raw.npy", RAW.array)
    program = (
        "import sys, numpy as np; from segkit import io; raw = np.load(sys.argv[1] + '/raw.npy')\n"
        "for name in sys.argv[2:]: assert (io.read_volume(f'{sys.argv[1]}/a.h5:{name}').array == raw).all(), name"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), *lossless], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_filter_that_nobody_has(tmp_path, monkeypatch):
    from segkit.io import hdf5

    pytest.importorskip("hdf5plugin", reason="needs hdf5plugin (the extra segkit-em[hdf5plugin])")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=RAW.array, chunks=True, compression="lzf")
    monkeypatch.setattr(hdf5.h5py.h5z, "filter_avail", lambda number: number != 32000)
    with pytest.raises(StorageError, match=r"compressed by LZF \(HDF5 filter 32000\).*hdf5plugin has none"):
        io.read_volume(f"{tmp_path}/a.h5:raw")


def test_a_filter_that_is_not_installed(tmp_path, monkeypatch):
    from segkit.io import hdf5

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=RAW.array, compression="lzf").attrs["resolution"] = [4, 4, 4]
    monkeypatch.setattr(hdf5.h5py.h5z, "filter_avail", lambda number: number != 32000)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(StorageError, match=r"compressed by LZF \(HDF5 filter 32000\).*pip install hdf5plugin"):
        io.read_volume(f"{tmp_path}/a.h5:raw")


def test_a_codec_that_nobody_has(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("raw", data=RAW.array)
    metadata = tmp_path / "a.zarr/raw/zarr.json"
    metadata.write_text(metadata.read_text().replace('"zstd"', '"holiday"'))
    with pytest.raises(StorageError, match=r"cannot be decoded \(.*holiday.*\); install the package"):
        io.read_volume(f"{tmp_path}/a.zarr:raw")


@pytest.mark.parametrize(
    "codecs", [[], [{"name": "zstd"}], [{"name": "bytes"}] * 2, [{"name": "bytes", "configuration": {"a": 1}}]]
)
def test_codecs_that_make_no_array(tmp_path, codecs):
    zarr.create_array(str(tmp_path / "a.zarr"), data=RAW.array[:2, :2, :2])
    metadata = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(metadata | {"codecs": codecs}))
    with pytest.raises(InvalidInput, match=r"a\.zarr: the metadata of the array must be valid \(.*; correct the file"):
        io.read_volume(tmp_path / "a.zarr")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_reads_what_its_parent_has_read(tmp_path):
    """TensorStore ends a process that was forked from one that has used it: a file is then read without it."""
    program = """if True:
        import os, sys
        import numpy as np
        from segkit import Grid, Volume, io
        path = sys.argv[1]
        io.write(path, Volume(np.arange(27, dtype=np.uint8).reshape(3, 3, 3), Grid((1, 1, 1))))
        with io.open_volume(path) as volume:
            box = (slice(0, 3),) * 3
            first = volume.read(box)
            child = os.fork()
            if not child:
                os._exit(0 if (volume.read(box) == first).all() and (io.read_volume(path).array == first).all() else 1)
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.zarr")], timeout=60, check=False)
    assert done.returncode == 0
