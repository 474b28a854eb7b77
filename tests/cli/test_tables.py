"""Tables fit 80 columns, and no number in them is cut or broken over lines."""

import re

import numpy as np
import pytest

from segkit import Affinities, Grid, Labels, io
from segkit.cli import common
from segkit.cli.tables import layout
from segkit.data import NEAREST
from segkit.data.neighborhoods import long_range
from segkit.registry import load

SCORES = {"voi_split": 0.3812345, "voi_merge": 0.2, "adapted_rand_error": 0.1, "rand_index": 0.9, "cremi_score": 0.2}
MORE = SCORES | {"precision": 1.0, "recall": 0.5, "segments": 123456789, "objects": 33}
BENCHMARK = {"backend": "python", "seconds": 0.2431, "cpu": 0.5, "peak MB": 1500, "identical": "no, VOI 0.0023"}
BENCHMARK |= {"best cremi_score": 0.23, "at": "0.30000000000000004"} | SCORES
NUMBER = re.compile(r"(?<![\w.])\d+\.\d{3,}(?![\w.])")
PATH = "/a/path/that/is/longer/than/any/terminal/should/be/wide/and/is/still/shown/whole/sample.h5"


def words(row):
    texts = (f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values())
    return [word for text in texts for word in text.split()]


@pytest.mark.parametrize(
    "rows",
    [
        [SCORES],
        [MORE],
        [{"what": name} | MORE for name in ("fragments", "best", "oracle")],
        [{"threshold": repr(k / 30)} | MORE for k in range(12)],
        [BENCHMARK, BENCHMARK | {"backend": "waterz", "identical": "yes"}],
        [BENCHMARK, {"backend": "broken", "problem": "a long sentence of what is wrong with this one, word by word"}],
        [{"object": 123456789, "voxels": 12345, "parts": "12 (300) + 4 (20) + 1234567 (123456)", "voxel": "1, 2, 3"}]
        * 6,
        [{"channel": f"{k}", "mean": f"{k / 7:.3g}"} | dict.fromkeys("abcdefghijklmnop", "1.23e-05") for k in range(9)],
    ],
)
def test_every_word_is_whole_and_every_line_fits(rows):
    text = layout(rows, 80)
    assert max(map(len, text.splitlines())) <= 80
    shown = text.split()
    for row in rows:
        assert all(word in shown for word in words(row))
    heads = re.sub(r"[-\s]", "", text)
    assert all(part in heads for row in rows for head in row for part in re.findall("[^_ ]+", head))


def test_a_wide_terminal_is_used():
    rows = [{"threshold": repr(k / 30)} | MORE for k in range(12)]
    assert len(layout(rows, 200).splitlines()) == 2 + len(rows) < len(layout(rows, 80).splitlines())


def test_what_is_longer_than_a_line_stays_whole():
    assert PATH in layout([{"file": PATH, "kind": "raw"}], 80).split()


def test_numbers_stand_to_the_right():
    assert layout([{"n": 1, "name": "a"}, {"n": 1000, "name": "b"}], 80).splitlines()[2:] == ["   1  a", "1000  b"]


def test_columns_without_any_value_are_left_out():
    assert "problem" not in layout([{"name": "a", "problem": ""}], 80)


def test_few_wide_rows_are_turned():
    lines = layout([BENCHMARK, BENCHMARK | {"backend": "waterz"}], 80).splitlines()
    assert lines[0].split() == ["backend", "python", "waterz"]
    assert next(line for line in lines if line.startswith("at")).split()[1:] == ["0.30000000000000004"] * 2


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    truth = Labels.convert(np.kron(np.arange(1, 9).reshape(2, 2, 2), np.ones((6, 12, 12), int)), Grid((40, 4, 4)))
    fragments = Labels.convert(np.arange(truth.array.size).reshape(truth.shape) // 90 + 1, truth.grid)
    io.write_all(tmp_path / "all.h5", {"segmentation": fragments, "truth": truth, "fragments": fragments})
    near = Affinities(rng.random((3, *truth.shape), np.float32), NEAREST, truth.grid)
    tree = load("agglomerators", "python").agglomerate(near, fragments)
    io.write_all(tmp_path / "tree.h5", {"merge_tree": tree, "fragments": fragments})
    offsets = long_range((40, 4, 4), 3)
    far = Affinities(rng.random((len(offsets), *truth.shape), np.float32), offsets, truth.grid)
    io.write(tmp_path / "near.h5", near)
    io.write(tmp_path / "far.h5", far)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["plugins", "list"],
        ["evaluate", "all.h5", "all.h5"],
        ["evaluate", "all.h5", "all.h5", "--metric", "cremi", "--metric", "voi", "--metric", "rand", "--per-section"],
        ["evaluate", "all.h5", "all.h5", "--worst", "5"],
        ["evaluate", "tree.h5", "all.h5", "--sweep"],
        ["diagnose", "near.h5", "--labels", "all.h5"],
        ["diagnose", "far.h5", "--labels", "all.h5", "--stride", "1,9,9"],
        ["benchmark", "evaluate", "all.h5", "all.h5", "--metric", "voi", "--metric", "cremi", "--repeat", "1"],
        ["benchmark", "fragment", "near.h5", "--method", "threshold", "--repeat", "1", "--truth", "all.h5"],
    ],
)
def test_the_tables_of_the_verbs(files, segkit, monkeypatch, words):
    monkeypatch.chdir(files)
    monkeypatch.setenv("COLUMNS", "80")
    done = segkit(*words)
    assert done.exit_code == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "/" not in line]  # paths stay whole
    lines = [line for line in lines if not re.match(r"(\w|-)+: ", line)]  # the verdict of `diagnose` is sentences
    assert max(map(len, lines)) <= 80
    if words[0] != "benchmark":  # whose times differ from call to call
        monkeypatch.setenv("COLUMNS", "400")
        assert set(NUMBER.findall(done.stdout)) == set(NUMBER.findall(segkit(*words).stdout))


@pytest.mark.parametrize("rows", [[], [{}], [{"problem": ""}, {"problem": ""}]])
def test_a_table_of_nothing_says_so(rows):
    assert layout(rows, 80) == "none"


def test_progress_in_a_log_is_a_line_a_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    with common.progress("train") as report:
        for now[0], done in ((59, 1), (60, 2), (61, 3), (119, 4), (121, 5)):
            report(done, 9, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == ["train: 2 of 9  loss 0.5", "train: 5 of 9  loss 0.5"]
