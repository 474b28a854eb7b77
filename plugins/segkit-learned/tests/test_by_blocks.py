"""Graphs of blocks give the tree of the whole volume, with affinities on disk and without."""

import numpy as np
import pytest
from segkit import io
from segkit.agglomerate.stage import agglomerate_files
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.work import Work
from segkit.data import Affinities, Grid, Labels
from segkit.errors import InvalidInput
from segkit.infer.oracle import oracle_affinities
from segkit.testing import neurites

from segkit_learned.agglomerator import Learned

LONG = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 1))


@pytest.fixture
def stored(tmp_path):
    """A volume that lies somewhere, and a model of the example's trees for its voxels and offsets."""
    truth = neurites((16, 40, 44), count=25, seed=3).truth
    truth = Labels(truth.array, Grid((10.0, 10.0, 10.0), (0.0, 505.0, 20.0)))
    affinities = oracle_affinities(truth, LONG, noise=0.3, seed=1)
    rng = np.random.default_rng(0)
    seeds = rng.permutation(truth.array.size)[:60]
    io.write(tmp_path / "a.zarr", affinities)
    coarse = (np.indices(truth.shape) // 7).sum(axis=0) + 40 * truth.array.astype(int) + 0 * len(seeds)
    io.write(tmp_path / "f.zarr", Labels(coarse.astype(np.uint64), truth.grid), "fragments")
    model = Learned(**Learned.segkit_example).learned
    changed = type(model)(model.forest, model.calibration, (10.0, 10.0, 10.0), sorted_offsets(), model.figures)
    (tmp_path / "model.json").write_text(changed.text())
    return tmp_path


def sorted_offsets():
    return tuple(sorted(min(o, tuple(-s for s in o)) for o in LONG))


def test_by_blocks(stored):
    spec = ComponentSpec("agglomerators", "learned", {"model": str(stored / "model.json")})
    places = stored / "a.zarr", stored / "f.zarr"
    trees = [
        agglomerate_files(*places, stored / f"{name}.zarr", spec, work=work).tree
        for name, work in (("whole", Work()), ("blocks", Work((8, 16, 20), (0, 0, 0))))
    ]
    assert len(trees[0].altitudes) > 50
    for name in ("leaf_ids", "parents", "altitudes"):
        np.testing.assert_array_equal(getattr(trees[0], name), getattr(trees[1], name))


def test_missing_channels_are_refused(stored):
    """The graph of a block may be made of some of them: what is there in all is looked at first."""
    spec = ComponentSpec("agglomerators", "learned", {"model": str(stored / "model.json")})
    given = io.read_affinities(stored / "a.zarr")
    io.write(stored / "b.zarr", Affinities(given.array[:3], given.neighborhood[:3], given.grid))
    for work in (Work(), Work((8, 16, 20), (0, 0, 0))):
        with pytest.raises(InvalidInput, match="offsets of the affinities"):
            agglomerate_files(stored / "b.zarr", stored / "f.zarr", stored / "t.zarr", spec, work=work)


def test_another_model_of_the_same_name_makes_the_tree_again(stored):
    spec = ComponentSpec("agglomerators", "learned", {"model": str(stored / "model.json")})
    before = spec.identity()
    assert spec.identity() == before
    text = (stored / "model.json").read_text()
    (stored / "model.json").write_text(text + "\n")
    assert spec.identity() != before
