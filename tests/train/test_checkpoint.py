"""Checkpoints: what of another version is read, and what is refused."""

import shutil

import pytest
import torch
from training_helpers import TINY, Interrupted, lines, same, stop_after, tubes, weights

from segkit.errors import StorageError
from segkit.train import TrainConfig, train

VALIDATED = {
    **TINY,
    "validation": {"patience": 9, "crop": [4, 16, 16]},
    "validation_patches": 1,
    "validate_every": 1,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def volume():
    return tubes()


@pytest.fixture(scope="module")
def interrupted(volume, tmp_path_factory):
    """The folder of a run that was interrupted after its fifth step, two after its checkpoint."""
    run = tmp_path_factory.mktemp("runs") / "cut"
    with pytest.raises(Interrupted):
        train(TrainConfig(**VALIDATED), [volume], run, validation=[volume], on_step=stop_after(5))
    return run


@pytest.fixture
def cut(interrupted, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(interrupted, tmp_path / "cut")


def as_version_1(now):
    """What Lightning's trainer would have written in place of a checkpoint."""
    kept = {name: now[name] for name in ("global_step", "state_dict", "patches", "recovery", "random_state")}
    rate = now["learning_rate"]
    return kept | {
        "epoch": 0,
        "pytorch-lightning_version": "2.6.6",
        "loops": {},
        "callbacks": {"Health": now["health"], "Validation": now["early_stopping"]},
        "optimizer_states": [now["optimizer"]],
        "lr_schedulers": [{"base_lrs": [rate], "last_epoch": now["global_step"], "_last_lr": [rate]}],
    }


def test_a_run_of_version_1_goes_on(volume, tmp_path, cut):
    whole = train(TrainConfig(**VALIDATED), [volume], tmp_path / "whole", validation=[volume])
    for path in (cut / "checkpoints").iterdir():
        torch.save(as_version_1(torch.load(path, weights_only=True)), path)
    resumed = train(TrainConfig(**VALIDATED), [volume], cut, validation=[volume], resume=True)
    assert same(weights(whole), weights(resumed)) and resumed.steps == 6
    for key in ("loss", "validation/cremi_score", "health/z/variance", "learning_rate"):
        assert [line[key] for line in lines(cut, key)] == [line[key] for line in lines(tmp_path / "whole", key)]
    last = torch.load(resumed.checkpoint, weights_only=True)
    assert last["early_stopping"] == torch.load(whole.checkpoint, weights_only=True)["early_stopping"]
    assert last["format_version"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda now: now | {"format_version": 3}, r"must be a checkpoint of version 2 or 1, not 3; .*newer"),
        (lambda now: {"global_step": 3}, r"is no checkpoint that can be read"),
    ],
)
def test_other_versions_are_refused(volume, cut, change, words):
    last = cut / "checkpoints" / "last.ckpt"
    torch.save(change(torch.load(last, weights_only=True)), last)
    with pytest.raises(StorageError, match=words):
        train(TrainConfig(**VALIDATED), [volume], cut, validation=[volume], resume=True)
