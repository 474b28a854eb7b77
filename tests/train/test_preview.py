"""The preview: what it draws is what a network gets."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from segkit import Grid, Labels, Volume, io
from segkit.cli.main import main
from segkit.picture import colours
from segkit.train import TrainConfig, TrainingVolume
from segkit.train.preview import FRAME, enlargement, preview
from segkit.train.run import patches_of

SMALL = {"model_parameters": {"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}, "patch": [4, 8, 8]}


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 9, (4, 5, 5)), np.ones((5, 10, 10), int))
    grid = Grid((30, 10, 10))
    return TrainingVolume(Volume(rng.integers(0, 256, labels.shape, np.uint8), grid), Labels.convert(labels, grid))


def test_panels_show_what_the_network_gets(volume):
    config = TrainConfig(**SMALL)
    rows, patches = preview(config, [volume], 3), patches_of(config, [volume])
    for k, row in enumerate(rows):
        item = {name: values[0].numpy() for name, values in patches.batch([k]).items()}
        assert row.caption == f"patch {k}: {patches[k].plan.words()}"
        panels = {panel.title: panel.image for panel in row.panels}
        assert list(panels) == ["raw", "objects", "raw, x z", "objects, x z", "-1,0,0", "0,-1,0", "0,0,-1", "mask"]
        z, inside = 2, tuple(slice(b, b + n) for b, n in zip(patches.patch.before, (4, 8, 8), strict=True))
        raw = ((item["raw"][0][inside] + 1) * 127.5).clip(0, 255).astype(np.uint8)
        assert np.array_equal(panels["raw"][inside[1:]], np.stack([raw[z]] * 3, axis=-1))
        assert (panels["raw"][inside[1].start - 1, inside[2]] == FRAME).all()
        side = panels["raw, x z"][::3]
        assert np.array_equal(side[inside[0], inside[2]], np.stack([raw[:, 4]] * 3, axis=-1))
        assert np.array_equal(panels["objects"], colours(item["labels"][z]))
        assert np.array_equal(panels["objects, x z"], np.repeat(colours(item["labels"][:, 4]), 3, axis=0))
        for c, name in enumerate(("-1,0,0", "0,-1,0", "0,0,-1")):
            assert np.array_equal(panels[name] == 255, item["target"][c, z] == 1)
            assert np.array_equal(panels[name] == 128, ~item["edges"][c, z])
        assert (panels["mask"] == 255).all()
    assert enlargement(rows) == 160 // rows[0].panels[0].image.shape[1]


def test_networks_of_sections_show_every_section(volume):
    parameters = {"features": 2, "levels": 3}
    config = TrainConfig(model="unet2d-3sections", model_parameters=parameters, patch=[16, 16])
    (row,) = preview(config, [volume], 1)
    titles = [panel.title for panel in row.panels]
    assert titles == ["raw -1", "raw", "raw +1", "objects", "0,-1,0", "0,0,-1", "mask"]


def test_the_command_draws_and_does_not_train(volume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    io.write_all("data.h5", {"raw": volume.raw, "truth": volume.labels})
    settings = ["model.features=2", "model.growth=2", "model.pooling=[[1,2,2]]", "patch=[4,8,8]"]
    call = ["train", "data.h5", *(word for setting in settings for word in ("--set", setting))]
    done = CliRunner().invoke(main, [*call, "--preview", "seen.png", "--samples", "2"])
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"data.h5", "seen.png"}
    assert Image.open("seen.png").size[0] > 500
    refused = CliRunner().invoke(main, call)
    assert refused.exit_code == 2 and "--out" in refused.output
