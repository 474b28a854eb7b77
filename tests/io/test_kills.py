"""Each writer is killed at each event of the file system that Python sees; whatever is there afterwards is whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

PROGRAM = '''
"""Prints, of each writer, at how many events it was killed, and how many times all was well."""
import importlib, json, os, shutil, signal, sys
from pathlib import Path

import numpy as np

from segkit import io
from segkit.errors import MissingFile
from segkit.io import atomic, hdf5, tiff, zarr  # before any fork
from segkit.io.atomic import tidy
from segkit.io.handed import handing_over
from segkit.io.lock import locked_run
from tests.io.killed import ATTRIBUTES, NEW, OLD, SHAPE, both, shards

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.symlink", "shutil.rmtree",
          "shutil.copyfile", "ctypes.dlsym"}


def changes(event, arguments):
    """Whether a file or a folder is about to be changed."""
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    return event in EVENTS or (event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & writes))


def in_a_child(work, die_at=None):
    """The exit code of a process that does the work, or dies at an event."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    seen = 0

    def hook(event, arguments):
        nonlocal seen
        if changes(event, arguments):
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    try:
        if die_at is not None:
            sys.addaudithook(hook)
        work()
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def check(before, folder, read, allowed):
    """Whether what is read is one of what is allowed, and what else was there is as it was."""
    assert read(folder) in allowed, read(folder)
    for root in folder.glob("*.zarr/zarr.json"):  # which shows nothing, or what is there
        stated = json.loads(root.read_text())["attributes"].get("ome", {"multiscales": []})["multiscales"]
        arrays = [root.parent / scale["path"] / "zarr.json" for image in stated for scale in image["datasets"]]
        assert all(array.is_file() for array in arrays), arrays
        assert arrays or allowed != [9]  # a whole run has shown it
    for name, value in before.items():
        assert int(io.read_labels(f"{folder}/{name}", "fragments").array.max()) == value


def kill(writer, folder):
    """Kill a writer at its first event, its second ...: how many kills, and after how many all was well."""
    prepare, write, read, others = writer
    template = folder / "template"
    template.mkdir()
    assert in_a_child(lambda: prepare(template)) == 0
    tried = held = 0
    while True:
        place = folder / str(tried)
        shutil.copytree(template, place)
        code = in_a_child(lambda: write(place), tried)
        if code == 0:
            return tried, held
        assert code == -signal.SIGKILL
        tried += 1
        whole = in_a_child(lambda: check(others, place, read, [read(template), 9])) == 0
        again = in_a_child(lambda: (write(place), check(others, place, read, [9]))) == 0
        left = [str(path.relative_to(place)) for path in place.rglob(".*")]
        held += whole and again and not left
        if not (whole and again) or left:
            print("killed at event", tried - 1, "whole", whole, "again", again, "left", left, file=sys.stderr)


def labels_at(name, path="a.h5"):
    def read(folder):
        if not io.exists(f"{folder}/{path}:{name}", "fragments"):
            return None
        found = np.unique(io.read_labels(f"{folder}/{path}:{name}", "fragments").array)
        assert len(found) == 1
        return int(found[0])

    return read


def put(name, path, value):
    return lambda folder: io.write(f"{folder}/{path}:{name}", value, "fragments")


def handing(write):
    """The same, written in the background."""
    def handed(folder):
        with handing_over():
            write(folder)
    return handed


def nothing(folder):
    pass


def exchanged(path):
    """A format of one volume."""
    def write(value):
        return lambda folder: io.write_blocks(folder / path, "segmentation", io.Blocks(SHAPE, np.dtype(np.uint32), iter(
            [(tuple(slice(0, size) for size in SHAPE), value.array.astype(np.uint32))])), ATTRIBUTES)

    def read(folder):
        try:
            found = np.unique(io.read_labels(folder / path, "segmentation").array)
        except MissingFile:
            return None
        assert len(found) == 1
        return int(found[0])

    return write, read


def checkpoint(value):
    def write(folder):
        from segkit.train.checkpoint import write_checkpoint

        with locked_run(folder / "run"):
            tidy(folder / "run")
            write_checkpoint(folder / "run/checkpoints/last.ckpt", {"value": value})
    return write


def read_checkpoint(folder):
    from segkit.train.checkpoint import read_checkpoint as read

    path = folder / "run/checkpoints/last.ckpt"
    return read(path)["value"] if path.exists() else None


WRITERS = {}
for suffix in (".h5", ".zarr"):
    path, name = f"a{suffix}", "volumes/fragments"
    read = labels_at(name, path)
    beside = put("volumes/other", path, OLD)
    WRITERS[f"{suffix} new"] = nothing, put(name, path, NEW), read, {}
    WRITERS[f"{suffix} beside"] = beside, put(name, path, NEW), read, {f"{path}:volumes/other": 7}
    if suffix == ".h5":
        WRITERS["handed new"] = nothing, handing(put(name, path, NEW)), read, {}
        WRITERS["handed replaced"] = both(beside, put(name, path, OLD)), handing(put(name, path, NEW)), read, {
            f"{path}:volumes/other": 7
        }
    WRITERS[f"{suffix} replaced"] = both(beside, put(name, path, OLD)), put(name, path, NEW), read, {
        f"{path}:volumes/other": 7
    }
for path in ("a.tif", "a.precomputed"):
    write, read = exchanged(path)
    WRITERS[f"{path} new"] = nothing, write(NEW), read, {}
    WRITERS[f"{path} replaced"] = write(OLD), write(NEW), read, {}
read = labels_at("volumes/fragments", "a.zarr")
WRITERS["shards new"] = nothing, shards("b", NEW), read, {}
WRITERS["shards replaced"] = both(shards("a", OLD), shards("b", NEW, finish=False)), shards("b", NEW), read, {}
WRITERS["shards again"] = shards("b", NEW), shards("b", NEW), read, {}
WRITERS["checkpoint new"] = nothing, checkpoint(9), read_checkpoint, {}
WRITERS["checkpoint replaced"] = checkpoint(7), checkpoint(9), read_checkpoint, {}

folder, wanted = Path(sys.argv[1]), sys.argv[3:]
for word, module in (("checkpoint", "segkit.train.checkpoint"), ("precomputed", "tensorstore")):
    if any(word in title for title in wanted):
        importlib.import_module(module)  # before any fork
if sys.argv[2] == "aside":
    atomic.exchange = lambda *paths: False
counts = {}
for title in wanted:
    (folder / title).mkdir()
    counts[title] = kill(WRITERS[title], folder / title)
    shutil.rmtree(folder / title)
print(json.dumps(counts))
'''


QUICK = ["exchange .h5 replaced", "exchange handed replaced", "exchange shards replaced", "aside .zarr replaced"]
SLOW = [
    f"exchange {name} {what}"
    for name in (".h5", ".zarr", "a.tif", "a.precomputed", "shards", "checkpoint")
    for what in ("new", "beside", "replaced", "again")
    if what in ("new", "replaced") or f"{name} {what}" in (".h5 beside", ".zarr beside", "shards again")
]
SLOW += ["exchange handed new", "aside a.precomputed replaced", "aside shards replaced"]


@pytest.mark.parametrize(
    "call", [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW if each not in QUICK)]
)
def test_a_writer_that_is_killed_at_any_event_leaves_the_old_or_the_new(tmp_path, call):
    """Afterwards the same command ends well, and nothing is left over. `aside`: where folders cannot change places."""
    how, _, title = call.partition(" ")
    if "precomputed" in title:
        pytest.importorskip("tensorstore", reason="needs tensorstore")
    words = [sys.executable, "-c", PROGRAM, str(tmp_path), how, title]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(words, capture_output=True, text=True, env=settings)
    assert done.returncode == 0, done.stderr
    tried, held = json.loads(done.stdout)[title]
    print(f"{call}: {tried} tried, {held} held")
    assert tried == held >= 5, done.stderr
