"""JSON files that are damaged, and those that something can do without."""

import pytest

from segkit.errors import InvalidInput, StorageError
from segkit.io.json_file import read_json_if_whole, read_json_object


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[" * 100_000 + b"]" * 100_000, b""])
def test_what_is_no_json(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(StorageError, match=r"a\.json is no valid JSON"):
        read_json_object(path)
    assert read_json_if_whole(path) == {}


def test_what_is_no_object(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InvalidInput, match="must be a JSON object, not list"):
        read_json_object(tmp_path / "a.json")
    with pytest.raises(StorageError, match="cannot be read"):
        read_json_object(tmp_path / "b.json")
    assert read_json_if_whole(tmp_path / "a.json") == read_json_if_whole(tmp_path / "b.json") == {}
    (tmp_path / "a.json").write_text('{"a": [1]}')
    assert read_json_object(tmp_path / "a.json") == read_json_if_whole(tmp_path / "a.json") == {"a": [1]}
