"""Affinities by blocks against those of the whole volume."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from segkit import Affinities, Grid, Volume, io
from segkit.blockwise.work import Work
from segkit.data import edge_mask
from segkit.data.affinities import as_levels
from segkit.data.source import Held
from segkit.errors import InvalidInput, InvalidParameter
from segkit.infer import predict
from segkit.infer.stage import Settings, Wanted, Window, infer_files
from segkit.models import load_model, save_model
from segkit.models.unet2d import UNet2D
from segkit.models.unet2d_padded import UNet2D3Sections
from segkit.models.unet3d import UNet3D

NEIGHBORHOOD = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 3, 0), (0, 0, -3), (-2, 0, 0)]
GRID = Grid((10, 10, 10), (100, 0, 20))
MODELS = {
    "unet3d": (UNet3D, {"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}),
    "unet2d": (UNet2D, {"features": 2, "levels": 2}),
    "unet2d-3sections": (UNet2D3Sections, {"features": 2, "levels": 2}),
}
SHAPE = (8, 35, 44)


def saved(folder, name, shape=SHAPE, **extra):
    """The weights of a network, and raw data."""
    kind, parameters = MODELS[name]
    torch.manual_seed(0)
    module = kind(channels=len(NEIGHBORHOOD), **parameters)
    path = folder / "net.safetensors"
    save_model(path, module, name=name, parameters=parameters, neighborhood=NEIGHBORHOOD, extra=extra)
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    io.write(folder / "raw.h5", Volume(array, GRID))
    return folder / "raw.h5", path


def by_blocks(raw, model, out, *, block=(256, 256, 256), halo=None, notes=None, wanted=None, **settings):
    """The report of the stage."""
    work = Work(block, halo)
    infer_files(raw, load_model(model), out, Settings(**settings), wanted=wanted, notes=notes, work=work)
    return work.ended


def whole(raw, model, **options):
    return predict(load_model(model).module, io.read_volume(raw), NEIGHBORHOOD, **options)


@pytest.mark.parametrize("name", ["unet3d", "unet2d"])
@pytest.mark.parametrize(
    ("block", "augment"),
    [((4, 20, 33), "none"), ((4, 99, 23), "flips"), ((64, 64, 64), "none"), (None, "none"), (None, "flips")],
)
def test_networks_that_pad_nothing_give_what_they_give_the_whole(tmp_path, name, augment, block):
    raw, model = saved(tmp_path, name)
    by_blocks(raw, model, tmp_path / "a.zarr", block=block, augment=augment, notes={"chosen": 1})
    found, expected = io.read_affinities(tmp_path / "a.zarr"), whole(raw, model, augment=augment)
    np.testing.assert_allclose(found.array, expected.array, atol=2e-6)
    assert expected.array.std() > 0.01 and found.grid == GRID
    np.testing.assert_array_equal(found.neighborhood, NEIGHBORHOOD)
    assert io.read_notes(tmp_path / "a.zarr", "affinities") == {"chosen": 1}


def test_with_tiles_of_one_shape_to_the_last_bit(tmp_path):
    raw, model = saved(tmp_path, "unet3d")
    module = load_model(model).module
    tile = module.output_shape(module.input_shape((4, 8, 8)))
    by_blocks(raw, model, tmp_path / "a.zarr", block=(tile[0], 2 * tile[1], 3 * tile[2]), tile_shape=tile)
    found = io.read_affinities(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.array, whole(raw, model, tile_shape=tile).array)


def test_networks_that_pad_agree_where_the_halo_is_wide(tmp_path):
    raw, model = saved(tmp_path, "unet2d-3sections", shape=(2, 96, 96))
    expected = whole(raw, model).array
    within = (..., slice(32, 64), slice(32, 64))  # nearer to its border, what is padded shows in the whole volume too
    differences = []
    for halo in (3, 32):
        out = tmp_path / f"{halo}.zarr"
        by_blocks(raw, model, out, block=(2, 48, 96), halo=(0, halo, halo))
        differences.append(np.abs(io.read_affinities(out).array - expected)[within].max())
    assert differences[0] > 1e-4 and differences[1] < 2e-6


def test_a_halo_is_never_less_than_the_longest_offset(tmp_path):
    raw, model = saved(tmp_path, "unet2d-3sections")
    by_blocks(raw, model, tmp_path / "a.zarr", block=(6, 35, 24), halo=(0, 0, 0))
    by_blocks(raw, model, tmp_path / "b.zarr", block=(6, 35, 24), halo=(9, 3, 3))
    first, second = (io.read_affinities(tmp_path / name).array for name in ("a.zarr", "b.zarr"))
    np.testing.assert_array_equal(first, second)
    assert (first[:, 2:, 3:-3, 3:] > 0).all()


def test_a_crop_is_a_volume_of_its_own(tmp_path):
    raw, model = saved(tmp_path, "unet3d")
    crop = f"{raw}:volumes/raw[:7,3:34,:]"
    by_blocks(crop, model, tmp_path / "a.zarr", block=(4, 16, 32))
    found, expected = io.read_affinities(tmp_path / "a.zarr"), whole(crop, model)
    np.testing.assert_allclose(found.array, expected.array, atol=2e-6)
    assert found.grid == expected.grid


def test_the_same_again_keeps_blocks_and_another_network_none(tmp_path):
    raw, model = saved(tmp_path, "unet3d")
    place = {"block": (4, 18, 22)}
    by_blocks(raw, model, tmp_path / "a.zarr", **place)
    (report,) = by_blocks(raw, model, tmp_path / "a.zarr", **place, batch_size=2)
    assert report.kept == len(report.results) == 8
    (report,) = by_blocks(raw, model, tmp_path / "a.zarr", **place, augment="flips")
    assert report.kept == 0
    other = UNet3D(channels=len(NEIGHBORHOOD), **MODELS["unet3d"][1])
    save_model(model, other, name="unet3d", parameters=MODELS["unet3d"][1], neighborhood=NEIGHBORHOOD)
    (report,) = by_blocks(raw, model, tmp_path / "a.zarr", **place)
    assert report.kept == 0
    expected = whole(raw, model).array
    np.testing.assert_allclose(io.read_affinities(tmp_path / "a.zarr").array, expected, atol=2e-6)


def test_threads_of_a_process_use_the_network_in_turn(tmp_path, monkeypatch):
    import segkit.infer
    from segkit.blockwise import work

    at_work, most = [], []

    def watched(*given, **options):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.02)
        yield from predict_parts(*given, **options)
        at_work.pop()

    def by_threads(each, *given):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(each.task.run, range(len(each.voxels))))
        return run_stage(each, *given)

    predict_parts, run_stage = segkit.infer.predict_parts, work.run_stage
    monkeypatch.setattr(segkit.infer, "predict_parts", watched)
    monkeypatch.setattr(work, "run_stage", by_threads)
    by_blocks(*saved(tmp_path, "unet3d"), tmp_path / "a.zarr", block=(4, 18, 22))
    assert len(most) == 16 and set(most) == {1}


def test_refusals(tmp_path):
    raw, model = saved(tmp_path, "unet3d")
    with pytest.raises(InvalidParameter, match="halo must be three numbers"):
        by_blocks(raw, model, tmp_path / "a.zarr", halo=(0, -1, 0))
    with pytest.raises(InvalidParameter, match="block must be three numbers"):
        by_blocks(raw, model, tmp_path / "a.zarr", block=(64, 64))
    with pytest.raises(InvalidInput, match=r"must end in \.zarr"):
        by_blocks(raw, model, tmp_path / "a.h5")
    with pytest.raises(InvalidInput, match="tile_shape must be an output shape"):
        by_blocks(raw, model, tmp_path / "a.zarr", tile_shape=(3, 3, 3))
    with pytest.raises(InvalidInput, match="must not be a volume smaller than the context"):
        by_blocks(f"{raw}:volumes/raw[:2]", model, tmp_path / "a.zarr")
    with pytest.raises(InvalidInput, match="augment must be"):
        by_blocks(raw, model, tmp_path / "a.zarr", augment="nonsense")
    with pytest.raises(InvalidInput, match="roi must be a part of 0:8 along z"):
        by_blocks(raw, model, tmp_path / "a.zarr", wanted=Wanted((slice(3, 9), slice(None), slice(None))))
    io.write(tmp_path / "small.h5", Volume(np.ones((2, 3, 4), bool), GRID))
    with pytest.raises(InvalidInput, match="raw and mask must have the same shape"):
        by_blocks(raw, model, tmp_path / "a.zarr", wanted=Wanted(mask=tmp_path / "small.h5"))
    with pytest.raises(InvalidInput, match="dtype must be float32 or uint8"):
        by_blocks(raw, model, tmp_path / "a.zarr", wanted=Wanted(dtype="int8"))
    assert not (tmp_path / "a.zarr").exists()
    raw, model = saved(tmp_path, "unet3d", resampled=True)
    with pytest.raises(InvalidInput, match="by blocks and with a mask or roi"):
        by_blocks(raw, model, tmp_path / "a.zarr", block=None, wanted=Wanted(ROI))
    with pytest.raises(InvalidInput, match="the network must see the voxels of the data"):
        by_blocks(raw, model, tmp_path / "a.zarr")


ROI = (slice(1, 7), slice(5, 30), slice(20, 44))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("block", [None, (4, 13, 24)])
def test_a_region_sees_what_lies_around_it(tmp_path, name, block):
    raw, model = saved(tmp_path, name)
    by_blocks(raw, model, tmp_path / "a.zarr", block=block, halo=(9, 32, 32), wanted=Wanted(ROI))
    found, expected = io.read_affinities(tmp_path / "a.zarr"), whole(raw, model).array[(slice(None), *ROI)]
    np.testing.assert_allclose(found.array, Affinities.convert(expected, NEIGHBORHOOD).array, atol=2e-6)
    assert found.grid == GRID.crop((1, 5, 20)) and found.array.std() > 0.01


def masked(folder):
    """A mask of a corner and of a voxel far from it, in a file, and as an array."""
    mask = np.zeros(SHAPE, bool)
    mask[:3, :12, :15] = True
    mask[7, 33, 20] = True
    io.write(folder / "mask.h5", Volume(mask, GRID))
    return Wanted(mask=folder / "mask.h5"), mask


@pytest.mark.parametrize("augment", ["none", "flips"])
@pytest.mark.parametrize("block", [None, (4, 13, 24)])
def test_outside_a_mask_nothing_is_computed(tmp_path, monkeypatch, block, augment):
    raw, model = saved(tmp_path, "unet3d")
    module, computed, forward = load_model(model).module, [], UNet3D.forward
    tile = module.output_shape(module.input_shape((4, 8, 8)))
    expected = whole(raw, model, tile_shape=tile, augment=augment).array
    monkeypatch.setattr(UNet3D, "forward", lambda self, raw: computed.append(len(raw)) or forward(self, raw))
    settings = {"tile_shape": tile, "augment": augment, "block": block}
    by_blocks(raw, model, tmp_path / "all.zarr", **settings)
    every = sum(computed)
    computed.clear()
    wanted, mask = masked(tmp_path)
    by_blocks(raw, model, tmp_path / "a.zarr", wanted=wanted, **settings)
    assert 0 < sum(computed) < 0.6 * every
    found, edges = io.read_affinities(tmp_path / "a.zarr").array, edge_mask(SHAPE, NEIGHBORHOOD, mask)
    np.testing.assert_allclose(found, expected * edges, atol=2e-6)
    assert found[edges].min() > 0.01


def test_a_mask_and_a_region_of_a_network_that_pads(tmp_path):
    raw, model = saved(tmp_path, "unet2d-3sections")
    wanted, mask = masked(tmp_path)
    by_blocks(raw, model, tmp_path / "a.zarr", block=None, wanted=Wanted(ROI, wanted.mask))
    inside = Affinities.convert(
        (whole(raw, model).array * edge_mask(SHAPE, NEIGHBORHOOD, mask))[(..., *ROI)], NEIGHBORHOOD
    )
    np.testing.assert_array_equal(io.read_affinities(tmp_path / "a.zarr").array, inside.array)


@pytest.mark.parametrize("out", ["a.h5", "a.zarr", "blocks.zarr"])
def test_eight_bits_are_the_nearest_levels(tmp_path, out):
    raw, model = saved(tmp_path, "unet3d")
    block = (4, 18, 22) if out == "blocks.zarr" else None
    by_blocks(raw, model, tmp_path / "float.zarr", block=block)
    by_blocks(raw, model, tmp_path / out, block=block, wanted=Wanted(dtype="uint8"))
    expected = io.read_affinities(tmp_path / "float.zarr").array
    np.testing.assert_array_equal(io.read_affinities(tmp_path / out).array, as_levels(expected) / np.float32(255))
    assert np.abs(io.read_affinities(tmp_path / out).array - expected).max() <= 1 / 510 + 1e-6


def test_eight_bits_of_nothing_but_0_and_1_mean_what_they_say(tmp_path):
    """Such values of others are refused, for they might mean 1."""
    raw, model = saved(tmp_path, "unet3d")
    io.write(tmp_path / "mask.h5", Volume(np.zeros(SHAPE, bool), GRID))
    wanted = Wanted(mask=tmp_path / "mask.h5", dtype="uint8")
    by_blocks(raw, model, tmp_path / "a.zarr", wanted=wanted)
    import zarr

    zarr.open_array(str(tmp_path / "a.zarr/volumes/affinities/0"), mode="r+")[:, 4, 8, 8] = 1
    assert io.read_affinities(tmp_path / "a.zarr").array.max() == np.float32(1) / np.float32(255)


def test_another_mask_region_or_dtype_computes_anew(tmp_path):
    raw, model = saved(tmp_path, "unet3d")
    wanted, _ = masked(tmp_path)
    for each in (None, wanted, Wanted(dtype="uint8"), Wanted(tuple(slice(0, size) for size in SHAPE))):
        (report,) = by_blocks(raw, model, tmp_path / "a.zarr", block=(4, 18, 22), wanted=each)
        assert report.kept == 0


def test_a_window_is_a_volume_of_its_own():
    volume = Volume(np.arange(4 * 5 * 6).reshape(4, 5, 6), GRID)
    window = Window(Held(volume), (slice(1, 3), slice(0, 5), slice(2, 6)))
    assert window.shape == (2, 5, 4) and window.grid == GRID.crop((1, 0, 2))
    part = window.part((slice(2, 3), slice(1, 2), slice(3, 6)))
    assert part == (slice(1, 2), slice(1, 2), slice(1, 4))
    np.testing.assert_array_equal(window.read(part), volume.array[2:3, 1:2, 3:6])
