"""What `convert` can be told is what type checkers know, and nothing else is taken."""

from dataclasses import fields

import pytest

from segkit.convert import convert
from segkit.convert.files import Options, _Asked


def test_type_checkers_know_every_option():
    assert list(Options.__annotations__) == [each.name for each in fields(_Asked)]


def test_an_unknown_option_is_refused(tmp_path):
    with pytest.raises(TypeError, match="axis"):
        convert(tmp_path / "a.h5", tmp_path / "b.h5", "labels", axis="xyz")
