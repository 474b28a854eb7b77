import numpy as np
import pytest

from segkit.data import NEAREST, Affinities, Grid
from segkit.fragment._shared import stacked, voxel_affinity


def by_hand(affinities, mask, per_section, statistic):
    """Edge by edge, with lists."""
    shape = affinities.shape
    values = {voxel: [] for voxel in np.ndindex(shape)}
    for c, offset in enumerate(affinities.neighborhood):
        if per_section and offset[0]:
            continue
        for voxel in np.ndindex(shape):
            other = tuple(int(i) for i in np.add(voxel, offset))
            if min(other) < 0 or any(o >= s for o, s in zip(other, shape, strict=True)):
                continue
            if mask is None or (mask[voxel] and mask[other]):
                values[voxel].append(affinities.array[(c, *voxel)])
                values[other].append(affinities.array[(c, *voxel)])
    reduce = np.mean if statistic == "mean" else np.min
    return np.array([reduce(v) if v else 1 for v in values.values()]).reshape(shape)


@pytest.mark.parametrize("statistic", ["mean", "min"])
@pytest.mark.parametrize("per_section", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("neighborhood", [NEAREST, ((1, 0, 0), (0, -1, 0), (0, 0, 1))])
def test_voxel_affinity_equals_a_loop_over_edges(statistic, per_section, masked, neighborhood, random_affinities):
    affinities = random_affinities((3, 4, 5), neighborhood=neighborhood)
    mask = np.random.default_rng(1).random((3, 4, 5)) < 0.6 if masked else None
    expected = by_hand(affinities, mask, per_section, statistic)
    assert np.allclose(voxel_affinity(affinities, mask, per_section, statistic), expected, rtol=1e-6)


def test_flipping_the_volume_flips_the_mean(random_affinities):
    affinities = random_affinities((3, 4, 5))
    flipped = Affinities(affinities.array[:, ::-1, ::-1, ::-1], -affinities.neighborhood, affinities.grid)
    expected = voxel_affinity(affinities, None, False)[::-1, ::-1, ::-1]
    assert np.allclose(voxel_affinity(flipped, None, False), expected)


def test_a_voxel_without_edges_has_one():
    affinities = Affinities(np.zeros((3, 1, 1, 1), np.float32), NEAREST, Grid())
    assert voxel_affinity(affinities, None, False).tolist() == [[[1]]]


def test_stacked_moves_ids_above_those_before():
    parts = [(np.array([[[1, 0, 2]]]), 2), (np.array([[[0, 1, 1]]], np.uint8), 1), (np.array([[[1, 2, 0]]]), 2)]
    assert stacked(iter(parts), (3, 1, 3), True).tolist() == [[[1, 0, 2]], [[0, 3, 3]], [[4, 5, 0]]]
