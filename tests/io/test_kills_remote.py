"""Who writes to a bucket is killed at each request that changes something; whatever is there afterwards is whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(500), pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]
for _package in ("obstore", "tensorstore", "moto", "flask"):
    pytest.importorskip(_package)

PROGRAM = '''
"""Prints at how many requests a writer was killed, and how many times all was well."""
import json, mmap, os, re, signal, struct, sys, time, traceback
from collections import Counter
from pathlib import Path

import numpy as np
import obstore, tensorstore, zarr  # before any fork, and used in none but the children

from segkit import io
from segkit.io import bucket, hdf5, precomputed, tiff
from segkit.io.remote import Remote
from tests.io.killed import ATTRIBUTES, NEW, OLD, SHAPE, both, shards
from tests.io.servers import BUCKET, Faults, s3_server

SHARED = mmap.mmap(-1, 16)
WHOLE = tuple(slice(0, size) for size in SHAPE)


class Killer(Faults):
    """Kills a process at a request of it that changes something."""

    def now(self, method, path):
        with self._lock:
            victim, left = struct.unpack("qq", SHARED[:])
            if victim and method not in ("GET", "HEAD"):
                if not left:
                    os.kill(victim, signal.SIGKILL)
                SHARED[:] = struct.pack("qq", victim if left else 0, left - 1)
        return ""


def serve():
    """The environment of a server in a process of its own."""
    answer, say = os.pipe()
    parent = os.getpid()
    if not os.fork():
        with s3_server(Killer()):
            os.write(say, json.dumps({name: os.environ[name] for name in os.environ if "AWS" in name}).encode())
            while os.getppid() == parent:
                time.sleep(0.1)
        os._exit(0)
    return json.loads(os.read(answer, 1 << 16))


def in_a_child(work, die_at=None):
    """The exit code of a process that does the work, or dies at a request."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    try:
        SHARED[:] = struct.pack("qq", 0 if die_at is None else os.getpid(), die_at or 0)
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def keys(folder):
    """What lies below a folder; names that are drawn are all the same."""
    found = [each.key.removeprefix(folder.key) for each in folder.first(10000)]
    return Counter(re.sub("v-[0-9a-f]{16}", "v", key) for key in found)


def check(folder, read, allowed, like=None):
    """Whether what is read is one of what is allowed, and what else was there is as it was."""
    assert read(folder) in allowed, read(folder)
    root = folder / "a.zarr/zarr.json"
    if root.is_file():
        stated = json.loads(root.read_text())["attributes"].get("ome", {"multiscales": []})["multiscales"]
        arrays = [root.parent / scale["path"] / "zarr.json" for image in stated for scale in image["datasets"]]
        assert all(array.is_file() for array in arrays), arrays
    beside = f"{folder}/{'a.h5' if (folder / 'a.h5').is_file() else 'a.zarr'}:volumes/other"
    if like is not None:
        assert keys(folder) == like, (keys(folder) - like, like - keys(folder))
        assert not list(CACHE.glob("uploads/*")) and not list(CACHE.glob("locks/.*"))
    if io.exists(beside, "fragments"):
        assert int(io.read_labels(beside, "fragments").array.max()) == 7


def kill(writer):
    """Kill a writer at its first request, its second ...: how many kills, and after how many all was well."""
    prepare, write, read = writer
    tried = held = 0
    clean = Remote(f"s3://{BUCKET}", "clean")

    def note():
        (CACHE / "like.json").write_text(json.dumps([read(before), keys(clean)]))

    before = Remote(f"s3://{BUCKET}", "before")
    assert in_a_child(lambda: (prepare(before), prepare(clean), write(clean), note())) == 0
    was, like = json.loads((CACHE / "like.json").read_text())
    while True:
        place = Remote(f"s3://{BUCKET}", f"try-{tried}")
        assert in_a_child(lambda: prepare(place)) == 0
        code = in_a_child(lambda: write(place), tried)
        if code == 0:
            return tried, held
        assert code == -signal.SIGKILL
        whole = in_a_child(lambda: check(place, read, [was, 9])) == 0
        again = in_a_child(lambda: (write(place), check(place, read, [9], Counter(like)))) == 0
        held += whole and again
        if not (whole and again):
            print("killed at request", tried, "whole", whole, "again", again, file=sys.stderr)
        tried += 1


def read_labels(path, role="fragments"):
    own = path in ("a.h5", "a.zarr")

    def read(folder):
        address = f"{folder}/{path}"
        there = io.parse_address(address).path
        if not (there.is_file() or (there / "info").is_file() or (own and io.exists(address, role))):
            return None
        found = np.unique(io.read_labels(address, role).array)
        assert len(found) == 1
        return int(found[0])

    return read


def put(path, value, role="fragments"):
    def write(folder):
        io.check_writable(f"{folder}/{path}")
        io.write(f"{folder}/{path}", value, role)

    return write


def exchanged(path, value):
    def write(folder):
        blocks = io.Blocks(SHAPE, np.dtype(np.uint32), iter([(WHOLE, value.array.astype(np.uint32))]))
        io.write_blocks(f"{folder}/{path}", "segmentation", blocks, ATTRIBUTES)

    return write


CACHE = Path(os.environ["SEGKIT_CACHE"])
CACHE.mkdir(parents=True, exist_ok=True)
WRITERS = {}
for path in ("a.h5", "a.zarr"):
    beside, read = put(f"{path}:volumes/other", OLD), read_labels(path)
    WRITERS[f"{path} new"] = both(), put(path, NEW), read
    WRITERS[f"{path} replaced"] = both(beside, put(path, OLD)), put(path, NEW), read
for path in ("a.tif", "a.precomputed"):
    read = read_labels(path, "segmentation")
    WRITERS[f"{path} new"] = both(), exchanged(path, NEW), read
    WRITERS[f"{path} replaced"] = exchanged(path, OLD), exchanged(path, NEW), read
read = read_labels("a.zarr")
WRITERS["shards new"] = both(), shards("b", NEW), read
WRITERS["shards replaced"] = both(shards("a", OLD), shards("b", NEW, finish=False)), shards("b", NEW), read

os.environ |= serve()
print(json.dumps(kill(WRITERS[sys.argv[1]])))
'''

QUICK = ["a.h5 replaced"]
SLOW = [
    f"{name} {what}" for name in ("a.h5", "a.zarr", "a.tif", "a.precomputed", "shards") for what in ("new", "replaced")
]


@pytest.mark.parametrize(
    "title", [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW if each not in QUICK)]
)
def test_a_writer_that_is_killed_at_any_request_leaves_the_old_or_the_new(tmp_path, title):
    """Afterwards the same command ends well, and nothing is left over, neither there nor here."""
    words = [sys.executable, "-c", PROGRAM, title]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "SEGKIT_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, env=settings, cwd=tmp_path, start_new_session=True)
    assert done.returncode == 0, done.stderr
    tried, held = json.loads(done.stdout)
    print(f"{title}: {tried} tried, {held} held")
    assert tried == held >= 1, done.stderr


ROOT = Path(__file__).resolve().parents[2]
