"""What a training is watched by: the right pixels, renewed by each validation, and training none the wiser."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_helpers import TINY, Interrupted, same, stop_after, tubes, weights

from segkit import Affinities, Grid, Labels, Volume, io
from segkit.errors import InvalidInput
from segkit.picture import HEAD, colours
from segkit.train import TrainConfig, train
from segkit.train.checkpoint import RunFolder
from segkit.train.journal import HEIGHT, WIDTH, panels_of, renew_pictures
from segkit.train.scoring import SHOWN, Scene, Segmenter, Shown, _Middle

CHANGES = {"validate_every": 2, "validation_patches": 1, "health": {"every": 0}, "validation": {}}
CONFIG = TrainConfig(**{**TINY, **CHANGES})
GRID = Grid((40, 8, 8))


@pytest.fixture(scope="module")
def volume():
    return tubes()


@pytest.fixture(scope="module")
def watched(volume, tmp_path_factory):
    """A run, its result, and the bytes of the picture and the notes of the volumes after each validation."""
    run, seen = tmp_path_factory.mktemp("runs") / "watched", {}

    def look(step, _):
        seen[step] = (run / "progress.png").read_bytes(), io.read_notes(run / "validation.h5", "segmentation")

    return run, train(CONFIG, [volume], run, validation=[volume], on_validation=look), seen


def shown(shape=(3, 20, 30)):
    truth = np.ones(shape, np.uint64)
    truth[:, :, 10:], truth[:, :5] = 2, 0
    segmentation = truth.copy()
    segmentation[:, 14:, :10] = 7  # the smaller piece of object 1
    truth = Labels(truth, GRID)
    raw = np.arange(np.prod(shape), dtype=np.uint64).reshape(shape).astype(np.uint8)
    affinities = Affinities.from_labels(truth)
    return Shown(raw, affinities, truth, Labels(segmentation, GRID), 0.25, truth)


def test_panels_show_the_middle_section_in_matched_colours():
    seen = shown()
    raw, affinities, segmentation, truth = (panel.image for panel in panels_of(seen).panels)
    assert np.abs(raw.astype(int) - seen.raw[1]).max() <= 1
    own = colours(np.array([1, 2], np.uint64))
    assert not truth[:5].any() and (truth[5:, :10] == own[0]).all() and (truth[5:, 10:] == own[1]).all()
    assert (segmentation[5:14, :10] == own[0]).all() and (segmentation[5:, 10:] == own[1]).all()
    assert (segmentation[14:, :10] == segmentation[14, 0]).all() and (segmentation[14, 0] != own[0]).any()
    assert (affinities[6:, 10] == (255, 255, 0)).all() and (affinities[6:, 11:] == 255).all()
    assert panels_of(seen).panels[0].scale_bar and panels_of(seen).panels[0].voxel_size == (8, 8)


def test_files_and_tensorboard_hold_what_was_seen(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "loss": 0.5}\n{"step": 5, "validation_loss": 0.25}\n')
    added, seen = [], shown()
    journal = SimpleNamespace(add_image=lambda *a: added.append(a))
    for step in (5, 9):
        renew_pictures(RunFolder(tmp_path), journal, seen, step)
    picture = np.asarray(Image.open(tmp_path / "progress.png"))
    assert picture.shape[1] == WIDTH
    below, scale = picture[HEAD + HEIGHT :], WIDTH // (4 * 30)
    truth = below[HEAD::scale, 3 * (30 * scale + 6) :: scale][:20, :30]
    assert np.array_equal(truth, colours(seen.truth.array[1]))
    assert [(name, step) for name, _, step in added] == [("validation", 5), ("validation", 9)]
    assert np.array_equal(added[0][1], below[:, : added[0][1].shape[1]])
    file = tmp_path / "validation.h5"
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "progress.png", "validation.h5"}
    assert np.array_equal(io.read_labels(file, role="segmentation").array, seen.segmentation.array)
    assert np.array_equal(io.read_labels(file, role="fragments").array, seen.fragments.array)
    stored = io.read_affinities(file)
    assert stored.grid == GRID and np.abs(stored.array - seen.affinities.array).max() < 1 / 400
    for role in ("affinities", "fragments", "segmentation"):
        assert io.read_notes(file, role) == {"step": 9, "threshold": 0.25}


def test_each_validation_renews_them(watched):
    run, _, seen = watched
    assert list(seen) == [2, 4, 6] and len({picture for picture, _ in seen.values()}) == 3
    thresholds = [
        line["validation/threshold"]
        for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if "validation/threshold" in line
    ]
    notes = [{"step": step, "threshold": threshold} for step, threshold in zip(seen, thresholds, strict=True)]
    assert [note for _, note in seen.values()] == notes


def test_tensorboard_holds_the_pictures(watched):
    events = EventAccumulator(str(watched[0] / "logs"), size_guidance={"images": 0}).Reload()
    images = events.Images("validation")
    assert [image.step for image in images] == [2, 4, 6]
    assert images[0].encoded_image_string.startswith(b"\x89PNG")


def test_the_volumes_are_the_middle_of_the_first_one(watched, volume):
    file = watched[0] / "validation.h5"
    segmentation = io.read_labels(file, role="segmentation")
    assert segmentation.shape == volume.labels.shape and io.read_affinities(file).shape == segmentation.shape


def test_no_more_than_the_middle_is_kept():
    shape = (SHOWN[0] + 4, 10, SHOWN[2] + 2)
    labels = Labels(np.arange(np.prod(shape), dtype=np.uint64).reshape(shape), GRID)
    window = tuple(slice(0, size) for size in shape)
    scene = Scene(Volume(np.zeros(shape, np.uint8), GRID), window, labels)
    middle = _Middle(scene)._middle(labels)
    assert np.array_equal(middle.array, labels.array[2:-2, :, 1:-1]) and middle.grid.offset == (80, 0, 8)


def test_weights_are_the_same_without_them(watched, volume, tmp_path, monkeypatch):
    monkeypatch.setattr("segkit.train.validate.renew_pictures", lambda *_: None)
    plain = train(CONFIG, [volume], tmp_path / "plain", validation=[volume])
    assert not (tmp_path / "plain/progress.png").exists()
    assert same(weights(watched[1]), weights(plain))


def test_a_resumed_run_goes_on_with_its_curves(watched, volume, tmp_path):
    run, config = tmp_path / "resumed", TrainConfig(**{**CONFIG.model_dump(), "checkpoint_every": 2})
    with pytest.raises(Interrupted):
        train(config, [volume], run, validation=[volume], on_step=stop_after(5))
    train(config, [volume], run, validation=[volume], resume=True)
    assert (run / "progress.png").read_bytes() == (watched[0] / "progress.png").read_bytes()


def test_without_a_segmentation_there_are_curves(volume, tmp_path):
    config = TrainConfig(**{**CONFIG.model_dump(), "validation": {"segmentation": False}})
    train(config, [volume], tmp_path / "run", validation=[volume])
    assert Image.open(tmp_path / "run/progress.png").size == (WIDTH, HEAD + HEIGHT)
    assert not (tmp_path / "run/validation.h5").exists()


def test_a_network_that_cannot_be_scored_leaves_curves(volume, tmp_path, monkeypatch):
    def refuse(*_):
        raise InvalidInput("no")

    monkeypatch.setattr(Segmenter, "_sweep", refuse)
    train(CONFIG, [volume], tmp_path / "run", validation=[volume])
    assert Image.open(tmp_path / "run/progress.png").size == (WIDTH, HEAD + HEIGHT)
    assert not (tmp_path / "run/validation.h5").exists()


def test_of_several_processes_the_first_one_draws(watched, volume, tmp_path, monkeypatch):
    """As another process sees it: the work of the first is not done here."""
    drawn = []
    monkeypatch.setattr("segkit.train.validate.renew_pictures", lambda *_: drawn.append(1))
    monkeypatch.setattr("segkit.train.validate.distributed", SimpleNamespace(on_rank_zero=lambda _: {}))
    train(CONFIG, [volume], tmp_path / "run", validation=[volume])
    assert drawn == []
