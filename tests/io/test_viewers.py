"""What segkit writes for others, read by them: arrays, voxel size, place and axes."""

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit import io
from segkit.convert import convert
from segkit.data import Grid, Labels, Volume

GRID = Grid((40, 8, 4), (400, 80, 8))
SHAPE = (5, 150, 300)
RAW = Volume(np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8), GRID)
IDS = Labels(np.random.default_rng(1).integers(0, 9, SHAPE).astype(np.uint64) * 2**40, GRID)
SIZES = [(40, 8, 4), (40, 8, 8), (40, 16, 16)]
SHAPES = [(5, 150, 300), (5, 150, 150), (5, 75, 75)]


def needed(name):
    return pytest.importorskip(name, reason=f"needs {name}")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Raw data and labels of it, with smaller scales."""
    folder = tmp_path_factory.mktemp("viewers")
    io.write_all(folder / "a.h5", {"raw": RAW, "segmentation": IDS})
    convert(folder / "a.h5", folder / "a.zarr", "raw")
    convert(folder / "a.h5", f"{folder}/a.zarr:labels/cells", "segmentation")
    return folder / "a.zarr"


def test_ome_zarr_models(store):
    models, zarr = needed("ome_zarr_models"), needed("zarr")
    group = zarr.open_group(str(store), mode="r")
    for part in (group, group["volumes/raw"], group["labels/cells"]):
        image = models.open_ome_zarr(part, version="0.5")
        (found,) = image.ome_attributes.multiscales
        assert [axis.name for axis in found.axes] == ["z", "y", "x"]
        assert {axis.unit for axis in found.axes} == {"nanometer"}
        steps = [scale.coordinateTransformations for scale in found.datasets]
        assert [tuple(scale.scale) for scale, _ in steps] == SIZES
        assert [tuple(moved.translation) for _, moved in steps] == [(400, 80, 8), (400, 80, 10), (400, 84, 14)]
    assert models.open_ome_zarr(group).labels.label_paths == ["cells"]


def test_ome_zarr_py(store):
    needed("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    image, _, labels = Reader(parse_url(str(store)))()
    for node, array in ((image, RAW.array), (labels, IDS.array)):
        assert [data.shape for data in node.data] == SHAPES
        np.testing.assert_array_equal(np.asarray(node.data[0]), array)
        assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]
        scales = [scale["scale"] for scale, _ in node.metadata["coordinateTransformations"]]
        assert list(map(tuple, scales)) == SIZES


def test_napari(store):
    needed("napari_ome_zarr"), needed("napari")
    from napari_ome_zarr._reader import napari_get_reader

    image, labels = napari_get_reader(str(store))(str(store))
    for (data, about, kind), array, expected in ((image, RAW.array, "image"), (labels, IDS.array, "labels")):
        assert kind == expected and about["scale"] == [40, 8, 4]
        assert about["axis_labels"] == ("z", "y", "x") and about["units"] == ("nanometer",) * 3
        assert [level.shape for level in data] == SHAPES
        np.testing.assert_array_equal(np.asarray(data[0]), array)
    ((data, _, kind),) = napari_get_reader(str(store / "volumes/raw"))(str(store / "volumes/raw"))
    assert kind == "image" and len(data) == 3


def test_tensorstore(store, tmp_path):
    tensorstore = needed("tensorstore")
    convert(store, tmp_path / "sharded.zarr", "raw", sharding=True)
    for path, array in (
        (store / "volumes/raw/0", RAW.array),
        (store / "labels/cells/0", IDS.array),
        (tmp_path / "sharded.zarr/volumes/raw/0", RAW.array),
    ):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        opened = tensorstore.open(spec).result()
        assert opened.domain.labels == ("z", "y", "x")
        np.testing.assert_array_equal(opened.read().result(), array)


@pytest.mark.parametrize("sharding", [False, True])
@pytest.mark.parametrize("kind", ["raw", "segmentation"])
def test_cloud_volume(tmp_path, kind, sharding):
    needed("tensorstore")
    cloudvolume = needed("cloudvolume")
    io.write_all(tmp_path / "a.h5", {"raw": RAW, "segmentation": IDS})
    convert(tmp_path / "a.h5", tmp_path / "a.precomputed", kind, sharding=sharding)
    shapes = [*SHAPES[:2], (5, 75, 76)]  # the volume begins within a voxel of the last
    for mip, (size, shape) in enumerate(zip(SIZES, shapes, strict=True)):
        volume = cloudvolume.CloudVolume(f"precomputed://file://{tmp_path / 'a.precomputed'}", mip=mip, progress=False)
        assert volume.layer_type == ("image" if kind == "raw" else "segmentation")
        assert tuple(volume.resolution)[::-1] == size and tuple(volume.shape[:3])[::-1] == shape
        start = [a // b for a, b in zip((400, 80, 8), size, strict=True)]
        assert tuple(volume.voxel_offset)[::-1] == tuple(start)
        found = np.asarray(volume[:])[..., 0].T
        role = f"{tmp_path / 'a.precomputed'}:{volume.key}"
        ours = io.read_volume(role) if kind == "raw" else io.read_labels(role)
        np.testing.assert_array_equal(found, ours.array)
        if not mip:
            np.testing.assert_array_equal(found, (RAW if kind == "raw" else IDS).array)


@pytest.mark.parametrize("kind", ["raw", "segmentation"])
def test_ome_types(tmp_path, kind):
    types = needed("ome_types")
    io.write_all(tmp_path / "a.h5", {"raw": RAW, "segmentation": Labels(IDS.array >> np.uint64(40), GRID)})
    dtype = "uint8" if kind == "raw" else "uint32"
    convert(tmp_path / "a.h5", tmp_path / "a.ome.tif", kind, dtype=dtype)
    pixels = types.from_tiff(tmp_path / "a.ome.tif").images[0].pixels
    assert (pixels.size_z, pixels.size_y, pixels.size_x) == SHAPE and pixels.type.value == dtype
    found = [getattr(pixels, f"physical_size_{axis}_quantity").to("nm").magnitude for axis in "zyx"]
    assert found == [40, 8, 4]


class Served(SimpleHTTPRequestHandler):
    """Files, or ranges of them, for pages of any origin."""

    def do_GET(self):
        file = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted or not file.is_file():
            return super().do_GET()
        content, (first, last) = file.read_bytes(), wanted.groups()
        start = int(first) if first else len(content) - int(last)
        part = content[start : int(last) + 1 if first and last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self):
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "*")
        self.send_header("Access-Control-Expose-Headers", "*")
        super().end_headers()

    def do_OPTIONS(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def url(tmp_path):
    """Where the files of this test are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.browser
@pytest.mark.parametrize("sharding", [False, True])
@pytest.mark.parametrize("name", ["a.zarr", "a.precomputed"])
def test_neuroglancer(tmp_path, url, segkit, name, sharding):
    """The file itself, named by its URL, in a real browser: grey where the image is, nothing beside it."""
    needed("tensorstore"), needed("neuroglancer")
    io.write(tmp_path / "a.h5", Volume(np.full(SHAPE, 200, np.uint8), GRID))
    convert(tmp_path / "a.h5", tmp_path / name, "raw", sharding=sharding)
    kind = name.partition(".")[2]
    result = segkit("view", f"raw={kind}://{url}/{name}", "--screenshot", str(tmp_path / "seen.png"))
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "seen.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    panel = pixels[: pixels.shape[0] // 2, : pixels.shape[1] // 2]
    assert (panel == 200).all(-1).sum() > 500 and (panel[5, 5] != 200).any()
