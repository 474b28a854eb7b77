"""What the words of a command line ask for."""

import pytest

from segkit.benchmark.contenders import contenders
from segkit.errors import InvalidParameter


def test_parameters_for_all_and_for_one():
    first, second = contenders(["python", "waterz"], ["score=quantile", "quantile=0.5", "waterz.quantile=0.85"])
    assert first.parameters == {"score": "quantile", "quantile": 0.5}
    assert second.parameters == {"score": "quantile", "quantile": 0.85}


def test_one_component_twice():
    found = contenders(["a=python", "b=other:python"], ["b.score=max"])
    assert [(c.label, c.component) for c in found] == [("a", "python"), ("b", "other:python")]
    assert [c.parameters for c in found] == [{}, {"score": "max"}]


@pytest.mark.parametrize(
    ("names", "assignments", "words"),
    [
        (["python", "python"], [], "python2=python"),
        (["python"], ["pyton.score=mean"], "did you mean 'python'"),
        (["python"], ["score"], "name=value"),
        ([""], [], "must look like NAME or LABEL=NAME"),
        (["=python"], [], "not '=python'"),
    ],
)
def test_refusals(names, assignments, words):
    with pytest.raises(InvalidParameter, match=words):
        contenders(names, assignments)
