"""The keywords of predict are the fields of Settings, and no others."""

from dataclasses import fields

import pytest

from segkit.infer.settings import Options, Settings


def test_type_checkers_know_every_option():
    assert list(Options.__annotations__) == [each.name for each in fields(Settings)]


def test_the_key_of_blocks_begun_by_earlier_versions_stays():
    assert "memory" not in Settings().key() | Settings(tile_shape=(1, 2, 3), memory=5).key()
    assert Settings(memory=5).key()["memory"] == 5


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="tile"):
        Settings(tile=(1, 2, 3))
