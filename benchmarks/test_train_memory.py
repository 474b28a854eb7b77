"""The volume that training is measured on, and what is said of it."""

import json

import numpy as np
import pytest
import train_memory

from segkit import io


def test_slabs_are_the_volume(tmp_path, monkeypatch):
    monkeypatch.setattr(train_memory, "SLAB", 7)
    train_memory.make(tmp_path, 40)
    labels, raw = io.read_labels(tmp_path / "volume.zarr"), io.read_volume(tmp_path / "volume.zarr")
    assert np.array_equal(labels.array, train_memory.labels_of(0, 40, 40))
    assert np.array_equal(raw.array >= 160, labels.array > 0) and raw.array.dtype == np.uint8


def test_objects_have_ids_of_their_own_and_background_between_them():
    labels = train_memory.labels_of(90, 100, 200)
    assert len(np.unique(labels)) == 1 + 2 * 3 * 3  # 96 falls into the slab; along y and x three begin
    assert not labels[:, :3].any() and not labels[:, :, 96:99].any()


@pytest.mark.slow
def test_a_small_volume(tmp_path):
    out = tmp_path / "report.json"
    words = ["--size", "96", "--steps", "2", "--cache", "0", "--cache", "0.003", "--out", str(out)]
    train_memory.main(words)
    rows = json.loads(out.read_text())["rows"]
    assert [row.get("in_memory", row) for row in rows] == [True, False]
    assert all(row["peak"] > row["before"] > 0 and row["step_seconds"] > 0 for row in rows)
