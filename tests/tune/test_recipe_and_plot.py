"""What a choice is written as."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.blockwise import ComponentSpec
from segkit.run import load_recipe
from segkit.tune import Combination, Goal, ranked, search
from segkit.tune.plot import front, save_pareto
from segkit.tune.recipe import Inputs, recipe_text

PARAMETERS = {"statistic": "min", "threshold": 0.75, "fill": True, "size_threshold": 300}


def loaded(tmp_path, inputs):
    merging = ComponentSpec("agglomerators", "python", {"score": 'a "quoted" \\ name', "max_size": None})
    combination = Combination(ComponentSpec("fragmenters", "watershed", PARAMETERS), merging, (0, (), 0, ()))
    (tmp_path / "r.toml").write_text(recipe_text(combination, 0.345, inputs, "Two\nlines."))
    return {stage.name: stage.options for stage in load_recipe(str(tmp_path / "r.toml"), tmp_path / "out").stages}


def test_a_recipe_says_what_was_chosen(tmp_path):
    stages = loaded(tmp_path, Inputs("a.h5[0:4]", "t.h5", options={"evaluate": {"border": 25.0}}))
    assert list(stages) == ["fragment", "agglomerate", "evaluate"]
    assert stages["fragment"]["affinities"] == "a.h5[0:4]" and stages["fragment"]["set"] == PARAMETERS
    assert stages["agglomerate"]["threshold"] == 0.345
    assert stages["agglomerate"]["set"] == {"score": 'a "quoted" \\ name'}
    assert stages["evaluate"] == {
        "segmentation": f"{tmp_path}/out/segmentation.h5",
        "truth": "t.h5",
        "border": 25.0,
    }


def test_a_recipe_of_raw_data_predicts_first(tmp_path):
    stages = loaded(tmp_path, Inputs("raw.h5", "t.h5", "run", {"infer": {"augment": "flips"}}))
    out = f"{tmp_path}/out/affinities.h5"
    assert stages["infer"] == {"raw": "raw.h5", "run": "run", "out": out, "augment": "flips"}
    assert stages["agglomerate"]["affinities"] == out


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_passes(points):
    merge, split = np.array(points, float).T
    found = front(merge, split).tolist()
    expected = {
        point for point in points if not any(a <= point[0] and b <= point[1] and (a, b) != point for a, b in points)
    }
    assert {points[k] for k in found} == expected and len(found) == len(expected)
    assert sorted(merge[found]) == merge[found].tolist()


def test_a_picture_is_written(scenes, space, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from PIL import Image

    records = search(space.combinations[:4], scenes[:1], tmp_path, Goal())
    names = [(each.fragmenter.name, each.agglomerator.name) for each in space.combinations[:4]]
    save_pareto(tmp_path / "p.png", records, ranked(records, [[]] * 4, Goal()), names)
    assert np.ptp(np.asarray(Image.open(tmp_path / "p.png").convert("L"))) > 200
