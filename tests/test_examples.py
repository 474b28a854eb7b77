"""The examples run as they are, each in a process of its own in an empty folder, and come to what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.fixture
def said(tmp_path):
    """A callable(name) that runs an example and gives what it printed."""

    def run(name: str) -> str:
        words = [sys.executable, str(EXAMPLES / f"{name}.py")]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def numbers(pattern: str, text: str) -> list[tuple[float, ...]]:
    return [tuple(map(float, found.groups())) for found in re.finditer(pattern, text)]


def test_every_example_has_its_line_and_its_test():
    listed = re.findall(r"^- `(\w+)\.py`: \w", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == NAMES
    assert all(f"test_{name}" in globals() for name in NAMES)


def test_train(said):
    text = said("train")
    ((first, last),) = numbers(r"loss ([\d.]+) -> ([\d.]+) in 60 steps", text)
    assert last < first
    ((fragments, score),) = numbers(r"(\d+) fragments; CREMI score ([\d.]+) at threshold", text)
    assert fragments > 20 and score < 0.8, "an untrained network has a CREMI score above 1"


def test_agglomerate_and_score(said):
    text = said("agglomerate_and_score")
    rows = numbers(r"validation: fragments ([\d.]+), best possible ([\d.]+), ([\d.]+) at threshold", text)
    assert len(rows) == 2
    for fragments, limit, best in rows:
        assert limit < best < fragments / 2
    assert len(numbers(r"test: CREMI score ([\d.]+)", text)) == 2


def test_write_a_plugin(said):
    text = said("write_a_plugin")
    scores = numbers(r"(?:static-linkage|python): CREMI score ([\d.]+)", text)
    assert len(scores) == 2 and max(scores) < (0.6,)
    assert re.search(r"^\d\d+ passed", text, re.M) and "failed" not in text


def test_numpy_arrays(said):
    text = said("numpy_arrays")
    assert "theirs: uint8 (96, 96, 16, 3), labels uint32 (96, 96, 16)" in text
    ((fragments, segments, score),) = numbers(r"(\d+) fragments -> (\d+) segments, CREMI score ([\d.]+)", text)
    assert segments < fragments and score < 0.5, "with the wrong polarity it is above 2"
    assert "back: uint32 (96, 96, 16), writable True" in text
