"""The card of a run, what it says of data, and a run repeated from it."""

import copy
import hashlib
import json

import numpy as np
import pytest
from training_helpers import TINY, same, tubes, weights, weights_in

from segkit import Grid, Volume, io
from segkit.errors import InvalidInput, MissingFile, StorageError
from segkit.models.checkpoint import load_model
from segkit.train import TrainConfig, TrainingVolume, train
from segkit.train.card import differences, fingerprint, read_card


@pytest.fixture(scope="module")
def volume():
    return tubes()


def test_fingerprints_are_those_of_the_values(volume):
    found = fingerprint(volume)
    assert found["raw"]["sha256"] == hashlib.sha256(volume.raw.array.tobytes()).hexdigest()
    assert found["raw"]["shape"] == [18, 36, 36] and found["labels"]["dtype"] == "uint64" and "mask" not in found
    spread = np.asfortranarray(volume.raw.array)
    other = TrainingVolume(Volume(spread, volume.raw.grid), volume.labels)
    assert fingerprint(other) == found
    changed = spread.copy()
    changed[3, 4, 5] ^= 1
    masked = TrainingVolume(Volume(changed, volume.raw.grid), volume.labels, Volume(changed > 0, Grid()))
    found_now = fingerprint(masked)
    assert found_now["raw"] != found["raw"] and found_now["labels"] == found["labels"] and "mask" in found_now


def test_what_a_card_says(volume, tmp_path):
    told = []
    values = {**TINY, "loss": "constrained-malis+mse", "steps": 1}
    train(TrainConfig(**values), [volume], tmp_path / "run", source={"data": ["x.h5"]}, on_card=told.append)
    card = read_card(tmp_path / "run")
    assert [card] == json.loads(json.dumps(told))
    assert TrainConfig(**card["settings"]).patch == [2, 8, 8] and card["seed"] == 0
    assert card["source"] == {"data": ["x.h5"]} and card["data"] == {
        "training": [fingerprint(volume)],
        "validation": [],
    }
    assert card["versions"]["torch"] and card["versions"]["segkit"] and card["versions"]["numba"]
    assert set(card["components"]) == {
        "models/unet3d",
        "losses/constrained-malis",
        "losses/mse",
        "fragmenters/watershed",
    }
    assert card["hardware"]["device"] == "cpu" and card["hardware"]["threads"] == 1


def test_differences_are_named(volume, tmp_path):
    train(TrainConfig(**{**TINY, "steps": 1}), [volume], tmp_path / "run")
    card = read_card(tmp_path / "run")
    assert differences(card, card) == []
    other = copy.deepcopy(card)
    other["versions"]["torch"] = "0.1"
    other["settings"]["learning_rate"] = 1
    other["data"]["training"][0]["labels"]["sha256"] = "0"
    assert differences(card, other) == [
        "settings: learning_rate is 1 and was 0.01",
        f"versions: torch is 0.1 and was {card['versions']['torch']}",
        "data: labels of training volume 0 are others",
    ]
    other["data"]["training"] = []
    assert differences(card, other)[-1] == "data: there are 0 training volumes and were 1"


def test_what_is_no_card(tmp_path):
    with pytest.raises(MissingFile, match="folder of a run"):
        read_card(tmp_path)
    for text in ("{", "[]", '{"kind": "segkit-run", "format_version": 7}'):
        (tmp_path / "card.json").write_text(text)
        with pytest.raises((StorageError, InvalidInput), match=r"card\.json"):
            read_card(tmp_path)


def test_the_command_line_repeats_a_run(segkit, volume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    io.write_all(tmp_path / "data.h5", {"raw": volume.raw, "truth": volume.labels})
    words = ["--loss", "mse", "--steps", 3, "--device", "cpu", "--threads", 1, "--seed", 4]
    words += [word for name in ("features=2", "pooling=[[1,2,2]]") for word in ("--set", f"model.{name}")]
    first = segkit("train", "data.h5[0:16]", "--out", "run", *words, "--set", "patch=[2,8,8]")
    assert first.exit_code == 0, first.stderr
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = segkit("train", "--like", tmp_path / "run", "--out", "again", "--threads", 1)
    assert again.exit_code == 0 and "not as in the run" not in again.stderr, again.stderr
    runs = [
        load_model(path / "model.safetensors").module.state_dict()
        for path in (tmp_path / "run", tmp_path / "elsewhere/again")
    ]
    assert same(*runs)
    other = segkit(
        "train", "../data.h5[2:18]", "--like", tmp_path / "run", "--out", "other", "--steps", 1, "--threads", 1
    )
    assert "settings: steps is 1 and was 3" in other.stderr
    assert "data: raw and labels of training volume 0 are others" in other.stderr
    for call, words in [
        (["--out", "none"], "Missing argument 'DATA...'"),
        (["--like", tmp_path / "run", "--out", "none", "--resume"], "give one of them"),
        (["--like", tmp_path, "--out", "none"], "folder of a training run"),
    ]:
        refused = segkit("train", *call)
        assert refused.exit_code == 2 and words in refused.stderr
    assert same(weights_of(tmp_path / "run"), runs[0]) and not (tmp_path / "elsewhere" / "none").exists()


def weights_of(run):
    return weights_in(run / "model.safetensors")


def test_a_run_without_a_source_is_repeated_with_data_that_are_given(segkit, volume, tmp_path):
    result = train(TrainConfig(**{**TINY, "steps": 2}), [volume], tmp_path / "run")
    refused = segkit("train", "--like", tmp_path / "run", "--out", tmp_path / "again")
    assert refused.exit_code == 2 and "DATA must be given" in refused.stderr
    io.write_all(tmp_path / "data.h5", {"raw": volume.raw, "truth": volume.labels})
    again = segkit("train", tmp_path / "data.h5", "--like", tmp_path / "run", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.stderr
    assert same(weights(result), weights_of(tmp_path / "again"))
