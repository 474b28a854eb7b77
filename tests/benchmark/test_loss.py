"""Losses head to head: what runs, on what, and how results are compared."""

import os

import numpy as np
import pytest

from segkit import io
from segkit.benchmark import Cubes, Limits, benchmark_losses, contenders
from segkit.benchmark.loss import TOLERANCE, centred, compare, entries_of
from segkit.data import NEAREST, Affinities, Grid, Labels, edge_mask
from segkit.errors import InvalidInput, InvalidParameter, InvalidShape, UnknownComponent
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites

MOODY = """
from typing import Literal

import torch

from segkit.protocols import Loss


class Moody(Loss):
    def __init__(self, *, backend: Literal["fair", "off", "bad", "hungry", "nan"] = "fair") -> None:
        self.backend = backend

    def __call__(self, prediction):
        if self.backend == "bad":
            raise RuntimeError("out of luck")
        if self.backend == "hungry":
            raise torch.OutOfMemoryError("CUDA out of memory")
        value = prediction.affinities.mean() * {"fair": 1.0, "off": 1.5, "nan": float("nan")}[self.backend]
        return value, {}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Affinities and truth of 10 x 12 x 14 voxels."""
    path = tmp_path_factory.mktemp("loss") / "inputs.h5"
    truth = neurites((10, 12, 14), count=4, seed=3).truth
    io.write_all(path, {"truth": truth, "affinities": oracle_affinities(truth, noise=0.15, seed=0)})
    return str(path)


@pytest.fixture
def moody(tmp_path, monkeypatch):
    """Installs losses that fail, here and in the workers, for this test."""
    information = tmp_path / "site" / "moody-1.0.dist-info"
    information.mkdir(parents=True)
    (tmp_path / "site" / "moody.py").write_text(MOODY)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: moody\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[segkit.losses]\nmoody = moody:Moody\nbroken = moody:Missing\n")
    known = filter(None, [os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *known]))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def test_backends_of_a_loss(file):
    one = contenders(["constrained-malis"], ["balanced=false"])
    options = {"backends": ["cpu", "higra"], "cubes": Cubes([6], 2, "cpu"), "limits": Limits(2, threads=1)}
    report = benchmark_losses(one, {"affinities": file, "truth": file}, **options)
    assert report | {"verb": "loss", "sizes": [6], "batch": 2, "repeat": 2, "threads": 1} == report
    (yardstick,) = report["yardsticks"]
    assert yardstick["edges"] == 3 * 5 * 6 * 6 and yardstick["argsort_seconds"] > 0
    cpu, higra = report["rows"]
    assert "error" not in cpu | higra, (cpu, higra)
    assert (cpu["backend"], higra["backend"]) == ("cpu", "higra") and cpu["size"] == 6 and cpu["device"] == "cpu"
    assert higra["parameters"] == {"balanced": False, "backend": "higra"}
    assert cpu["ratio"] == 1 and higra["ratio"] == pytest.approx(higra["seconds"] / cpu["seconds"])
    assert cpu["argsorts"] == pytest.approx(cpu["seconds"] / 2 / yardstick["argsort_seconds"])
    assert len(higra["all_seconds"]) == 2 and {"cpu_seconds", "compile_seconds", "peak_bytes"} <= higra.keys()
    first = "constrained-malis by cpu"
    assert higra["identical_to"] == {first: True} and higra["agrees_to"] == {first: True}
    assert 0 < cpu["loss_value"] < 1 and higra["loss_apart_to"][first] <= TOLERANCE
    assert higra["device_peak_bytes"] is None


@pytest.mark.slow
def test_a_backend_that_fails_is_a_row_and_stops_nobody_else(file, moody):
    backends = ["bad", "hungry", "nan", "fair", "off"]
    losses = contenders(["moody", "broken"])
    report = benchmark_losses(
        losses, {"affinities": file, "truth": file}, backends=backends, cubes=Cubes([4]), limits=Limits(1)
    )
    bad, hungry, nan, fair, off, broken = report["rows"]
    assert bad["error"] == "RuntimeError: out of luck" and "out of memory" in hungry["error"]
    assert "must be finite" in nan["error"] and "cannot be used" in broken["error"]
    assert broken["backend"] is None and broken["loss"] == "broken"
    assert fair["ratio"] == 1 and fair["agrees_to"] == {"moody by fair": True}
    assert fair["identical_to"] == {"moody by fair": None}, "it counts no pairs"
    assert off["agrees_to"] == {"moody by fair": False}
    assert off["loss_apart_to"]["moody by fair"] == pytest.approx(0.5, rel=1e-5)
    assert off["gradient_apart_to"]["moody by fair"] == pytest.approx(0.5, rel=1e-5)


@pytest.mark.slow
def test_voxels_outside_the_annotation_and_other_neighborhoods(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([1, 2, 2**64 - 1], np.uint64), (5, 5, 5))
    neighborhood = [*NEAREST, (0, 2, -1)]
    array = (rng.random((4, 5, 5, 5)) * edge_mask((5, 5, 5), neighborhood)).astype(np.float32)
    truth, path = Labels(labels, Grid()), str(tmp_path / "outside.h5")
    io.write_all(path, {"truth": truth, "affinities": Affinities(array, np.array(neighborhood), Grid())})
    losses = contenders(["malis", "malis-higra"], ["malis-higra.constrained=false"])
    report = benchmark_losses(losses, {"affinities": path, "truth": path}, cubes=Cubes([5]), limits=Limits(1))
    assert report["yardsticks"][0]["edges"] == edge_mask((5, 5, 5), neighborhood, truth.inside).sum()
    one_pass, higra = report["rows"]
    assert "error" not in one_pass | higra, (one_pass, higra)
    assert higra["agrees_to"] == higra["identical_to"] == {"malis": True} and higra["backend"] is None


def test_entries():
    def shown(names, backends=(), assignments=()):
        entries = entries_of(contenders(names, assignments), backends)
        return [(entry.contender.label, entry.backend, dict(entry.contender.parameters)) for entry in entries]

    assert shown(["malis", "mse"]) == [("malis", None, {}), ("mse", None, {})]
    assert shown(["a=malis", "mse"], ["cpu", "higra"], ["a.balanced=false"]) == [
        ("a", "cpu", {"balanced": False, "backend": "cpu"}),
        ("a", "higra", {"balanced": False, "backend": "higra"}),
        ("mse", None, {}),
    ]


@pytest.mark.parametrize(
    ("names", "backends", "error", "message"),
    [
        (["mse", "bce"], ["cpu"], InvalidParameter, "--backend must not be given with .* as 'mse'; omit it"),
        (["malis"], ["cpu", "cuda"], InvalidParameter, "parameter 'backend' of loss 'malis' must be .*'cuda'"),
        (["maliss"], [], UnknownComponent, "did you mean 'malis'"),
    ],
)
def test_entries_that_are_wrong(names, backends, error, message):
    with pytest.raises(error, match=message):
        entries_of(contenders(names), backends)


@pytest.mark.parametrize(
    ("crop", "size", "expected"),
    [
        ("", 6, "[2:8,3:9,4:10]"),
        ("", 5, "[2:7,3:8,4:9]"),
        ("[1:9,:,2:]", 4, "[3:7,4:8,6:10]"),
        ("", 10, "[0:10,1:11,2:12]"),
    ],
)
def test_cubes_from_the_middle(file, crop, size, expected):
    found = centred(file + crop, "affinities", size)
    assert found == file + expected
    assert io.read_affinities(found).shape == (size, size, size)


def test_a_cube_that_does_not_fit(file):
    with pytest.raises(InvalidShape, match=r"size must fit into truth of \(10, 12, 14\) voxels, not 11; .* 10$"):
        centred(file, "truth", 11)


def test_comparison():
    first = {"loss": np.float32(0.5), "gradient": np.float32([0, -2, 1]), "positive": np.array([0, 3])}
    first["negative"] = np.array([4, 0])
    rounded = first | {"gradient": np.float32([0, -2 * (1 - 1e-6), 1])}
    found = compare(rounded, first)
    assert found["agrees"] and found["identical"] and 0 < found["gradient_apart"] < TOLERANCE
    other = compare(first | {"negative": np.array([4, 1])}, first)
    assert other["identical"] is False and not other["agrees"] and other["gradient_apart"] == 0
    alone = compare({name: first[name] for name in ("loss", "gradient")} | {"loss": np.float32(0.4)}, first)
    assert alone["identical"] is None and not alone["agrees"] and alone["loss_apart"] == pytest.approx(0.2)


def test_nothing_against_nothing_agrees():
    nothing = {"loss": np.float32(0), "gradient": np.zeros(3, np.float32)}
    assert compare(nothing, nothing)["agrees"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sizes": [4, 11]}, InvalidShape, "not 11"),
        ({"sizes": []}, InvalidParameter, "at least one loss and one size"),
        ({"batch": 0}, InvalidParameter, "batch must be at least 1, not 0"),
        ({"repeat": 0}, InvalidParameter, "repeat must be at least 1"),
        ({"device": "abacus"}, InvalidInput, "device must be auto, cpu"),
        ({"sizes": [4, 5], "trace": "trace.json"}, InvalidParameter, "trace must be asked of one .* not 2 of them"),
    ],
)
def test_what_is_wrong_with_the_call_is_said_at_once(file, monkeypatch, options, error, message):
    monkeypatch.setattr("segkit.benchmark.loss.in_fresh_process", lambda *_, **__: pytest.fail("a worker was started"))
    with pytest.raises(error, match=message):
        limits, cubes = Limits(options.pop("repeat", 3)), Cubes(**({"sizes": [4]} | options))
        benchmark_losses(contenders(["mse"]), {"affinities": file, "truth": file}, cubes=cubes, limits=limits)


def test_inputs_that_do_not_lie_together(file, tmp_path):
    truth = io.read_labels(file)
    moved = tmp_path / "moved.h5"
    io.write(moved, Labels(truth.array, Grid(truth.grid.voxel_size, (0, 0, 20))), "truth")
    with pytest.raises(InvalidInput, match="affinities and truth must lie at the same place"):
        benchmark_losses(contenders(["mse"]), {"affinities": file, "truth": str(moved)}, cubes=Cubes([4]))
