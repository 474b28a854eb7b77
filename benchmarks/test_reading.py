"""Reading through segkit beside TensorStore alone: pytest benchmarks/test_reading.py --benchmark-enable.

The same boxes, all of a volume and then boxes of 64 voxels a side that lie across chunks, of Zarr and of precomputed
volumes, in a folder and on an S3 server of this machine (moto's). Without --benchmark-enable a small volume is read
once, as a test that both give the same.
"""

from itertools import product

import numpy as np
import pytest

from segkit import Grid, Volume, io
from segkit.io.remote import Remote
from segkit.io.tensor import kvstore_of
from tests.io.servers import BUCKET, Faults, put_all, s3_server

tensorstore = pytest.importorskip("tensorstore")
for _package in ("obstore", "moto", "flask"):
    pytest.importorskip(_package)


@pytest.fixture(scope="module")
def side(request):
    return 256 if request.config.getoption("benchmark_enable") else 96


@pytest.fixture(scope="module")
def volumes(tmp_path_factory, side):
    """The volume in both formats, by place: a folder, and a bucket."""
    folder = tmp_path_factory.mktemp("reading")
    noise = np.random.default_rng(0).normal(128, 10, (side,) * 3)
    raw = Volume(noise.clip(0, 255).astype(np.uint8), Grid((8.0, 8.0, 8.0)))
    record = io.writer.encode(raw)
    for name in ("raw.zarr", "raw.precomputed"):
        io.write_blocks(folder / name, "raw", record.data, record.attributes)
    with s3_server(Faults()):
        put_all(folder, "reading")
        yield raw.array, {"folder": folder, "s3": Remote(f"s3://{BUCKET}", "reading")}


def opened(place, form):
    """The array by TensorStore alone, z, y, x."""
    if form == "zarr":
        spec = {"driver": "zarr3", "kvstore": kvstore_of(place / "raw.zarr" / "volumes" / "raw" / "0")}
        return tensorstore.open(spec, read=True).result()
    spec = {"driver": "neuroglancer_precomputed", "kvstore": kvstore_of(place / "raw.precomputed")}
    return tensorstore.open(spec, read=True).result().T[0]


@pytest.mark.parametrize("reader", ["segkit", "tensorstore"])
@pytest.mark.parametrize("boxes", ["whole", "boxes"])
@pytest.mark.parametrize("form", ["zarr", "precomputed"])
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_reading(benchmark, volumes, side, place, form, boxes, reader):
    array, places = volumes
    benchmark.group = f"{place}, {form}, {boxes}"
    starts = [0] if boxes == "whole" else range(side // 8, side - 64, 64)
    length = side if boxes == "whole" else 64
    parts = [tuple(slice(a, min(a + length, side)) for a in corner) for corner in product(starts, repeat=3)]
    with io.open_volume(f"{places[place]}/raw.{form}") as volume:
        found = opened(places[place], form)

        def read():
            if reader == "segkit":
                return [volume.read(part) for part in parts]
            return [found[part].read().result() for part in parts]

        values = benchmark.pedantic(
            read, rounds=1 if benchmark.disabled else 15, warmup_rounds=0 if benchmark.disabled else 2
        )
    for part, one in zip(parts, values, strict=True):
        np.testing.assert_array_equal(one, array[part])
