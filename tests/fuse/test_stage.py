"""Fragments and tree without affinities on disk, beside those of the stages one after the other."""

import pickle

import numpy as np
import pytest
import torch

from segkit import Grid, Volume, io
from segkit.agglomerate.stage import agglomerate_files
from segkit.blockwise.component import ComponentSpec
from segkit.blockwise.executor import Inline
from segkit.blockwise.work import Work
from segkit.data import Labels
from segkit.errors import InvalidParameter
from segkit.fragment.stage import fragment_files
from segkit.fuse.fused import FusedAffinities, leaving_boxes
from segkit.fuse.stage import fuse_files
from segkit.infer.oracle import oracle_affinities
from segkit.infer.settings import Settings
from segkit.infer.stage import Voxels, Wanted, infer_files, predicted
from segkit.io.reader import RegionSource
from segkit.models import load_model, save_model
from segkit.models.unet3d import UNet3D
from segkit.testing.phantoms import neurites

NEIGHBORHOOD = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 3, 0), (-2, 0, 1)]
FRAGMENTER = ComponentSpec("fragmenters", "watershed", {"seed_distance": 6})
SCORES = (
    {"score": "mean"},
    {"score": "quantile", "quantile": 0.75},
    {"score": "max"},
    {"score": "quantile", "quantile": 0.5, "histogram_init": "max"},
    {"score": "mean", "max_size": 4000},
    {"score": "mean", "long_range": "against"},
)
TREE = ("leaf_ids", "parents", "altitudes")


@pytest.fixture(scope="module")
def truth():
    """Of (24, 50, 56) voxels that lie somewhere."""
    return Labels(neurites((24, 50, 56), count=20, seed=3).truth.array, Grid((10.0, 10.0, 10.0), (0.0, 500.0, 20.0)))


@pytest.fixture
def stored(tmp_path, truth):
    """Affinities in a file, which stand for those of a network."""
    io.write(tmp_path / "a.zarr", oracle_affinities(truth, NEIGHBORHOOD, seed=1))
    return tmp_path / "a.zarr"


def both(affinities, source, folder, spec, fragmenter=FRAGMENTER, **options):
    """Fragments and trees by the stages and fused."""
    work, mask = options.pop("work", Work((12, 20, 30), (4, 6, 6))), options.pop("mask", None)
    fragment_files(affinities, folder / "f.zarr", fragmenter, mask=mask, work=work)
    trees = [agglomerate_files(affinities, folder / "f.zarr", folder / "t.zarr", spec, work=work).tree]
    places = folder / "fused-f.zarr", folder / "fused-t.zarr"
    trees.append(fuse_files(source, *places, fragmenter, spec, mask=mask, work=work).tree)
    return [io.read_labels(folder / name, "fragments").array for name in ("f.zarr", "fused-f.zarr")], trees


def assert_same(fragments, trees):
    assert len(trees[0].altitudes) > 20
    np.testing.assert_array_equal(*fragments)
    for name in TREE:
        np.testing.assert_array_equal(*(getattr(tree, name) for tree in trees))


@pytest.mark.parametrize("parameters", SCORES)
@pytest.mark.parametrize("halo", [(4, 6, 6), (0, 0, 0)])
def test_fragments_and_tree_are_those_of_the_stages(tmp_path, stored, parameters, halo):
    source, spec = RegionSource(stored, "affinities"), ComponentSpec("agglomerators", "python", parameters)
    assert_same(*both(stored, source, tmp_path, spec, work=Work((12, 20, 30), halo)))
    assert sorted(path.name for path in (tmp_path / "fused-f.zarr").iterdir()) == ["volumes", "zarr.json"]


def test_workers_get_it_by_pickle(tmp_path, stored):
    class Elsewhere(Inline):
        def submit(self, job, number):
            super().submit(pickle.loads(pickle.dumps(job)), number)

    source, spec = RegionSource(stored, "affinities"), ComponentSpec("agglomerators", "python", {})
    assert_same(*both(stored, source, tmp_path, spec, work=Work((12, 20, 30), (4, 6, 6), Elsewhere())))


def test_with_a_mask(tmp_path, stored, truth):
    mask = np.ones(truth.shape, bool)
    mask[:, 15:, 20:] = False  # some blocks see nothing of it
    io.write(tmp_path / "m.h5", Volume(mask, truth.grid))
    spec = ComponentSpec("agglomerators", "python", {})
    source = RegionSource(stored, "affinities")
    fragments, trees = both(stored, source, tmp_path, spec, mask=tmp_path / "m.h5")
    assert_same(fragments, trees)
    assert not fragments[0][~mask].any()


def test_what_is_lost_is_made_again(tmp_path, stored, monkeypatch):
    """Pieces that are gone, or of another agglomerator."""
    source, spec = RegionSource(stored, "affinities"), ComponentSpec("agglomerators", "python", {})
    keep, calls = FusedAffinities.keep, []

    def forgetful(self, number, *given):
        calls.append(number)
        if len(calls) not in (2, 5):
            keep(self, number, *given)

    monkeypatch.setattr(FusedAffinities, "keep", forgetful)
    assert_same(*both(stored, source, tmp_path, spec))
    assert len(calls) == 12 + 2


def test_a_run_that_was_stopped_goes_on(tmp_path, stored):
    source, spec, left = RegionSource(stored, "affinities"), ComponentSpec("agglomerators", "python", {}), [14]

    class Stopped(Inline):
        def next(self, timeout):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return super().next(timeout)

    places = tmp_path / "fused-f.zarr", tmp_path / "fused-t.zarr"
    with pytest.raises(KeyboardInterrupt):
        fuse_files(source, *places, FRAGMENTER, spec, work=Work((12, 20, 30), (4, 6, 6), Stopped()))
    assert_same(*both(stored, source, tmp_path, spec))


def test_of_a_network(tmp_path):
    torch.manual_seed(0)
    parameters = {"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}
    net = tmp_path / "net.safetensors"
    module = UNet3D(channels=3, **parameters)
    save_model(net, module, name="unet3d", parameters=parameters, neighborhood=NEIGHBORHOOD[:3])
    io.write(tmp_path / "raw.h5", Volume(np.random.default_rng(0).integers(0, 256, (8, 40, 44), np.uint8), Grid()))
    tile = module.output_shape(module.input_shape((4, 8, 8)))
    settings, wanted = Settings(tile_shape=tile), Wanted(dtype="uint8")
    work, trained = Work((4, 2 * tile[1], tile[2]), (4, tile[1], tile[2])), load_model(net)
    infer_files(tmp_path / "raw.h5", trained, tmp_path / "a.zarr", settings, wanted=wanted, work=work)
    source = predicted(tmp_path / "raw.h5", trained, settings, Voxels(), wanted, work)
    middle = float(np.median(io.read_affinities(tmp_path / "a.zarr").array[:, 1:, 1:, 1:]))
    spec = ComponentSpec("agglomerators", "python", {})
    fragmenter = ComponentSpec("fragmenters", "watershed", {"threshold": middle, "seed_distance": 3})
    assert_same(*both(tmp_path / "a.zarr", source, tmp_path, spec, fragmenter, work=work))


@pytest.mark.parametrize("offset", NEIGHBORHOOD)
def test_edges_lead_out_of_a_block_or_stay(offset):
    """Each voxel whose edge does is in one box."""
    shape, inner = (9, 8, 7), (slice(4, 8), slice(0, 8), slice(5, 7))
    count = np.zeros((4, 8, 2), int)
    for box in leaving_boxes(inner, shape, np.array(offset)):
        count[box] += 1
    ends = np.stack(np.mgrid[4:8, 0:8, 5:7]) + np.array(offset)[:, None, None, None]
    low, high, sizes = (np.array(each)[:, None, None, None] for each in ((4, 0, 5), (8, 8, 7), shape))
    outside = ((ends < low) | (ends >= high)).any(axis=0) & ((ends >= 0) & (ends < sizes)).all(axis=0)
    np.testing.assert_array_equal(count, outside)


def test_a_whole_volume_is_refused(tmp_path, stored):
    source, spec = RegionSource(stored, "affinities"), ComponentSpec("agglomerators", "python", {})
    with pytest.raises(InvalidParameter, match="work must be by blocks"):
        fuse_files(source, tmp_path / "f.zarr", tmp_path / "t.zarr", FRAGMENTER, spec, work=Work())
