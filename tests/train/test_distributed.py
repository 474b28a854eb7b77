"""Two processes on one CPU train as one does, and act together."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from other_end import end, fail, wait
from other_process import explode, keep_weights
from training_helpers import TINY, tubes, weights

from segkit.errors import InvalidParameter, TrainingFailed
from segkit.train import TrainConfig, distributed, run, train
from segkit.train.distributed import _wait_until_ready

TWO = {**TINY, "batch_size": 2, "health": {"every": 3}}


@pytest.fixture(scope="module")
def volume():
    return tubes()


def close(first, second):
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("resume", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_train_as_one_and_a_resume_goes_on(volume, tmp_path, monkeypatch, resume):
    monkeypatch.setattr(run, "_train_on_rank", keep_weights)
    config = TrainConfig(**TWO, accumulate=2, averaging={"decay": 0.5}, gradient_clip=0.1)
    alone = train(config, [volume], tmp_path / "alone", validation=[volume])
    beside = config.model_copy(update={"devices": 2})
    if resume:
        train(beside.model_copy(update={"steps": 3}), [volume], tmp_path / "both", validation=[volume])
    both = train(beside, [volume], tmp_path / "both", validation=[volume], resume=resume)
    close(weights(alone), weights(both))
    trained = torch.load(both.checkpoint, weights_only=True)
    close(torch.load(tmp_path / "other"), {n.removeprefix("network."): v for n, v in trained["state_dict"].items()})
    assert trained["patches"] == torch.load(alone.checkpoint, weights_only=True)["patches"] == 24
    for name in ("first_loss", "validation_loss"):
        assert getattr(alone, name) == pytest.approx(getattr(both, name), rel=1e-5)
    if sys.platform == "linux":
        threads = [Path(f"/proc/self/task/{n}/comm").read_text() for n in os.listdir("/proc/self/task")]
        assert not [name for name in threads if "gloo" in name]


@pytest.mark.slow
def test_a_collapse_that_one_process_sees_is_recovered_from_by_all(volume, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_train_on_rank", explode)
    said = []
    result = train(TrainConfig(**TWO, devices=2), [volume], tmp_path / "run", on_recovery=said.append)
    assert (result.steps, result.recoveries) == (6, 1)
    assert said == [
        "training collapsed: the loss at step 5 is not finite; it goes on from step 3, the last healthy one, with 0.1 "
        "times the learning rate"
    ]


def only_here():
    """A function of a module that other processes do not find."""
    module = ModuleType("only_here")
    exec("def work():\n    pass", vars(module))
    sys.modules["only_here"] = module
    return module.work


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        (lambda: fail, InvalidParameter, "wrong in the second"),
        pytest.param(lambda: end, TrainingFailed, r"process 1 .* has ended \(exit code 3\)", marks=pytest.mark.slow),
        (only_here, TrainingFailed, r"process 1 .* has ended \(ModuleNotFoundError: .*only_here"),
    ],
)
def test_what_goes_wrong_in_another_process_is_said(work, error, words):
    with pytest.raises(error, match=words), distributed.launched(2, "cpu", work()):
        distributed.on_rank_zero(lambda: None)
    assert distributed.world_size() == 1
    sys.modules.pop("only_here", None)


def test_an_error_of_the_first_process_is_not_blamed_on_the_others(monkeypatch):
    monkeypatch.setattr(distributed, "GRACE_SECONDS", 0.5)
    with pytest.raises(RuntimeError, match="out of memory, say"), distributed.launched(2, "cpu", wait):
        raise RuntimeError("out of memory, say")


def test_what_devices_must_be(volume, tmp_path):
    with pytest.raises(InvalidParameter, match="batch_size must be a multiple of devices, 2, not 1; set batch_size=2"):
        train(TrainConfig(**TINY, devices=2), [volume], tmp_path / "run")
    with pytest.raises(InvalidParameter, match="precision must be 32 or bf16 on a CPU"):
        train(TrainConfig(**TINY, precision="fp16"), [volume], tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_process_that_ends_without_a_reason_before_it_is_ready(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    assert ended.wait(timeout=60) == 0
    with pytest.raises(TrainingFailed, match="before it was ready"):
        _wait_until_ready(tmp_path, [ended])
