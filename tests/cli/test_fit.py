"""segkit fit, with a learner of a distribution of its own: logistic regression of the mean affinity."""

import json
from pathlib import Path

import numpy as np
import pytest

from segkit import io
from segkit.blockwise.component import ComponentSpec
from segkit.cli.steps import Step
from segkit.fragment.watershed import Watershed
from segkit.infer.oracle import oracle_affinities
from segkit.run.recipe import RecipeStage
from segkit.testing.phantoms import neurites

MODULE = '''
import json
from pathlib import Path

import numpy as np

from segkit.agglomerate.greedy import GreedyMerging
from segkit.agglomerate.rag import mean_affinity, region_adjacency_graph
from segkit.data import MergeTree
from segkit.errors import InvalidParameter
from segkit.evaluate.contingency import contingency
from segkit.protocols import Fitted, LearningAgglomerator, RagAgglomerator


class Logistic(RagAgglomerator, LearningAgglomerator):
    """Merges by mean affinity, at altitudes that are probabilities."""

    def __init__(self, *, model: Path | None = None, steps: int = 2000) -> None:
        self.model, self.steps = model, steps

    def fit(self, samples):
        x, y = [], []
        for sample in samples:
            rag = region_adjacency_graph(sample.affinities, sample.fragments)
            table = contingency(sample.fragments, sample.truth)
            best = {}
            for row, col, count in zip(table.segments[table.rows], table.cols, table.counts):
                best[row] = max(best.get(row, (0, 0)), (count, col))
            x.append(mean_affinity(rag))
            y.append([best[a][1] == best[b][1] for a, b in rag.edge_ids()])
        x, y = np.concatenate(x), np.concatenate(y).astype(float)
        slope = shift = 0.0
        for _ in range(self.steps):
            wrong = 1 / (1 + np.exp(-(slope * x + shift))) - y
            slope, shift = slope - (wrong * x).mean(), shift - wrong.mean()
        return Fitted(json.dumps([slope, shift]), {"threshold": 0.5, "examples": len(y)})

    def cluster(self, rag):
        if self.model is None:
            raise InvalidParameter("model must be given")
        slope, shift = json.loads(self.model.read_text())
        tree = GreedyMerging().cluster(rag)
        altitudes = 1 / (1 + np.exp(slope * (1 - tree.altitudes) + shift))
        return MergeTree(tree.leaf_ids.copy(), tree.parents.copy(), altitudes)


class Wordy(Logistic):
    def fit(self, samples):
        return "learned"
'''


@pytest.fixture
def logistic(tmp_path, monkeypatch):
    """A distribution with the learner, and one that breaks the contract."""
    folder = tmp_path / "installed"
    info = folder / "some_learner-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "some_learner.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-learner\nVersion: 1.0\n")
    points = "logistic = some_learner:Logistic\nwordy = some_learner:Wordy"
    (info / "entry_points.txt").write_text(f"[segkit.agglomerators]\n{points}\n")
    monkeypatch.syspath_prepend(str(folder))
    return "logistic"


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Two files with affinities, fragments and truth."""
    folder = tmp_path_factory.mktemp("fit")
    for seed in (1, 2):
        truth = neurites((20, 40, 40), count=20, seed=seed).truth
        affinities = oracle_affinities(truth, noise=0.3, seed=seed)
        fragments = Watershed(threshold=0.6, seed_distance=3).fragment(affinities)
        content = {"affinities": affinities, "fragments": fragments, "truth": truth}
        io.write_all(folder / f"{seed}.h5", content)
    return folder


def words(volumes, *numbers):
    files = [volumes / f"{number}.h5" for number in numbers]
    return [*files, *(w for f in files for w in ("--fragments", f)), *(w for f in files for w in ("--truth", f))]


def test_fit_and_merge(segkit, logistic, volumes, tmp_path):
    model = tmp_path / "model.json"
    done = segkit("fit", *words(volumes, 1, 2), "--backend", logistic, "--out", model, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["threshold"] == 0.5
    slope, shift = json.loads(model.read_text())
    assert slope > 1 > 0 > shift
    merge = ["agglomerate", volumes / "1.h5", "--backend", logistic, "--set", f"model={model}"]
    assert segkit(*merge, "--out", tmp_path / "t.h5").exit_code == 0
    tree = io.read_merge_tree(tmp_path / "t.h5")
    plain = segkit("agglomerate", volumes / "1.h5", "--out", tmp_path / "p.h5")
    assert plain.exit_code == 0
    mean = io.read_merge_tree(tmp_path / "p.h5")
    np.testing.assert_array_equal(tree.parents, mean.parents)
    np.testing.assert_allclose(tree.altitudes, 1 / (1 + np.exp(slope * (1 - mean.altitudes) + shift)))


def test_by_blocks_a_new_model_makes_a_new_tree(segkit, logistic, volumes, tmp_path):
    """Its file is part of what decides the result, not its name alone."""
    model, out = tmp_path / "model.json", tmp_path / "t.zarr"
    call = ["agglomerate", volumes / "1.h5", "--backend", logistic, "--set", f"model={model}", "--out", out]
    trees = []
    for content in ([5, -2], [5, -2], [9, -2]):
        model.write_text(json.dumps(content))
        done = segkit(*call, "--blockwise", "--block", 10, 20, 20)
        assert done.exit_code == 0, done.stderr
        trees.append(io.read_merge_tree(out))
    np.testing.assert_array_equal(trees[0].altitudes, trees[1].altitudes)
    assert (trees[2].altitudes < trees[0].altitudes).any()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("--backend", "python"), "must be an agglomerator that learns"),
        (("--set", "model=old.json"), "use --out"),
        (("--set", "step=3"), "steps"),
        (("--backend", "wordy"), "must return a Fitted from fit()"),
        (("--out", "nowhere/model.json"), "must exist"),
        (("--out", "."), "--out must be a file"),
    ],
)
def test_refusals(segkit, logistic, volumes, tmp_path, monkeypatch, changed, said):
    monkeypatch.chdir(tmp_path)
    call = ["fit", *words(volumes, 1), "--backend", logistic, "--out", "model.json", *changed]
    done = segkit(*call)
    assert done.exit_code in (1, 2) and said in done.stderr, done.stderr
    assert not (tmp_path / "model.json").exists()


def test_as_many_fragments_and_truths_as_affinities(segkit, logistic, volumes, tmp_path):
    call = words(volumes, 1, 2)[:-2]
    done = segkit("fit", *call, "--backend", logistic, "--out", tmp_path / "model.json")
    assert done.exit_code == 2 and "--truth must be given once for each AFFINITIES, 2 times" in done.stderr


def test_volumes_that_are_not_aligned(segkit, logistic, volumes, tmp_path):
    one = volumes / "1.h5"
    call = ["fit", f"{one}[0:10]", "--fragments", one, "--truth", one, "--backend", logistic]
    done = segkit(*call, "--out", tmp_path / "model.json")
    assert done.exit_code == 2 and "fragments" in done.stderr


def test_a_missing_model(segkit, logistic, volumes, tmp_path):
    call = ["agglomerate", volumes / "1.h5", "--backend", logistic, "--set", "model=none.json"]
    done = segkit(*call, "--out", tmp_path / "t.h5")
    assert done.exit_code == 2 and "none.json does not exist" in done.stderr


RECIPE = """
[data]
one = "ONE"
[fit]
affinities = ["{data.one}"]
fragments = ["{data.one}"]
truth = ["{data.one}"]
backend = "logistic"
set = { steps = 1500 }
out = "{out}/model.json"
[agglomerate]
affinities = "TWO"
backend = "logistic"
set = { model = "{out}/model.json" }
threshold = "{result.fit.threshold}"
out = "{out}/tree.h5"
"""


def test_in_a_recipe(segkit, logistic, volumes, tmp_path):
    """The model is a file that one stage makes and the next reads: it is made once, and a change is seen."""
    text = RECIPE.replace("ONE", str(volumes / "1.h5")).replace("TWO", str(volumes / "2.h5"))
    (tmp_path / "learn.toml").write_text(text)
    call = ["run", tmp_path / "learn.toml", "--out", tmp_path / "out"]
    done = segkit(*call)
    assert done.exit_code == 0, done.stderr
    segmentation = io.read_labels(tmp_path / "out" / "tree.h5", "segmentation")
    assert len(segmentation.ids()) > 1
    times = [(tmp_path / "out" / name).stat().st_mtime_ns for name in ("model.json", "tree.h5")]
    assert segkit(*call).exit_code == 0
    assert times == [(tmp_path / "out" / name).stat().st_mtime_ns for name in ("model.json", "tree.h5")]
    changed = text.replace("steps = 1500", "steps = 500")
    (tmp_path / "learn.toml").write_text(changed)
    assert segkit(*call).exit_code == 0
    assert (tmp_path / "out" / "tree.h5").stat().st_mtime_ns > times[1]


def test_a_recipe_without_its_model(segkit, logistic, volumes, tmp_path):
    text = RECIPE.replace("ONE", str(volumes / "1.h5")).replace("TWO", str(volumes / "2.h5"))
    text = text.replace('set = { model = "{out}/model.json" }', 'set = { model = "{out}/other.json" }')
    (tmp_path / "learn.toml").write_text(text)
    done = segkit("run", tmp_path / "learn.toml", "--out", tmp_path / "out")
    assert done.exit_code == 2 and "other.json" in done.stderr
    assert not (tmp_path / "out" / "model.json").exists()


def test_the_files_of_a_component(logistic):
    spec = ComponentSpec("agglomerators", logistic, {"model": "m.json"})
    assert spec.files() == {"model": Path("m.json")}
    assert ComponentSpec("agglomerators", "python").files() == {}


def test_settings_of_training_are_no_parameters_of_a_component():
    options = {"data": ["a.h5"], "model": "unet3d", "loss": "mse", "out": "run", "set": {"patch": [8, 8, 8]}}
    step = Step.of(RecipeStage("train", "train", options))
    assert [str(path) for path in step.files(step.values())[0]] == ["a.h5"]
