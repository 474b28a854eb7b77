"""segkit fuse, and segkit run --fused: what the three stages give, without their affinities."""

import numpy as np
import pytest
import torch

from segkit import Grid, Volume, io
from segkit.models import save_model
from segkit.models.unet3d import UNet3D

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
SMALL = {"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}
GRID = Grid((10, 10, 10), (100, 0, 20))
BLOCKS = ("--blockwise", "--block", 4, 24, 24, "--halo", 2, 8, 8)
TREE = ("leaf_ids", "parents", "altitudes")
RECIPE = """
[data]
raw = ""
[infer]
raw = "{data.raw}"
run = "NET"
tile = TILE
out = "{out}/affinities.h5"
[fragment]
affinities = "{out}/affinities.h5"
set = { threshold = 0.499, seed_distance = 3 }
out = "{out}/fragments.h5"
[agglomerate]
affinities = "{out}/affinities.h5"
fragments = "{out}/fragments.h5"
score = "quantile"
threshold = 0.51
out = "{out}/tree.h5"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with raw.h5, the weights of a network, a recipe, and the tile that its blocks are multiples of."""
    folder = tmp_path_factory.mktemp("fuse")
    torch.manual_seed(0)
    module = UNet3D(**SMALL)
    tile = module.output_shape(module.input_shape((2, 8, 8)))
    assert tile == (2, 8, 8)
    save_model(folder / "net.safetensors", module, name="unet3d", parameters=SMALL, neighborhood=NEAREST)
    raw = np.random.default_rng(0).integers(0, 256, (8, 40, 44), np.uint8)
    mask = np.ones(raw.shape, bool)
    mask[:, 20:, 30:] = False
    io.write(folder / "raw.h5", Volume(raw, GRID))
    io.write(folder / "mask.h5", Volume(mask, GRID))
    text = RECIPE.replace("NET", str(folder / "net.safetensors")).replace("TILE", str(list(tile)))
    (folder / "small.toml").write_text(text)
    return folder


def assert_same(first, second):
    """Fragments, trees and segmentations of two folders."""
    fragments = [io.read_labels(folder / "fragments.zarr", "fragments").array for folder in (first, second)]
    trees = [io.read_merge_tree(folder / "tree.zarr") for folder in (first, second)]
    np.testing.assert_array_equal(*fragments)
    for name in TREE:
        np.testing.assert_array_equal(*(getattr(tree, name) for tree in trees))
    assert len(trees[0].altitudes) > 20


def test_a_recipe_fused_gives_what_it_gives_by_blocks(segkit, made, tmp_path):
    words = ["run", made / "small.toml", "--set", f"data.raw={made / 'raw.h5'}", *BLOCKS]
    for name, more in (("plain", ()), ("fused", ("--fused",))):
        result = segkit(*words, "--out", tmp_path / name, *more)
        assert result.exit_code == 0, result.stderr
    assert_same(tmp_path / "plain", tmp_path / "fused")
    segments = [io.read_labels(tmp_path / name / "tree.zarr", "segmentation").array for name in ("plain", "fused")]
    np.testing.assert_array_equal(*segments)
    assert (tmp_path / "plain" / "affinities.zarr").exists() and not (tmp_path / "fused" / "affinities.zarr").exists()
    again = segkit(*words, "--out", tmp_path / "fused", "--fused")
    assert again.exit_code == 0 and "agglomerate: finished before" in again.stderr


def test_a_region_with_a_mask(segkit, made, tmp_path):
    region, tile, cut = ("--roi", ":,0:32,8:44"), ("--tile", 2, 8, 8), ("threshold=0.499", "seed_distance=3")
    network = (made / "raw.h5", "--run", made / "net.safetensors", *tile, *region, "--dtype", "uint8")
    inside = f"{made / 'mask.h5'}[:,0:32,8:44]"
    network = (*network, "--mask", made / "mask.h5")
    calls = [
        ["infer", *network, "--out", tmp_path / "affinities.zarr"],
        ["fragment", tmp_path / "affinities.zarr", "--mask", inside, "--set", cut[0], "--set", cut[1]],
        ["agglomerate", tmp_path / "affinities.zarr", "--fragments", tmp_path / "fragments.zarr"],
        ["fuse", *network, "--fragment-set", cut[0], "--fragment-set", cut[1], "--fragments"],
    ]
    calls[1] += ["--out", tmp_path / "fragments.zarr"]
    calls[2] += ["--out", tmp_path / "tree.zarr"]
    (tmp_path / "fused").mkdir()
    calls[3] += [tmp_path / "fused/fragments.zarr", "--out", tmp_path / "fused/tree.zarr"]
    for call in calls:
        result = segkit(*call, *BLOCKS[: 5 if call[0] == "agglomerate" else None])
        assert result.exit_code == 0, result.stderr
    assert_same(tmp_path, tmp_path / "fused")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "segkit fuse works by blocks; add --blockwise"),
        (("--blockwise", "--fragment-set", "threshold=2"), "threshold must lie in 0..1"),
        (("--blockwise", "--backend", "reference"), "must work on the region adjacency graph"),
        (("--blockwise", "--roi", "0:2", "--mask", "m.h5[0:2]"), "--mask must have no crop where --roi is given"),
    ],
)
def test_wrong_calls(segkit, made, tmp_path, words, message):
    network = ("fuse", made / "raw.h5", "--run", made / "net.safetensors")
    result = segkit(*network, "--fragments", tmp_path / "f.zarr", "--out", tmp_path / "t.zarr", *words)
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({}, (), "--fused needs --blockwise"),
        (
            {"[fragment]": '[fragment]\nmask = "m.h5"'},
            BLOCKS,
            "mask must be the same of infer and fragment for --fused",
        ),
        ({"[infer]": "[infer]\nkeep_grid = true"}, BLOCKS, "keep_grid of stage 'infer' cannot be had with --fused"),
        ({'score = "quantile"': 'neighborhood = "[[0,0,1]]"'}, BLOCKS, "neighborhood of stage 'agglomerate' cannot"),
        ({'fragments = "{out}/fragments.h5"': ""}, BLOCKS, "--fused needs an infer, a fragment of its affinities"),
    ],
)
def test_recipes_that_cannot_be_fused(segkit, made, tmp_path, change, words, message):
    text = (made / "small.toml").read_text()
    for old, new in change.items():
        text = text.replace(old, new)
    (tmp_path / "r.toml").write_text(text)
    out = tmp_path / "out"
    result = segkit("run", tmp_path / "r.toml", "--set", f"data.raw={made / 'raw.h5'}", "--fused", "--out", out, *words)
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert not out.exists()
