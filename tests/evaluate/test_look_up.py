"""Nodes looked up in files, whole and by blocks."""

from unittest.mock import patch

import numpy as np
import pytest

from segkit import Grid, Labels, io, load
from segkit.blockwise.work import WHOLE, Work
from segkit.data.skeletons import Skeletons
from segkit.errors import InvalidInput, SegkitWarning
from segkit.evaluate.look_up import look_up_files
from segkit.evaluate.stage import evaluate_files

GRID = Grid((40, 4, 6), (0, 80, 12))
RNG = np.random.default_rng(0)
LABELS = Labels(RNG.integers(0, 9, (6, 20, 30)).astype(np.uint64), GRID)


def scattered(count) -> tuple[Skeletons, np.ndarray]:
    """Nodes anywhere in the volume, in two neurons; and their voxels."""
    voxels = RNG.integers(0, LABELS.shape, (count, 3))
    nodes = (voxels + RNG.random((count, 3))) * GRID.voxel_size + GRID.offset
    edges = [[k, k + 2] for k in range(count - 2)]
    return Skeletons(nodes, edges, np.arange(count) % 2), voxels


@pytest.mark.parametrize("work", [WHOLE, Work((4, 7, 9)), Work((1, 20, 30)), Work((50, 50, 50))])
def test_labels_of_nodes(tmp_path, work):
    io.write(tmp_path / "labels.zarr", LABELS, "segmentation")
    skeletons, voxels = scattered(50)
    inside, found = look_up_files(tmp_path / "labels.zarr", "segmentation", skeletons, work)
    assert inside is skeletons and found.dtype == np.uint64
    assert np.array_equal(found, LABELS.array[tuple(voxels.T)])
    away = Skeletons(
        np.append(skeletons.nodes, [[0, 0, 0]], axis=0), skeletons.edges, np.append(skeletons.ids, np.uint64(3))
    )
    with pytest.warns(SegkitWarning, match="1 of 51 nodes"):
        inside, again = look_up_files(tmp_path / "labels.zarr", "segmentation", away, work)
    assert len(inside.nodes) == 50 and np.array_equal(again, found)


def test_only_boxes_with_nodes_are_read(tmp_path):
    io.write(tmp_path / "labels.zarr", LABELS, "segmentation")
    nodes = np.array([[1, 2, 3], [1, 2, 5], [1, 3, 29]]) * GRID.voxel_size + GRID.offset
    line, boxes = Skeletons(nodes, [[0, 1], [1, 2]], [1, 1, 1]), []
    read = io.RegionSource.read

    def seen(source, box):
        boxes.append(box)
        return read(source, box)

    with patch.object(io.RegionSource, "read", seen):
        look_up_files(tmp_path / "labels.zarr", "segmentation", line, Work((3, 10, 10)))
    assert boxes == [(slice(1, 2), slice(2, 3), slice(3, 6)), (slice(1, 2), slice(3, 4), slice(29, 30))]


def test_scores_of_files_with_skeletons(tmp_path):
    io.write(tmp_path / "labels.zarr", LABELS, "segmentation")
    skeletons, voxels = scattered(60)
    metric = load("metrics", "nerl", tolerances=[0, 5])
    expected = metric.of(skeletons, LABELS.array[tuple(voxels.T)])
    for work in (WHOLE, Work((4, 7, 9))):
        found = evaluate_files(tmp_path / "labels.zarr", [], {"nerl": metric}, skeletons=skeletons, work=work)
        assert found.scores == expected
    with pytest.raises(InvalidInput, match="truths must be at least one"):
        evaluate_files(tmp_path / "labels.zarr", [], {"nerl": metric})
    with pytest.raises(InvalidInput, match="'nerl' must not be scored section by section"):
        evaluate_files(tmp_path / "labels.zarr", [], {"nerl": metric}, skeletons=skeletons, per_section=True)
    with pytest.raises(InvalidInput, match="must have skeletons, by blocks"):
        evaluate_files(tmp_path / "labels.zarr", [], {"nerl": metric}, work=Work((4, 7, 9)))
