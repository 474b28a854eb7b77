import numpy as np
import pytest
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segkit.data import NEAREST, Affinities, Grid, Labels, Volume, edge_mask
from segkit.fragment.higra_watershed import HigraWatershed


def line(values):
    """Affinities along x; the first edge would leave the volume."""
    return Affinities(np.array([[[[0, *values]]]], np.float32), [[0, 0, -1]], Grid())


def fragments(affinities, mask=None, **values):
    return HigraWatershed(**values).fragment(affinities, mask).array


def crisp(shape, seed):
    """Affinities that all differ."""
    rng = np.random.default_rng(seed)
    size = 3 * int(np.prod(shape))
    array = ((rng.permutation(size) + 1) / (size + 2)).astype(np.float32).reshape(3, *shape)
    return Affinities(np.where(edge_mask(shape, NEAREST), array, np.float32(0)), NEAREST, Grid())


@pytest.mark.parametrize("seed", range(3))
def test_without_ties_basins_are_components_of_steepest_edges(seed):
    affinities = crisp((4, 7, 8), seed)
    size = int(np.prod(affinities.shape))
    steepest = {}
    for c, voxel in np.argwhere(affinities.array.reshape(3, -1)):
        other = voxel - (56, 8, 1)[c]
        for a, b in ((voxel, other), (other, voxel)):
            steepest[a] = max(steepest.get(a, (0, 0)), (affinities.array[c].flat[voxel], b))
    rows, columns = list(steepest), [b for _, b in steepest.values()]
    count, expected = connected_components(coo_array((np.ones(size), (rows, columns)), shape=(size, size)))
    found = fragments(affinities, hierarchy="none").ravel()
    assert found.max() == count
    assert len(set(zip(found.tolist(), expected.tolist(), strict=True))) == count


@pytest.mark.parametrize("level", [3, 20, 100])
def test_all_fragments_exceed_the_area(level, random_affinities):
    found = fragments(random_affinities((6, 12, 13)), hierarchy="area", level=level)
    assert found.max() > 1
    assert np.bincount(found.ravel().astype(int))[1:].min() > level


def test_area_worked_by_hand():
    """Basins of 3, 2 and 4 voxels; the saddle of 0.3 is lower than that of 0.2, so the small one goes left."""
    affinities = line([0.9, 0.8, 0.3, 0.9, 0.2, 0.8, 0.9, 0.8])
    assert fragments(affinities, level=1).ravel().tolist() == [1, 1, 1, 2, 2, 3, 3, 3, 3]
    assert fragments(affinities, level=2).ravel().tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert fragments(affinities, level=4).ravel().tolist() == [1] * 9


def test_dynamics_worked_by_hand():
    """Bottoms at affinities 0.95, 0.7, 0.9; saddles 0.5 and 0.2: the second basin is 0.2 deep, the third 0.7."""
    affinities = line([0.95, 0.5, 0.7, 0.2, 0.9])
    assert fragments(affinities, hierarchy="dynamics", level=0.19).ravel().tolist() == [1, 1, 2, 2, 3, 3]
    assert fragments(affinities, hierarchy="dynamics", level=0.21).ravel().tolist() == [1, 1, 1, 1, 2, 2]
    assert fragments(affinities, hierarchy="dynamics", level=0.69).ravel().tolist() == [1, 1, 1, 1, 2, 2]
    assert fragments(affinities, hierarchy="dynamics", level=0.71).ravel().tolist() == [1] * 6


def test_volume_worked_by_hand():
    """Two basins of two voxels, 0.4 and 0.3 below the saddle: the lesser one holds 2 times 0.3."""
    affinities = line([0.9, 0.5, 0.8])
    assert fragments(affinities, hierarchy="volume", level=0.59).ravel().tolist() == [1, 1, 2, 2]
    assert fragments(affinities, hierarchy="volume", level=0.61).ravel().tolist() == [1] * 4


@pytest.mark.parametrize("hierarchy", ["area", "dynamics", "volume"])
def test_a_higher_level_only_merges(hierarchy, random_affinities):
    affinities = random_affinities((5, 12, 12))
    fine = fragments(affinities, hierarchy=hierarchy, level=0.05)
    coarse = fragments(affinities, hierarchy=hierarchy, level=8 if hierarchy == "area" else 0.3)
    assert 1 < coarse.max() < fine.max()
    pairs = set(zip(fine.ravel().tolist(), coarse.ravel().tolist(), strict=True))
    assert len(pairs) == fine.max()


@pytest.mark.parametrize("hierarchy", ["none", "area", "dynamics", "volume"])
def test_parts_of_the_mask_stay_apart(hierarchy):
    affinities = Affinities.from_labels(Labels(np.ones((3, 6, 6), np.uint64), Grid()))
    mask = np.random.default_rng(4).random((3, 6, 6)) < 0.35
    parts, count = label(mask)
    assert count > 3
    found = fragments(affinities, Volume(mask, Grid()), hierarchy=hierarchy)
    assert np.array_equal(found, parts)


def test_defaults_of_the_level():
    assert [HigraWatershed(hierarchy=h).level for h in ("none", "area", "dynamics", "volume")] == [None, 100, 0.1, 10]
