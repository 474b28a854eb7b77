"""--blockwise in all verbs: the same files and scores as without, and what does not go together."""

import json

import numpy as np
import pytest
import torch

from segkit import Grid, Volume, io
from segkit.infer.oracle import oracle_affinities
from segkit.models import save_model
from segkit.models.unet3d import UNet3D
from segkit.testing.phantoms import neurites

GRID = Grid((40, 4, 4), (80, 0, 12))
BLOCKS = ("--blockwise", "--block", 8, 16, 24)


@pytest.fixture
def folder(tmp_path):
    """Affinities, fragments of the whole volume, and the truth."""
    phantom = neurites((12, 40, 40), count=8, seed=3)
    affinities = oracle_affinities(phantom.truth, noise=0.1, seed=0)
    io.write_all(tmp_path / "data.h5", {"raw": phantom.raw, "truth": phantom.truth, "affinities": affinities})
    return tmp_path


def done(result):
    assert result.exit_code == 0, result.stderr
    return result


def labels(address, role):
    return io.read_labels(address, role=role).array


def test_from_affinities_to_scores(segkit, folder):
    data, fragments = folder / "data.h5", folder / "fragments.zarr"
    result = done(segkit("fragment", data, "--out", fragments, *BLOCKS, "--halo", 4, 8, 8, "--set", "seed_distance=5"))
    assert f"\n{labels(fragments, 'fragments').max()} fragments -> " in result.stderr
    for out, blocks in (("whole.zarr", ()), ("blocks.zarr", BLOCKS)):
        words = ("--fragments", fragments, "--threshold", 0.4, "--out", folder / out)
        done(segkit("agglomerate", data, *words, *blocks))
    whole, blocks = (io.read_merge_tree(folder / out) for out in ("whole.zarr", "blocks.zarr"))
    for name in ("leaf_ids", "parents", "altitudes"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))
    expected = labels(folder / "whole.zarr", "segmentation")
    np.testing.assert_array_equal(labels(folder / "blocks.zarr", "segmentation"), expected)
    assert not io.exists(folder / "blocks.zarr", "fragments")
    cut = folder / "cut.zarr"
    done(segkit("segment", folder / "blocks.zarr", "--threshold", 0.4, "--out", cut, *BLOCKS))
    np.testing.assert_array_equal(labels(cut, "segmentation"), expected)
    done(segkit("segment", folder / "blocks.zarr", "--threshold", 0.4, "--out", folder / "cut.h5"))
    np.testing.assert_array_equal(labels(folder / "cut.h5", "segmentation"), expected)
    for words in ((cut, data, "--metric", "voi", "--metric", "rand"), (folder / "blocks.zarr", data, "--sweep")):
        whole, blocks = (done(segkit("evaluate", *words, "--json", *more)).stdout for more in ((), BLOCKS))
        assert json.loads(blocks) == json.loads(whole)


def test_the_summary_and_a_second_call(segkit, folder):
    words = ("fragment", folder / "data.h5", "--out", folder / "f.zarr", *BLOCKS, "--halo", 0, 4, 4)
    assert "fragments: 12 blocks in " in done(segkit(*words)).stderr
    before = labels(folder / "f.zarr", "fragments")
    again = done(segkit(*words)).stderr
    assert "write: 12 blocks (12 done before) in " in again
    np.testing.assert_array_equal(labels(folder / "f.zarr", "fragments"), before)


def test_fragments_beside_a_tree_that_was_moved(segkit, folder, monkeypatch):
    here, there = folder / "here", folder / "there"
    here.mkdir()
    monkeypatch.chdir(here)
    done(segkit("fragment", folder / "data.h5", "--out", "f.zarr", *BLOCKS))
    done(segkit("agglomerate", folder / "data.h5", "--fragments", "f.zarr", "--out", "t.zarr", *BLOCKS))
    here.rename(there)
    done(segkit("segment", there / "t.zarr", "--threshold", 0.5, "--out", folder / "s.h5"))
    assert labels(folder / "s.h5", "segmentation").any()


def test_a_tree_is_cut_with_its_own_fragments(segkit, folder, monkeypatch):
    """Not with others of the same name, nor with those that an earlier tree left in its file."""
    data = folder / "data.h5"
    for place, distance in (("mine", 5), ("other", 15)):
        (folder / place).mkdir()
        monkeypatch.chdir(folder / place)
        words = ("--out", "f.zarr", *BLOCKS, "--set", f"seed_distance={distance}")
        done(segkit("fragment", data, *words))
    tree = folder / "mine" / "t.zarr"
    done(segkit("agglomerate", data, "--fragments", "f.zarr", "--out", tree))  # of the other ones, which it copies
    monkeypatch.chdir(folder / "mine")
    done(segkit("agglomerate", data, "--fragments", "f.zarr", "--out", tree, *BLOCKS))
    monkeypatch.chdir(folder / "other")
    done(segkit("segment", tree, "--threshold", 0, "--out", folder / "s.h5"))
    expected, found = labels(folder / "mine" / "f.zarr", "fragments"), labels(folder / "s.h5", "segmentation")
    assert expected.max() != labels("f.zarr", "fragments").max()
    np.testing.assert_array_equal(found, expected)


def test_a_network(segkit, tmp_path):
    torch.manual_seed(0)
    small = {"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}
    neighborhood = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
    save_model(
        tmp_path / "net.safetensors", UNet3D(**small), name="unet3d", parameters=small, neighborhood=neighborhood
    )
    io.write(tmp_path / "raw.h5", Volume(np.random.default_rng(0).integers(0, 256, (20, 30, 36), np.uint8), GRID))
    exact = ("--device", "cpu", "--precision", "32")
    words = ("infer", tmp_path / "raw.h5", "--run", tmp_path / "net.safetensors", *exact)
    done(segkit(*words, "--out", tmp_path / "whole.h5"))
    result = done(segkit(*words, "--out", tmp_path / "blocks.zarr", *BLOCKS))
    assert "affinities (3, 20, 30, 36)" in result.stderr
    whole, blocks = io.read_affinities(tmp_path / "whole.h5"), io.read_affinities(tmp_path / "blocks.zarr")
    np.testing.assert_allclose(blocks.array, whole.array, atol=1e-5)
    assert blocks.grid == GRID
    for more in (("--voxel-size", "8,8,8"), ("--keep-grid",)):
        result = segkit(*words, "--out", tmp_path / "other.zarr", *BLOCKS, *more)
        assert result.exit_code == 2 and f"{more[0]} cannot be had with --blockwise" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--block", 8, 8, 8), "--block needs --blockwise"),
        (("--cluster", "local:2"), "--cluster needs --blockwise"),
        (("--halo", 1, 1, 1), "--halo needs --blockwise"),
        (("--blockwise", "--cluster", "slurm"), "cluster must be local:N"),
        (("--blockwise", "--out", "f.h5"), "must end in .zarr"),
        (("--blockwise", "--method", "watershd"), "did you mean 'watershed'?"),
    ],
)
def test_what_does_not_go(segkit, folder, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    result = segkit("fragment", "data.h5", "--out", "f.zarr", *words)
    assert result.exit_code == 2 and said in result.stderr
    assert not (folder / "f.zarr").exists()


def test_backends_without_a_graph(segkit, folder):
    done(segkit("fragment", folder / "data.h5", "--out", folder / "f.h5"))
    words = ("agglomerate", folder / "data.h5", "--fragments", folder / "f.h5", "--out", folder / "t.zarr", *BLOCKS)
    result = segkit(*words, "--backend", "reference")
    assert result.exit_code == 2 and "region adjacency graph to be used by blocks" in result.stderr


RECIPE = """
title = "By blocks"
[data]
file = "data.h5"
[fragment]
affinities = "{data.file}"
out = "{out}/fragments.h5"
[agglomerate]
affinities = "{data.file}"
fragments = "{out}/fragments.h5"
threshold = [0.5]
out = "{out}/tree.h5"
[evaluate]
segmentation = "{out}/tree.h5"
truth = "{data.file}"
"""


def test_a_recipe(segkit, folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "mine.toml").write_text(RECIPE)
    words = ("run", "mine.toml", "--out", "out", "--blockwise", "--block", 8, 24, 24)
    planned = done(segkit(*words, "--halo", 2, 4, 4, "--cluster", "local:2", "--dry-run")).stdout.splitlines()
    assert all("--blockwise --block 8 24 24" in line and "--cluster local:2" in line for line in planned)
    assert ["--halo 2 4 4" in line for line in planned] == [True, False, False]
    found = json.loads(done(segkit(*words, "--json")).stdout)
    assert 0 < found["evaluate"]["cremi_score"] < 1
    assert sorted(path.name for path in (folder / "out").glob("*.zarr")) == ["fragments.zarr", "tree.zarr"]
    again = done(segkit(*words, "--json")).stderr
    assert again.count("finished before") == 3


@pytest.mark.parametrize("option", ["from-labels", "from_labels"])
def test_a_stage_of_a_recipe_that_cannot_go_by_blocks_goes_without(segkit, folder, monkeypatch, option):
    monkeypatch.chdir(folder)
    (folder / "truth.toml").write_text(f'title = "T"\n[fragment]\n{option} = "data.h5"\nout = "{{out}}/f.h5"\n')
    planned = done(segkit("run", "truth.toml", "--out", "out", "--blockwise", "--dry-run")).stdout
    assert planned == "segkit fragment --from-labels data.h5 --out out/f.zarr\n"
