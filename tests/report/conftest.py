"""The folder of a recipe without training, beside that of a training run, made once."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from segkit import io
from segkit.cli.main import main
from segkit.data import Labels
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites

sys.path.append(os.path.dirname(__file__))  # for the module beside this one
RECIPE = """
title = "From affinities"
[data]
affinities = "affinities.h5"
truth = "data.h5"
[fragment]
affinities = "{data.affinities}"
set = { seed_distance = 3 }
out = "{out}/fragments.h5"
[evaluate-fragments]
verb = "evaluate"
segmentation = "{out}/fragments.h5:volumes/fragments"
truth = "{data.truth}"
[agglomerate]
affinities = "{data.affinities}"
fragments = "{out}/fragments.h5"
threshold = 0.5
out = "{out}/tree.h5"
[evaluate]
segmentation = "{out}/tree.h5"
truth = "{data.truth}"
"""
CARD = {
    "settings": {"model": "fcn", "loss": "bce+0.5*mse", "steps": 40, "model_parameters": {"features": 4}},
    "data": {"training": [], "validation": []},
    "versions": {"segkit": "0.1.0", "torch": None},
    "hardware": {"processor": "an abacus"},
}


def call(*words: object):
    """The command line in this process."""
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="segkit")


def write_run(folder: Path) -> Path:
    """A training run: the files that a report reads."""
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps(CARD))
    (folder / "best.json").write_text(json.dumps({"step": 20, "cremi_score": 0.25, "threshold": 0.4}))
    lines: list[dict[str, object]] = [{"step": 0, "health/z/auc": 0.5, "health/y/auc": 0.6}]
    for step in (10, 20, 30, 40):
        lines.append({"step": step, "loss": 2 / step, "bce": 1 / step, "mse": 1 / step, "learning_rate": 1e-3})
    for step, score in ((20, 0.25), (40, 0.5)):
        scores = {"validation/cremi_score": score, "validation/voi_split": 0.5, "validation/voi_merge": 0.1}
        lines.append({"step": step, "validation_loss": score} | scores)
    lines.append({"step": 40, "health/z/auc": 0.9, "health/y/auc": 0.8})
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 41, "lo')
    return folder


def wrong(truth: Labels) -> Labels:
    """A segmentation with a merge of the two largest objects, and the third largest cut in two."""
    ids, sizes = np.unique(truth.array[truth.array > 0], return_counts=True)
    first, second, third = ids[np.argsort(-sizes)][:3]
    array = truth.array.copy()
    array[array == second] = first
    half = np.indices(array.shape)[2] < np.median(np.argwhere(truth.array == third)[:, 2])
    array[(array == third) & half] = 1000
    return Labels(array, truth.grid)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with data.h5, affinities.h5, wrong.h5, run/ and what a recipe made, in out/ with its report.html."""
    folder = tmp_path_factory.mktemp("report")
    phantom = neurites((16, 48, 40), count=7, seed=3, voxel_size=(40, 8, 8))
    io.write_all(folder / "data.h5", {"raw": phantom.raw, "truth": phantom.truth})
    io.write(folder / "affinities.h5", oracle_affinities(phantom.truth, noise=0.3, seed=0), "affinities")
    io.write(folder / "wrong.h5", wrong(phantom.truth), "segmentation")
    write_run(folder / "run")
    (folder / "mine.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = call("run", "mine.toml", "--out", "out")
        assert done.exit_code == 0, done.stderr
        assert "report -> out/report.html" in done.stderr
    return folder
