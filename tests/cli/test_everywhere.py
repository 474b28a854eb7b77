"""One volume in every format and on every server: the same affinities, segmentation and scores."""

import json
import os
import signal
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from segkit import Grid, Labels, Volume, io
from segkit.models import save_model
from segkit.models.unet3d import UNet3D
from tests.io.format_checks import WRITERS
from tests.io.servers import BUCKET, Faults, put_all, s3_server, web_server

for _package in ("obstore", "tensorstore", "moto", "flask"):
    pytest.importorskip(_package)

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
GRID = Grid((40.0, 8.0, 8.0), (80.0, 0.0, 16.0))
SHAPE = (24, 40, 44)
SMALL = {"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}
SOURCES = ("raw.h5", "raw.zarr", "raw.tif", "raw.precomputed")
"""Those that segkit writes; the others, of `WRITERS`, do not say where they lie."""
PLACES = [("here", name) for name in SOURCES] + [("web", name) for name in ("raw.h5", "raw.zarr", "raw.precomputed")]
PLACES += [("s3", name) for name in (*SOURCES, "write_n5")]
OTHERS = [write.__name__ for write in WRITERS if write.__name__ != "write_n5"]
PLACES += [pytest.param("s3", name, marks=pytest.mark.slow) for name in OTHERS]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """A folder with a volume in every format, the network, and the URLs of it in a bucket and on a web server."""
    folder = tmp_path_factory.mktemp("everywhere")
    noise = gaussian_filter(np.random.default_rng(0).random(SHAPE), 2)
    raw = Volume(((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8), GRID)
    truth = Labels((raw.array // 64 + 1).astype(np.uint64), GRID)
    (folder / "files").mkdir()
    for name in SOURCES:
        record = io.writer.encode(raw)
        io.write_blocks(folder / "files" / name, "raw", record.data, record.attributes)
    io.write(folder / "files" / "truth.zarr", truth, "truth")
    others = {}
    for write in WRITERS:
        for what, array in (("raw", raw.array), ("truth", truth.array.astype(np.uint8))):
            (folder / "files" / f"{write.__name__}-{what}").mkdir()
            others[write.__name__, what] = write(folder / "files" / f"{write.__name__}-{what}", array)
    torch.manual_seed(0)
    save_model(folder / "net.safetensors", UNet3D(**SMALL), name="unet3d", parameters=SMALL, neighborhood=NEAREST)
    with ExitStack() as stack:
        cache = pytest.MonkeyPatch()
        stack.callback(cache.undo)
        cache.setenv("SEGKIT_CACHE", str(folder / "cache"))
        stack.enter_context(s3_server(Faults()))
        put_all(folder / "files", "files")
        web = stack.enter_context(web_server(folder / "files", Faults()))
        urls = {"here": str(folder / "files"), "s3": f"s3://{BUCKET}/files", "web": web}
        for key, address in others.items():
            urls[key] = address.replace(str(folder / "files"), urls["s3"])
        yield folder, urls


def results(segkit, raw, truth, net, out, *words):
    """What the whole way gives that begins at `raw` and is written to `out`; `words` are those of infer besides."""

    def call(*command):
        result = segkit(*command)
        assert result.exit_code == 0, (command, result.stderr)
        return result

    call("infer", raw, "--run", net, "--out", f"{out}", "--device", "cpu", *words)
    call("fragment", out, "--out", out)
    call("agglomerate", out, "--fragments", out, "--out", out)
    call("segment", out, "--threshold", "0.4", "--out", out)
    scores = json.loads(call("evaluate", out, truth, "--json").stdout)
    found = io.read_affinities(out), io.read_labels(out, "fragments"), io.read_labels(out, "segmentation")
    return [each.array for each in found], found[0].grid, io.read_merge_tree(out).altitudes, scores


@pytest.fixture(scope="module")
def expected(servers, tmp_path_factory):
    """The results of HDF5 here, by one block."""
    from click.testing import CliRunner

    from segkit.cli.main import main

    folder, urls = servers
    out = tmp_path_factory.mktemp("expected") / "out.h5"

    def segkit(*words):
        return CliRunner().invoke(main, [str(word) for word in words], prog_name="segkit")

    return results(segkit, f"{urls['here']}/raw.h5", f"{urls['here']}/truth.zarr", folder / "net.safetensors", out)


def check(found, expected, placed=True):
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1] == expected[1] or not placed
    np.testing.assert_array_equal(found[2], expected[2])
    for key in ("voi_split", "voi_merge", "adapted_rand_error", "cremi_score"):
        assert str(scores_of(found[3])[key]) == str(scores_of(expected[3])[key])


def scores_of(content):
    """The scores in what `evaluate --json` prints."""
    return content if "voi_split" in content else next(scores_of(each) for each in content.values() if each)


@pytest.mark.filterwarnings("ignore::segkit.errors.SegkitWarning")
@pytest.mark.parametrize(("place", "source"), PLACES)
def test_the_same_from_everywhere(segkit, servers, expected, tmp_path, place, source):
    folder, urls = servers
    raw, truth = urls.get((source, "raw")), urls.get((source, "truth"))
    if raw is None:
        raw, truth = f"{urls[place]}/{source}", f"{urls[place]}/truth.zarr:volumes/labels/neuron_ids"
    out = tmp_path / "out.h5" if place != "s3" else f"s3://{BUCKET}/{source}.out.zarr"
    words = ["--intensity-range", 0, 255] if source == "write_mrc" else []  # mrcfile writes 8 bits as 16
    found = results(segkit, raw, truth, folder / "net.safetensors", out, *words)
    check(found, expected, placed=source in SOURCES)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_worker_killed_between_two_buckets(segkit, servers, expected):
    """By blocks from S3 to S3 with two processes, of which one is killed in each stage: the same."""
    psutil, _ = pytest.importorskip("psutil"), pytest.importorskip("distributed")
    from segkit.agglomerate.stage import agglomerate_files
    from segkit.blockwise.cluster import open_executor
    from segkit.blockwise.component import ComponentSpec
    from segkit.blockwise.work import Work
    from segkit.fragment.stage import fragment_files
    from segkit.segment.stage import segment_files

    folder, urls = servers
    killed, begun = [], set()

    def kill_one(progress):
        if progress.done and progress.stage not in begun:
            begun.add(progress.stage)
            workers = [
                each for each in psutil.Process().children(recursive=True) if "spawn_main" in str(each.cmdline())
            ]
            os.kill(workers[0].pid, signal.SIGKILL)
            killed.append(progress.stage)

    affinities, out = f"s3://{BUCKET}/killed-affinities.zarr", f"s3://{BUCKET}/killed.zarr"
    raw, net = f"{urls['s3']}/raw.zarr", folder / "net.safetensors"
    called = segkit("infer", raw, "--run", net, "--out", affinities, "--blockwise", "--block", 12, 20, 22)
    assert called.exit_code == 0, called.stderr
    watershed, merging = ComponentSpec("fragmenters", "watershed"), ComponentSpec("agglomerators", "python")
    with open_executor("local:2") as executor:
        work = Work(block=(12, 20, 22), executor=executor, report=kill_one)
        fragment_files(affinities, out, watershed, work=work)
        agglomerate_files(affinities, out, out, merging, work=work)
        segment_files(out, out, [0.4], fragments=out, work=work)
    assert len(killed) >= 3
    local = folder / "unkilled.zarr"
    fragment_files(affinities, local, watershed, work=Work(block=(12, 20, 22)))
    agglomerate_files(affinities, local, local, merging, work=Work(block=(12, 20, 22)))
    segment_files(local, local, [0.4], fragments=local, work=Work(block=(12, 20, 22)))
    np.testing.assert_array_equal(io.read_affinities(affinities).array, expected[0][0])
    for role in ("fragments", "segmentation"):
        np.testing.assert_array_equal(io.read_labels(out, role).array, io.read_labels(local, role).array)
    np.testing.assert_array_equal(io.read_merge_tree(out).altitudes, io.read_merge_tree(local).altitudes)
