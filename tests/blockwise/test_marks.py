import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.blockwise.marks import Mark, mark_path, read_mark, write_mark
from segkit.errors import StorageError

MARK = Mark("key", "digest", {"largest": 2**64 - 1, "name": "é", "sizes": [1, 2.5, None]}, 1.25, 2**33)


def test_a_mark_comes_back_as_it_was(tmp_path):
    for number in (0, 999, 1000, 12_345_678):
        write_mark(tmp_path, number, MARK)
        assert read_mark(tmp_path, number) == MARK
    assert read_mark(tmp_path, 1) is None


def test_a_new_mark_replaces_an_old_one(tmp_path):
    other = Mark("other", "digest", {}, 0.5, None)
    write_mark(tmp_path, 3, MARK)
    write_mark(tmp_path, 3, other)
    assert read_mark(tmp_path, 3) == other
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["3.json"]


def test_few_marks_lie_in_one_folder(tmp_path):
    folders = {mark_path(tmp_path, number).parent for number in range(0, 100_000, 10)}
    assert len(folders) == 100


@given(st.data())
def test_a_damaged_mark_is_none(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("marks")
    write_mark(folder, 0, MARK)
    path = mark_path(folder, 0)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    # What changes nothing but the writing of the same values (a blank, say) may pass.
    assert read_mark(folder, 0) in (None, MARK)


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"mark": {}, "checksum": ""}', '{"mark": 1}'])
def test_what_is_no_mark_is_none(tmp_path, content):
    path = mark_path(tmp_path, 0)
    path.parent.mkdir()
    path.write_text(content)
    assert read_mark(tmp_path, 0) is None


def test_a_failure_leaves_the_old_mark_and_no_other_file(tmp_path, monkeypatch):
    write_mark(tmp_path, 0, MARK)

    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        write_mark(tmp_path, 0, Mark("other", "digest", {}, 0.5, None))
    assert read_mark(tmp_path, 0) == MARK
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["0.json"]
