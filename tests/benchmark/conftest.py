"""A small input, and a distribution of components that fail in every way."""

import os

import pytest

from segkit import io
from segkit.fragment.watershed import Watershed
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites

STRANGE = """
import os, signal, sys, time

import numpy as np

from segkit.data import Labels, MergeTree
from segkit.protocols import Fragmenter, Metric, RagAgglomerator


class Lazy(RagAgglomerator):
    def __init__(self, *, score: str = "none") -> None:
        self.score = score

    def cluster(self, rag):
        return MergeTree.from_merges(rag.node_ids, [], [])


class Killed(Lazy):
    def cluster(self, rag):
        os.kill(os.getpid(), signal.SIGKILL)


class Quits(Lazy):
    def cluster(self, rag):
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)


class Hungry(Lazy):
    def cluster(self, rag):
        raise MemoryError


class Endless(Lazy):
    def cluster(self, rag):
        time.sleep(600)


class Forgets(Lazy):
    def cluster(self, rag):
        return MergeTree.from_merges(rag.node_ids[1:], [], [])


class Buggy(Lazy):
    def cluster(self, rag):
        return {}["nothing"]


class Empty(Lazy):
    def cluster(self, rag):
        return None


class Outside(Fragmenter):
    def fragment(self, affinities, mask=None):
        return Labels(np.full(affinities.shape, 2**64 - 1, np.uint64), affinities.grid)


class Smaller(Fragmenter):
    def fragment(self, affinities, mask=None):
        return Labels(np.ones((1, 2, 3), np.uint64), affinities.grid)


class Silent(Metric):
    def score(self, segmentation, truth):
        return None


class Clock(Metric):
    def score(self, segmentation, truth):
        return {"seconds": 1e9}
"""
KINDS = {
    "agglomerators": ("lazy", "killed", "quits", "hungry", "endless", "forgets", "buggy", "empty"),
    "fragmenters": ("outside", "smaller"),
    "metrics": ("silent", "clock"),
}


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A file with affinities, truth, fragments and a segmentation, which is the fragments."""
    path = tmp_path_factory.mktemp("benchmark") / "inputs.h5"
    truth = neurites((12, 32, 32), count=6, seed=3).truth
    affinities = oracle_affinities(truth, noise=0.15, seed=0)
    fragments = Watershed(seed_distance=3).fragment(affinities)
    objects = {"truth": truth, "affinities": affinities, "fragments": fragments, "segmentation": fragments}
    io.write_all(path, objects)
    return path


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """Installs components that fail, for this test."""
    folder = tmp_path / "site"
    information = folder / "strange-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / "strange.py").write_text(STRANGE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    points = [
        [f"[segkit.{kind}]", *(f"{n} = strange:{n.capitalize()}" for n in names)] for kind, names in KINDS.items()
    ]
    (information / "entry_points.txt").write_text("\n".join(line for lines in points for line in lines) + "\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
