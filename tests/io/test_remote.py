"""Volumes in buckets and on web servers."""

import json
import subprocess
import sys

import numpy as np
import pytest

from segkit import io
from segkit.data import Affinities, Grid, Labels, MergeTree, Volume
from segkit.errors import InvalidInput, MissingDataset, MissingFile, StorageError
from segkit.io import fetch, remote
from segkit.io.remote import Remote
from tests.io.servers import BUCKET, Faults, put_all, s3_server, s3_settings, web_server

for _package in ("obstore", "tensorstore", "moto", "flask"):
    pytest.importorskip(_package)

GRID = Grid((40.0, 4.0, 4.0), (400.0, 0.0, 8.0))
RAW = Volume(np.random.default_rng(0).integers(0, 255, (70, 65, 66)).astype(np.uint8), GRID)
IDS = Labels(np.random.default_rng(1).integers(0, 2**40, (20, 30, 40)).astype(np.uint64), GRID)
TREE = MergeTree(np.array([1, 2, 3], np.uint64), np.array([3, 3, 4, 4, 4]), np.array([0.1, 0.4]))


@pytest.fixture(scope="module")
def faults():
    return Faults()


@pytest.fixture(autouse=True)
def _nothing_goes_wrong(faults, tmp_path, monkeypatch):
    faults.plan("", 0)
    faults.seen.clear()
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def s3(faults):
    """The URL of a bucket."""
    with s3_server(faults):
        yield f"s3://{BUCKET}"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the same volume in several formats."""
    folder = tmp_path_factory.mktemp("files")
    io.write(folder / "a.zarr", RAW)
    io.write(folder / "a.h5", RAW)
    for name in ("a.tif", "a.precomputed"):
        record = io.writer.encode(RAW)
        io.write_blocks(folder / name, "raw", record.data, record.attributes)
    return folder


@pytest.fixture(scope="module")
def web(files, faults):
    """The URL of the same folder."""
    with web_server(files, faults) as url:
        yield url


@pytest.fixture(scope="module")
def there(s3, files):
    """The URL of the same folder in a bucket."""
    put_all(files, "there")
    return f"{s3}/there"


def same(found, expected):
    return np.array_equal(found.array, expected.array) and found.grid == expected.grid


@pytest.mark.parametrize("name", ["a.zarr", "a.h5", "a.tif", "a.precomputed", "a.zarr:volumes/raw"])
@pytest.mark.parametrize("server", ["there", "web"])
def test_reading(server, name, request):
    url = f"{request.getfixturevalue(server)}/{name}"
    expected = (
        RAW if "tif" not in name else Volume(RAW.array, io.read_volume(request.getfixturevalue("files") / name).grid)
    )
    assert same(io.read_volume(url), expected)
    crop = io.read_volume(f"{url}[3:9,10:,:20]")
    assert np.array_equal(crop.array, RAW.array[3:9, 10:, :20])
    with io.open_volume(url) as volume:
        assert np.array_equal(volume.read((slice(60, 70), slice(0, 65), slice(1, 2))), RAW.array[60:, :, 1:2])


def test_the_format_may_stand_before_the_url(there, files):
    put_all(files / "a.precomputed", "there/plain")
    assert same(io.read_volume(f"precomputed://{there}/plain"), RAW)
    assert same(io.read_volume(f"{there}/plain[format=precomputed]"), RAW)
    assert same(io.read_volume(f"{there}/plain"), RAW)  # its `info` says it


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_writing(s3, suffix):
    url = f"{s3}/made.{suffix}"
    io.write(url, RAW)
    io.write(url, IDS)
    io.write(url, TREE, notes={"by": "hand"})
    assert io.datasets(io.parse_address(url).path) == ["merge_tree", "volumes/raw", "volumes/segmentation"]
    assert same(io.read_volume(url), RAW)
    assert same(io.read_labels(url, "segmentation"), IDS)
    assert np.array_equal(io.read_merge_tree(url).altitudes, TREE.altitudes)
    assert io.read_notes(url, "merge_tree") == {"by": "hand"}


def test_writing_precomputed_and_tiff(s3):
    for name in ("made.precomputed", "made.tif"):
        for volume in (IDS, RAW):
            record = io.writer.encode(volume)
            layout = io.records.Layout(pyramid="tif" not in name)
            io.write_blocks(f"{s3}/{name}", "raw", record.data, record.attributes, layout)
        assert same(io.read_volume(f"{s3}/{name}"), RAW)
    files = {each.key for each in Remote.parse(f"{s3}/made.precomputed").first(1000)}
    assert len({key.split("/")[1] for key in files}) == 2  # info, and one folder


def test_the_root_shows_what_is_there(s3):
    url = f"{s3}/shown.zarr"
    for volume in (RAW, Volume(RAW.array[:9], GRID)):
        io.write(url, volume)
        path = json.loads((Remote.parse(url) / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0][
            "datasets"
        ][0]
        assert (Remote.parse(url) / path["path"] / "zarr.json").is_file()


def test_what_is_replaced_leaves_nothing(s3):
    url = f"{s3}/replaced.zarr"
    io.write(url, RAW)
    before = {str(each) for each in Remote.parse(url).first(1000)}
    io.write(url, Volume(RAW.array[:10], GRID))
    after = {str(each) for each in Remote.parse(url).first(1000)}
    assert io.read_volume(url).array.shape == (10, 65, 66)
    assert {each for each in before & after if "/c/" in each} == set()
    assert len(after) < len(before)


@pytest.mark.parametrize("name", ["a.zarr", "a.precomputed"])
def test_what_was_copied_there_leaves_nothing_when_it_is_replaced(s3, files, name):
    put_all(files / name, f"copied/{name}")
    before = {str(each) for each in Remote.parse(f"{s3}/copied/{name}").first(1000)}
    record = io.writer.encode(RAW)
    io.write_blocks(f"{s3}/copied/{name}", "raw", record.data, record.attributes)
    left = before & {str(each) for each in Remote.parse(f"{s3}/copied/{name}").first(1000)}
    assert {each.rpartition("/")[2] for each in left} <= {"zarr.json", "info"} and len(left) <= 4
    assert same(io.read_volume(f"{s3}/copied/{name}"), RAW)


def test_a_failed_write_leaves_what_was_there(s3, faults):
    url = f"{s3}/kept.zarr"
    io.write(url, RAW)
    held = len(Remote.parse(url).first(1000))
    faults.plan("500", matches="PUT .*/c/1")
    with pytest.raises(StorageError, match="the server fails, or cannot be reached"):
        io.write(url, Volume(255 - RAW.array, GRID))
    faults.plan("", 0)
    assert same(io.read_volume(url), RAW)
    io.write(url, RAW)  # which removes what requests on their way have left
    assert len(Remote.parse(url).first(1000)) == held


@pytest.mark.parametrize("kind", ["500", "slow", "cut"])
@pytest.mark.parametrize("server", ["there", "web"])
def test_passing_faults_are_not_noticed(server, kind, faults, request):
    if kind == "cut" and server == "there":
        pytest.skip("moto's server sends what is announced, or nothing")
    url = f"{request.getfixturevalue(server)}/a.zarr:volumes/raw"
    faults.plan(kind, 2, matches="GET .*/c/")
    assert same(io.read_volume(url), RAW)
    assert faults.number == 0


@pytest.mark.parametrize("server", ["there", "web"])
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("403", StorageError, "access is denied"),
        ("404", MissingFile, r"lacks a chunk, it was lost; copy or make it again; ADDRESS\[missing=0\]"),
    ],
)
def test_lasting_faults_are_one_sentence(server, kind, error, message, faults, request):
    url = f"{request.getfixturevalue(server)}/a.zarr:volumes/raw"
    faults.plan(kind, matches="GET .*/c/")
    with pytest.raises(error, match=message) as caught:
        io.read_volume(url)
    assert url.rpartition(":")[0] in str(caught.value) and "\n" not in str(caught.value)


def test_a_lost_chunk_is_refused_by_zarr_too(s3, monkeypatch):
    url = f"{s3}/lost.zarr"
    io.write(url, RAW)
    chunk = next(each for each in Remote.parse(url).first(1000) if each.key.endswith("/c/1/0/1"))
    chunk.unlink()
    monkeypatch.setattr("segkit.io.zarr._by_tensorstore", lambda *_: None)
    with pytest.raises(MissingFile, match=r"c/1/0/1 is not there, it was lost"):
        io.read_volume(url)
    assert io.read_volume(f"{url}[missing=0]").array[64:, :64, 64:].max() == 0


def test_no_server(tmp_path):
    with s3_settings("http://127.0.0.1:9"), pytest.raises(StorageError, match="cannot be reached"):
        io.read_volume("s3://elsewhere/a.zarr")
    with pytest.raises(StorageError, match="cannot be reached"):
        io.read_volume("http://127.0.0.1:9/a.h5")


def test_what_is_not_there(there, s3, web):
    with pytest.raises(MissingFile, match=r"there/b.zarr does not exist"):
        io.read_volume(f"{there}/b.zarr")
    with pytest.raises(MissingFile, match="there is no bucket s3://none"):
        io.read_volume("s3://none/a.zarr")
    with pytest.raises(MissingFile, match="cannot be written: there is no bucket s3://none"):
        io.check_writable("s3://none/a.zarr")
    with pytest.raises(MissingDataset, match=r"did you mean .*a.zarr:volumes/raw\?"):
        io.read_volume(f"{there}/a.zarr:volumes/rew")
    with pytest.raises(StorageError, match="web servers do not say what they hold"):
        io.read_volume(f"{web}/a.zarr:volumes/rew")
    with pytest.raises(InvalidInput, match="web servers take nothing"):
        io.write(f"{web}/b.zarr", RAW)


def test_single_files_are_fetched_once(there, faults, monkeypatch):
    url = f"{there}/a.h5"
    io.read_volume(url)
    faults.seen.clear()
    io.read_volume(url)
    assert {method for method, _ in faults.seen} == {"HEAD"}
    monkeypatch.setenv("SEGKIT_CACHE_GB", "0.0001")
    monkeypatch.setenv("SEGKIT_CACHE", "another")
    with pytest.raises(InvalidInput, match=r"copies may take 0\.1 MB"):
        io.read_volume(url)


def test_a_replaced_file_is_fetched_anew(s3):
    io.write(f"{s3}/again.h5", RAW)
    assert same(io.read_volume(f"{s3}/again.h5"), RAW)
    other = Volume(255 - RAW.array, GRID)
    io.write(f"{s3}/again.h5", other)
    assert same(io.read_volume(f"{s3}/again.h5"), other)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a.zarr",
        "https://host/a.zarr?token=1",
        "s3://bucket/a/../b.zarr",
        "https://me:pw@host/a.zarr",
        "s3://b",
    ],
)
def test_urls_that_are_refused(url):
    with pytest.raises(InvalidInput):
        io.read_volume(url)


def test_affinities_keep_their_neighborhood(s3):
    array = np.random.default_rng(2).random((3, 8, 9, 10)).astype(np.float32)
    array[0, 0], array[1, :, 0], array[2, :, :, 0] = 0, 0, 0
    affinities = Affinities(array, np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]]), GRID)
    io.write(f"{s3}/affinities.zarr", affinities)
    found = io.read_affinities(f"{s3}/affinities.zarr")
    assert np.array_equal(found.array, array) and np.array_equal(found.neighborhood, affinities.neighborhood)


@pytest.mark.parametrize("suffix", ["zarr", "h5", "precomputed"])
def test_a_handle_sees_what_was_replaced_before_it_was_made(s3, suffix):
    url, part = f"{s3}/replaced-now.{suffix}", (slice(0, 9), slice(0, 65), slice(0, 66))
    identities = set()
    for value in (3, 5):
        record = io.writer.encode(Volume(np.full(RAW.array.shape, value, np.uint8), GRID))
        io.write_blocks(url, "raw", record.data, record.attributes)
        source = io.RegionSource(url, "raw")
        assert np.unique(source.read(part)) == [value]
        identities.add(source.identity)
    assert len(identities) == 2


@pytest.mark.parametrize("oddity", ["no head", "packed", "no version"])
@pytest.mark.parametrize("name", ["a.h5", "a.tif", "a.precomputed"])
def test_web_servers_with_habits_of_their_own(files, faults, oddity, name):
    with web_server(files, faults, oddity) as url:
        assert np.array_equal(io.read_volume(f"{url}/{name}").array, RAW.array)


def test_a_server_that_says_no_version_is_asked_by_each_process(tmp_path, faults, monkeypatch):
    with web_server(tmp_path, faults, "no version") as url:
        for value in (3, 5):
            monkeypatch.setattr(fetch, "THIS_PROCESS", str(value))
            io.write(tmp_path / "a.h5", Volume(np.full((4, 5, 6), value, np.uint8), GRID))
            assert np.unique(io.read_volume(f"{url}/a.h5").array) == [value]


def test_a_server_that_calls_everything_a_page(files, faults):
    with web_server(files, faults, "pages") as url:
        assert np.array_equal(io.read_volume(f"{url}/a.tif").array, RAW.array)


def test_large_files_are_fetched_and_put_in_pieces(there, web, faults, monkeypatch):
    monkeypatch.setattr(remote, "PIECE", 100_000)
    for server in (there, web):
        faults.seen.clear()
        assert same(io.read_volume(f"{server}/a.h5"), RAW)
        assert sum(method == "GET" for method, _ in faults.seen) >= 2


@pytest.mark.parametrize("key", ["a%20b", "a b", "a?b", "a:b", "a,b[1]", "ü+&#"])
def test_what_a_place_is_called_means_the_place(web, key):
    place = Remote(web, f"{key}/a.h5")
    assert Remote.parse(str(place)) == place
    assert io.parse_address(f"{place}:volumes/raw").path == place


def test_secrets_in_urls_are_not_repeated():
    for url in ("https://host/a.zarr?signature=secret", "https://me:secret@host/a.h5", "s3://key:secret@bucket/a.zarr"):
        with pytest.raises(InvalidInput) as caught:
            io.read_volume(url)
        assert "secret" not in str(caught.value)


def test_a_file_of_another_machine_is_not_one_of_this(files):
    assert io.parse_address(f"file://localhost{files}/a.h5").path == files / "a.h5"
    with pytest.raises(InvalidInput, match="must name a file of this machine"):
        io.parse_address(f"file://other{files}/a.h5")


def test_a_volume_that_has_moved(web, faults):
    faults.plan("302", matches="GET .*/4_")
    with pytest.raises(StorageError, match=r"it has moved .*name the address that it leads to"):
        io.read_volume(f"{web}/a.precomputed")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.zarr:volumes/raw", "a.precomputed"])
def test_a_server_that_falls_silent(web, faults, name):
    faults.plan("silent", matches="GET .*/(c/|4_|8_)")
    program = f"from segkit.io import tensor, read_volume; tensor.RETRIES = 0; read_volume('{web}/{name}')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "the server fails, or cannot be reached" in done.stderr


def test_two_machines_that_write_the_same_leave_one_whole(s3, monkeypatch, tmp_path):
    url = f"{s3}/both.zarr"
    ones, others = (Volume(np.full((4, 8, 8), value, np.uint8), GRID) for value in (1, 2))

    def parts():
        yield (slice(0, 2), slice(0, 8), slice(0, 8)), ones.array[:2]
        with monkeypatch.context() as machine:
            machine.setenv("SEGKIT_CACHE", str(tmp_path / "of another machine"))
            io.write(url, others)
        yield (slice(2, 4), slice(0, 8), slice(0, 8)), ones.array[2:]

    record = io.writer.encode(ones)
    with pytest.raises(StorageError, match="was written by others meanwhile"):
        io.write_blocks(url, "raw", io.Blocks(ones.array.shape, np.dtype(np.uint8), parts()), record.attributes)
    assert same(io.read_volume(url), others)


def test_half_a_volume_is_none_where_it_is_to_be_written_again(s3):
    url = f"{s3}/half.precomputed"
    (Remote.parse(url) / "v-0123456789abcdef/0/0-1_0-1_0-1").write_bytes(b"")
    io.check_target(url, "raw", overwrite=False)
    (Remote.parse(url) / "notes.txt").write_bytes(b"")
    with pytest.raises(InvalidInput, match="exists already"):
        io.check_target(url, "raw", overwrite=False)
    (Remote.parse(url) / "notes.txt").unlink()
    record = io.writer.encode(RAW)
    io.write_blocks(url, "raw", record.data, record.attributes)
    with pytest.raises(InvalidInput, match="exists already"):
        io.check_target(url, "raw", overwrite=False)
    assert not (Remote.parse(url) / "v-0123456789abcdef").exists()
