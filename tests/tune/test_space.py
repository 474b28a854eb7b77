"""What is tried, and what lies beside what."""

import numpy as np
import pytest

from segkit.data import NEAREST, Grid
from segkit.errors import InvalidInput, InvalidParameter, UnknownComponent
from segkit.tune import Choices, Space, default_space, read_space
from segkit.tune.space import named_choices

FILE = """
[[fragmenter]]
name = "watershed"
threshold = [0.9, 0.5]
statistic = "min"

[[fragmenter]]
name = "threshold"

[[agglomerator]]
name = "python"
score = ["mean", "max"]
"""


def test_combinations_are_every_one_with_every_other(tmp_path):
    (tmp_path / "space.toml").write_text(FILE)
    space = read_space(tmp_path / "space.toml")
    space.check()
    parameters = [(dict(each.fragmenter.parameters), each.agglomerator.parameters) for each in space.combinations]
    one, other = {"threshold": 0.5, "statistic": "min"}, {"threshold": 0.9, "statistic": "min"}
    expected = [(cutting, {"score": score}) for cutting in (one, other, {}) for score in ("mean", "max")]
    assert parameters == expected
    assert [each.fragmenter.name for each in space.combinations] == ["watershed"] * 4 + ["threshold"] * 2


def test_neighbours_differ_by_one_step_of_a_number():
    watershed = Choices("fragmenters", "watershed", {"threshold": [0.9, 0.5, 0.7], "fill": [False, True]})
    python = Choices("agglomerators", "python", {"score": ["quantile"], "quantile": [0.5, 0.8]})
    space = Space((watershed,), (python,))

    def numbers(each):
        return tuple((each.fragmenter.parameters | each.agglomerator.parameters).values())

    seen = {
        numbers(each): {numbers(space.combinations[k]) for k in near}
        for each, near in zip(space.combinations, space.neighbours, strict=True)
    }
    assert seen[0.7, True, "quantile", 0.5] == {
        (0.5, True, "quantile", 0.5),
        (0.9, True, "quantile", 0.5),
        (0.7, True, "quantile", 0.8),
    }
    assert seen[0.5, False, "quantile", 0.8] == {(0.7, False, "quantile", 0.8), (0.5, False, "quantile", 0.5)}


def test_a_value_and_a_name_are_tried_once():
    choice = Choices("agglomerators", "python", {"score": ["mean", "max", "mean"], "quantile": [0.5, 0.50]})
    assert dict(choice.values) == {"score": ("mean", "max"), "quantile": (0.5,)}
    assert named_choices("fragmenters", ["threshold", "threshold"], {}, ()) == (Choices("fragmenters", "threshold"),)


def test_the_default_space_has_60_combinations_and_goes_by_the_voxels():
    cubes, flat = (default_space(Grid(size), NEAREST) for size in ((8, 8, 8), (40, 4, 4)))
    for space in (cubes, flat):
        space.check()
        assert len(space.combinations) == 60
    assert all(choice.values.get("per_section") == (True,) for choice in flat.fragmenters)
    assert not any("per_section" in choice.values for choice in cubes.fragmenters)
    in_plane = default_space(Grid((8, 8, 8)), np.array([[0, -1, 0], [0, 0, -1]]))
    assert in_plane.fragmenters == flat.fragmenters


def test_named_components_take_the_values_that_they_know():
    usual = default_space(Grid(), NEAREST).fragmenters
    values = {"threshold": [0.5, 0.6], "level": [10.0]}
    found = named_choices("fragmenters", ["watershed", "higra-watershed"], values, usual)
    assert [dict(choice.values) for choice in found] == [{"threshold": (0.5, 0.6)}, {"level": (10.0,)}]
    assert named_choices("fragmenters", ["watershed"], {}, usual) == usual[:1]
    assert named_choices("fragmenters", [], {}, usual) == usual
    assert named_choices("fragmenters", ["threshold"], {}, usual) == (Choices("fragmenters", "threshold"),)
    (one, other) = named_choices("fragmenters", [], {"threshold": [0.5]}, usual)
    assert (one.name, dict(one.values)) == ("watershed", {"threshold": (0.5,)}) and other == usual[1]


def test_the_registry_refuses_what_it_does_not_know():
    python = (Choices("agglomerators", "python"),)
    with pytest.raises(UnknownComponent, match="watershed"):
        Space((Choices("fragmenters", "watreshed"),), python).check()
    with pytest.raises(InvalidParameter, match="did you mean 'threshold'"):
        Space((Choices("fragmenters", "watershed", {"treshold": [0.5]}),), python).check()
    with pytest.raises(InvalidParameter, match="must lie in"):
        Space((Choices("fragmenters", "watershed", {"threshold": [0.5, 1.5]}),), python).check()
    choices = named_choices("fragmenters", ["watershed"], {"treshold": [0.5]}, ())
    with pytest.raises(InvalidParameter, match="has no parameter 'treshold'"):
        Space(choices, python).check()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "is not valid TOML"),
        ("[[metric]]\nname = 'voi'", "must be"),
        ("[[fragmenter]]\nname = 'watershed'", r"must have tables \[\[agglomerator\]\]"),
        (FILE + "[[agglomerator]]\nscore = 'mean'", "each with a name"),
        (FILE.replace("[0.9, 0.5]", "[]"), "must have a value"),
    ],
)
def test_what_is_no_space_is_refused(tmp_path, text, said):
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_space(tmp_path / "space.toml")


def test_a_space_has_a_combination_and_not_too_many():
    for choices in ((), (Choices("fragmenters", "watershed", {"seed_distance": list(range(1, 400))}),) * 300):
        with pytest.raises(InvalidParameter, match="the space"):
            _ = Space(choices, (Choices("agglomerators", "python"),)).combinations
