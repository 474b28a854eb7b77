"""The file of a model: what comes back, and what is refused, each in one sentence."""

import json

import numpy as np
import pytest
from segkit.errors import InvalidInput, InvalidParameter, MissingFile
from segkit.tune import Choices, Space

from segkit_learned.agglomerator import Learned
from segkit_learned.features import NAMES
from segkit_learned.forest import Forest
from segkit_learned.model import _digest, parse_model, read_model

EXAMPLE = Learned.segkit_example["model"]


@pytest.fixture
def content():
    with open(EXAMPLE, encoding="utf-8") as file:
        found = json.load(file)
    del found["sha256"]
    return found


def written(path, content, **changes):
    whole = {**content, **changes}
    path.write_text(json.dumps({**whole, "sha256": _digest(whole)}))
    return path


def test_the_same_comes_back(tmp_path):
    model = read_model(EXAMPLE)
    (tmp_path / "again.json").write_text(model.text())
    again = read_model(tmp_path / "again.json")
    rows = np.random.default_rng(0).normal(0, 2, (500, len(NAMES)))
    np.testing.assert_array_equal(model.forest.sums(rows), again.forest.sums(rows))
    assert (model.calibration, model.figures, model.offsets) == (again.calibration, again.figures, again.offsets)
    assert len(np.unique(model.forest.sums(rows))) > 50


def test_trees_beside_lightgbm():
    lightgbm = pytest.importorskip("lightgbm", reason="needs lightgbm")
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 1, (800, 6)).round(1)  # values that lie on thresholds' sides both
    target = (rows[:, 0] + rows[:, 1] * rows[:, 2] > 0).astype(float)
    parameters = {"objective": "binary", "verbosity": -1, "num_leaves": 9, "boost_from_average": False}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, target), 30)
    forest = Forest.of_booster(booster.dump_model())
    new = np.concatenate([rows, rng.normal(0, 1, (800, 6))])
    np.testing.assert_allclose(forest.sums(new), booster.predict(new, raw_score=True), rtol=0, atol=1e-12)


def test_the_mean_of_forests():
    one = read_model(EXAMPLE).forest
    other = Forest(one.roots, one.feature, one.threshold + 0.3, one.left, one.right, 3 * one.value)
    rows = np.random.default_rng(0).normal(0, 2, (200, len(NAMES)))
    expected = (one.sums(rows) + other.sums(rows)) / 2
    np.testing.assert_allclose(Forest.mean([one, other]).sums(rows), expected, rtol=0, atol=1e-12)


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path):
    with open(EXAMPLE, "rb") as file:
        whole = file.read()
    rng = np.random.default_rng(0)
    path = tmp_path / "model.json"
    damaged = [whole[:length] for length in (0, 1, 100, len(whole) // 2, len(whole) - 3)]
    for _ in range(60):
        place = int(rng.integers(len(whole) - 2))
        damaged.append(whole[:place] + bytes([whole[place] ^ int(rng.integers(1, 256))]) + whole[place + 1 :])
    damaged += [b"[" * 100_000, b"{}", b"[]", b'"text"', b"\xff\xfe", b"tree\nversion=v4\n"]
    for data in damaged:
        path.write_bytes(data)
        try:
            same = read_model(path).text() == whole.decode()
        except InvalidParameter as error:
            assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 600
        else:
            assert same, "a changed file was taken"  # blanks outside the values change nothing


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version must be 1"),
        ({"format": "other"}, "format must be"),
        ({"features": ["mean"]}, "features must be those"),
        ({"calibration": [1.0]}, "calibration"),
        ({"calibration": [1.0, "0"]}, "calibration"),
        ({"calibration": [1.0, float("inf")]}, "calibration"),
        ({"offsets": [[1, 2]]}, "unpack"),
        ({"more": 1}, "more"),
        ({"trees": {}}, "trees must have"),
    ],
)
def test_wrong_content_is_refused(tmp_path, content, changes, said):
    with pytest.raises(InvalidParameter, match=said):
        read_model(written(tmp_path / "model.json", content, **changes))


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("left", 0, 0),
        ("right", 0, 10**6),
        ("feature", 0, len(NAMES)),
        ("feature", 1, -2),
        ("value", -1, 1e999),
        ("roots", 1, 0),
        ("roots", 0, 1),
        ("left", 0, 1e300),
    ],
)
def test_trees_that_are_none_are_refused(tmp_path, content, name, place, value):
    """Each of these would read beside the arrays, or never end."""
    trees = {key: list(values) for key, values in content["trees"].items()}
    trees[name][place] = value
    with pytest.raises(InvalidParameter):
        read_model(written(tmp_path / "model.json", content, trees=trees))


def test_children_of_another_tree_are_refused():
    two = {"feature": [0, -1, -1, 0, -1, -1], "threshold": [0.0] * 6, "left": [1, 0, 0, 4, 0, 0], "value": [0.0] * 6}
    arrays = {name: np.array(values) for name, values in two.items()}
    Forest(np.array([0, 3]), right=np.array([2, 0, 0, 5, 0, 0]), **arrays)
    with pytest.raises(InvalidInput, match="children"):
        Forest(np.array([0, 3]), right=np.array([5, 0, 0, 5, 0, 0]), **arrays)


def test_a_missing_file_says_which_verb_makes_it(tmp_path):
    with pytest.raises(MissingFile, match="segkit fit"):
        read_model(tmp_path / "none.json")


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("segkit_learned.model.MOST_BYTES", 1000)
    with pytest.raises(InvalidParameter, match="larger than 1000 bytes"):
        read_model(EXAMPLE)


def test_nothing_is_learned_of_text(content):
    assert parse_model(json.dumps({**content, "sha256": _digest(content)})).figures["volumes"] == 3


def test_a_search_wants_the_file_before_it_begins():
    learned = Choices("agglomerators", "learned", {"model": ["none.json"]})
    with pytest.raises(MissingFile, match=r"none\.json does not exist"):
        Space((Choices("fragmenters", "watershed"),), (learned,)).check()
