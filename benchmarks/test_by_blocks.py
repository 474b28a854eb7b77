"""The volumes that are made for measuring by blocks, and the tables of what was measured."""

import by_blocks
import numpy as np
import pytest

from segkit import io
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites

ROW = {"blocks": 8, "seconds": 2.0, "work_seconds": 4.0, "megavoxels_per_second": 1.5, "peak_bytes": 10**9}
SIZES = {"edges": 70, "total_edges": 500}


def test_copies_are_moved_and_have_ids_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(by_blocks, "SHIFT", 5)
    phantom = neurites((8, 12, 12), count=4, seed=1)
    source = tmp_path / "in.h5"
    io.write_all(source, {"truth": phantom.truth, "affinities": oracle_affinities(phantom.truth, seed=0)})
    store = by_blocks.copies(source, tmp_path, 2, 9)
    truth, affinities = io.read_labels(store), io.read_affinities(store)
    moved = np.roll(np.tile(phantom.truth.array, (2, 2, 2)), (-5,) * 3, (0, 1, 2))
    np.testing.assert_array_equal(truth.array % 2**32, moved)
    assert len(truth.ids()) > 8 * (len(phantom.truth.ids()) - 1)
    np.testing.assert_array_equal(affinities.array[:, 4, 8, 9], io.read_affinities(source).array[:, 1, 1, 2])


@pytest.fixture
def results():
    stages = [ROW | {"stage": name} for name in ("fragments", "region graph", "reduce 0")]
    graph = {"region graph": SIZES, "reduce 0": SIZES}
    large = {"stages": stages, "fragments": 1000, "graph": graph, "bytes": {"affinities": 10**9}}
    alone = {"seconds": 5.0, "peak_bytes": 10**9, "stages": stages}
    seam = {"fragmenter": "watershed", "block": 64, "halo": 8, "voi_change": 0.0125}
    parts = {
        "large": large,
        "memory": large,
        "workers": {"1": stages, "2": [row | {"seconds": 1.0} for row in stages]},
        "overhead": {"whole": alone, "blocks": alone | {"seconds": 6.0}},
        "seams": [seam | {"across_faces": 1200, "across_faces_of_the_whole": 1100}],
        "graph": {f"{name}, {how}": large for name in ("mean", "quantile") for how in ("whole", "reduced")},
    }
    return {"parts": parts, "machine": {"cores": 2}, "block": 256, "shapes": {"large": [1024] * 3}}


def test_the_tables(results):
    text = by_blocks.table(results)
    assert "1024x1024x1024 voxels, two processes, blocks of 256" in text
    assert "| region graph | 8 | 2.0 | 1.50 | 1000 |" in text
    assert "4.0 s by one process, 2.0 s by two (2.00x)" in text
    assert "(+20 %)" in text and "+0.0125 bits; 1,200 fragments" in text
    assert "70 edges and 1000 MB, 70 edges and 1000 MB" in text


def test_the_plan(results):
    kept = {"inside": 2 * 10**6, "leaving": 10**6, "seats": 10**6}
    results["parts"]["fused"] = {"voxels": 10**9, "blocks_along": 2, "uint8": 10**8, "kept": kept}
    text = by_blocks.plan(results)
    assert "take 100 TB" in text and "2 TB of graphs of blocks and 3 TB of affinities at their faces" in text
    assert "(60 million blocks a stage)" in text
    assert "9.3e+08 fragments" in text and "affinities 931 TB" in text
    assert "| fragments | 0.50 | " in text
