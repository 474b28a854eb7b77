"""Components as they travel."""

import json
import pickle

import pytest

from segkit.blockwise.component import ComponentSpec
from segkit.errors import InvalidParameter, UnknownComponent
from segkit.fragment.watershed import Watershed


def test_every_process_makes_its_own():
    spec = pickle.loads(pickle.dumps(ComponentSpec("fragmenters", "watershed", {"threshold": 0.3})))
    first, second = spec.load(), spec.load()
    assert isinstance(first, Watershed) and first is not second and first.threshold == 0.3


def test_what_decides_the_result_is_its_identity():
    given = ComponentSpec("fragmenters", "watershed", {"seed_distance": 10})
    usual = ComponentSpec("fragmenters", "watershed")
    other = ComponentSpec("fragmenters", "watershed", {"seed_distance": 11})
    assert given.identity() == usual.identity() != other.identity()
    assert json.loads(json.dumps(usual.identity())) == usual.identity()
    assert usual.settings()["parameters"]["threshold"] == 0.5


def test_wrong_ones_are_refused():
    with pytest.raises(UnknownComponent, match="did you mean 'watershed'"):
        ComponentSpec("fragmenters", "watershet").load()
    with pytest.raises(InvalidParameter, match="threshold must lie in"):
        ComponentSpec("fragmenters", "watershed", {"threshold": 2.0}).load()
