"""One plugin of each kind, installed in a fresh environment: it passes its own tests, and every verb takes it.

The page for authors makes the agglomerator and the loss, and tests them.
"""

import json

import pytest

from segkit import io
from segkit.scaffold import KINDS

OTHERS = [kind for kind in KINDS if kind not in ("agglomerator", "loss")]
pytestmark = pytest.mark.slow  # the page for authors, which test_plugin_docs.py runs, makes and tests the two others


@pytest.fixture(scope="module")
def plugins(lab, page):
    """The lab, with a plugin of each kind, sample.h5 and fragments.h5."""
    for kind in OTHERS:
        lab(f"segkit plugins new my-{kind} --kind {kind} --author 'Ada \"the Lab\" Müller'")
    lab("pip install " + " ".join(f"'./my-{kind}[test]'" for kind in OTHERS))
    return lab


@pytest.mark.parametrize("kind", OTHERS)
def test_they_pass_their_own_tests(plugins, kind):
    summary = plugins(f"python -m pytest -q -p no:cacheprovider my-{kind}").splitlines()[-1]
    assert "passed" in summary and "failed" not in summary


def test_ruff_finds_nothing(plugins):
    plugins("ruff check my-* && ruff format --check my-*")


def test_they_are_in_the_list(plugins):
    rows = json.loads(plugins("segkit plugins list --json"))
    ours = {row["name"]: row for row in rows if row["distribution"].startswith("my-")}
    assert {name: row["kind"] for name, row in ours.items()} == {f"my-{kind}": KINDS[kind] for kind in KINDS}
    assert all(row["version"] == "0.1.0" and not row["problem"] for row in ours.values())


def test_what_is_shown_of_one(plugins):
    shown = json.loads(plugins("segkit plugins show agglomerators my-agglomerator --json"))
    (prior,) = shown["parameters"]
    assert prior["description"] == "Edges of affinity 0 that are added to each contact."
    assert shown["summary"] == "Agglomeration by mean affinity for segkit" and not shown["problem"]


def test_check_finds_no_broken_promise(plugins):
    rows = json.loads(plugins("segkit plugins check my-metric --json"))
    assert len(rows) > 20 and {row["result"] for row in rows} <= {"holds", "skipped"}


def test_a_taken_name_is_refused(plugins):
    done = plugins.run("segkit plugins new my-loss --kind metric --out another")
    assert done.returncode == 2 and "the distribution my-loss 0.1.0, which is installed here" in done.stderr
    done = plugins.run("segkit plugins new MY-loss --kind loss --out another")
    assert done.returncode == 2 and "a loss that my-loss 0.1.0 offers" in done.stderr


def test_train_and_infer_take_them(plugins):
    words = "--set patch=[4,8,8] --set model.features=2 --set loss.my-loss.balance=0.7 --steps 2 --out other"
    plugins(f"segkit train sample.h5 --model my-model --loss bce+0.5*my-loss {words}")
    plugins("segkit infer 'sample.h5[0:8]' --run other --out predicted.h5")
    assert io.read_affinities(plugins.folder / "predicted.h5").array.shape == (3, 8, 64, 64)


def test_the_stages_take_them(plugins):
    plugins("segkit fragment sample.h5 --method my-fragmenter --set threshold=0.9 --out components.h5")
    assert len(io.read_labels(plugins.folder / "components.h5", role="fragments").ids()) > 12
    words = "--fragments fragments.h5 --backend my-agglomerator --set prior=1 --threshold 0.5 --out tree.h5"
    plugins(f"segkit agglomerate sample.h5 {words}")
    scores = json.loads(plugins("segkit evaluate tree.h5 sample.h5 --metric my-metric --metric rand --json"))
    assert 0 < scores["boundary_dice"] < 1 and "rand_index" in scores
