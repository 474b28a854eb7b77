import json

import pytest

from segkit.errors import InvalidParameter, UnknownComponent
from segkit.registry.settings import settings


def test_what_is_left_out_stands_at_its_default():
    assert settings("agglomerators", "python", {}) == settings("agglomerators", "python", {"score": "mean"})
    assert settings("agglomerators", "python", {}) != settings("agglomerators", "python", {"score": "max"})
    found = settings("fragmenters", "watershed", {"threshold": 1})
    assert found["parameters"]["threshold"] == 1.0 and found["parameters"]["seed_distance"] == 10
    assert json.loads(json.dumps(found)) == found


def test_one_component_has_one_name():
    assert settings("metrics", "segkit-em:voi", {}) == settings("metrics", "voi", {})


@pytest.mark.parametrize(
    ("error", "name", "values"),
    [(UnknownComponent, "pyhton", {}), (InvalidParameter, "python", {"scor": "mean"})],
)
def test_what_is_refused(error, name, values):
    with pytest.raises(error):
        settings("agglomerators", name, values)
