"""The volumes that are measured, and what is kept of measurements."""

import json

import make_inputs
import numpy as np
import pytest
from recipes import Runs

from segkit import Grid, Labels
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites


def test_a_cube_is_the_middle_of_the_labels():
    labels = Labels.convert(np.arange(1, 28).reshape(3, 3, 3), Grid())
    assert make_inputs.cube(labels, 3) is labels
    assert make_inputs.cube(labels, 1).array.tolist() == [[[1]]]


def test_a_cube_mirrors_labels_that_are_too_small():
    """Along an axis 0 1 2 2 1 0: what meets its own mirror is one object, else there are two of it."""
    labels = Labels.convert(np.arange(1, 28).reshape(3, 3, 3), Grid())
    larger = make_inputs.cube(labels, 6)
    assert len(larger.ids()) == 5**3
    np.testing.assert_array_equal(larger.array[2], larger.array[3])
    background = Labels.convert(np.zeros((1, 2, 2), int), Grid())
    assert not make_inputs.cube(background, 4).array.any()


def test_blocks_of_affinities_differ_by_their_noise_alone(monkeypatch):
    def without_noise(labels, noise, seed):
        return oracle_affinities(labels, noise=0, seed=seed)

    truth = neurites((20, 20, 20), count=4, seed=1).truth
    np.testing.assert_array_equal(
        make_inputs.affinities_of(truth).array, oracle_affinities(truth, noise=0.1, seed=1).array
    )
    monkeypatch.setattr(make_inputs, "oracle_affinities", without_noise)
    whole, blocks = (make_inputs.affinities_of(truth, block).array for block in (20, 10))
    np.testing.assert_allclose(blocks, whole, atol=1e-6)


@pytest.fixture
def about():
    return {"inputs": {"name": "n"}, "machine": {"cores": 2, "load": 0.5, "date": "today"}}


def test_runs_go_on_where_they_were(tmp_path, about):
    path, calls = tmp_path / "r.json", iter(range(9))

    def measure():
        return {"seconds": next(calls)}

    runs = Runs(path, about)
    assert runs.once(measure, name="a", round=0) == {"name": "a", "round": 0, "seconds": 0}
    later = about | {"machine": about["machine"] | {"load": 2.0, "date": "tomorrow"}}
    runs = Runs(path, later)
    assert runs.once(measure, name="a", round=0)["seconds"] == 0
    assert runs.once(measure, name="a", round=1)["seconds"] == 1
    assert [run["seconds"] for run in json.loads(path.read_text())["runs"]] == [0, 1]
    runs = Runs(path, later, again=True)
    for _ in range(2):
        assert runs.once(measure, name="a", round=0)["seconds"] == 2
    assert [run["seconds"] for run in json.loads(path.read_text())["runs"]] == [2, 1]


def test_runs_of_something_else_are_thrown_away(tmp_path, about, capsys):
    path = tmp_path / "r.json"
    Runs(path, about).once(lambda: {"seconds": 1}, name="a")
    for other in ({"inputs": {"name": "m"}}, {"machine": {"cores": 4, "load": 0.5, "date": "today"}}):
        assert Runs(path, about | other).results["runs"] == []
    assert "made anew" in capsys.readouterr().out


def test_what_failed_is_measured_again_in_its_place(tmp_path, about):
    runs = Runs(tmp_path / "r.json", about)
    runs.once(lambda: {"error": "no memory"}, name="a")
    runs.once(lambda: {"seconds": 1}, name="b")
    runs.once(lambda: {"seconds": 2}, name="a")
    assert [(run["name"], run["seconds"]) for run in runs.results["runs"]] == [("a", 2), ("b", 1)]
