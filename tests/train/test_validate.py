"""Which network is kept, when training ends early, and that a resume makes no difference to either."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_helpers import same, weights_in

from segkit import Grid, Labels, Volume, io
from segkit.errors import InvalidInput, InvalidParameter
from segkit.models.checkpoint import load_model
from segkit.train import TrainConfig, TrainingVolume, train
from segkit.train.checkpoint import RunFolder
from segkit.train.scoring import Segmenter
from segkit.train.validate import Validation, ValidationData

TINY = {
    "model_parameters": {"features": 2, "growth": 1, "pooling": [[1, 2, 2]], "padding": "same"},
    "loss": "mse",
    "patch": [2, 8, 8],
    "steps": 6,
    "learning_rate": 1e-2,
    "checkpoint_every": 3,
    "validate_every": 1,
    "validation_patches": 1,
    "health": {"every": 0},
    "device": "cpu",
    "threads": 1,
}
UP_AND_DOWN = {1: 0.9, 2: 0.5, 3: 0.7, 4: 0.4, 5: 0.8, 6: 0.4}


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def volume():
    labels = np.ones((6, 16, 16), int)
    labels[:, :, 8:] = 2
    raw = np.random.default_rng(0).integers(0, 255, labels.shape).astype(np.uint8)
    return TrainingVolume(Volume(raw, Grid()), Labels.convert(labels, Grid()))


@pytest.fixture
def scored(monkeypatch):
    """A callable that decides the score of the network after each step; None = it cannot be scored."""

    def put(scores):
        def score(self, step):
            found = scores[step]
            return {"problem": "no"} if found is None else {"cremi_score": found, "threshold": step / 10}

        monkeypatch.setattr(Validation, "_score", score)

    return put


def config(**changes):
    return TrainConfig(**{**TINY, **changes})


def validated(run):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if "validation_loss" in line]


def stop_after(last):
    def on_step(step, *_):
        if step == last:
            raise Interrupted

    return on_step


def raise_interrupted(*_):
    raise Interrupted


def test_the_best_is_kept_when_later_ones_are_worse_or_as_good(volume, tmp_path, scored):
    scored(UP_AND_DOWN)
    run = tmp_path / "run"
    result = train(config(), [volume], run, validation=[volume])
    four = train(config(steps=4), [volume], tmp_path / "four")
    assert result.best.step == 4 and result.best.scores["threshold"] == 0.4
    assert same(weights_in(run / "best.safetensors"), weights_in(four.model))
    assert not same(weights_in(run / "best.safetensors"), weights_in(result.model))
    assert [line["validation/cremi_score"] for line in validated(run)] == list(UP_AND_DOWN.values())
    kept, said = json.loads((run / "best.json").read_text()), load_model(run / "best.safetensors").extra
    assert said["validation"] == kept and said["steps"] == kept["step"] == 4
    assert kept["fragmenter"]["name"] == "watershed" and kept["agglomerator"]["parameters"]["score"] == "mean"
    assert "validation" not in load_model(result.model).extra


def test_a_real_score_is_logged_and_told(volume, tmp_path):
    seen = {}
    result = train(
        config(validate_every=4), [volume], tmp_path / "run", validation=[volume], on_validation=seen.__setitem__
    )
    lines = validated(tmp_path / "run")
    assert list(seen) == [line["step"] for line in lines] == [4, 6]
    for line in lines:
        assert seen[line["step"]]["loss"] == line["validation_loss"]
        names = ("cremi_score", "voi_split", "voi_merge", "rand_index", "threshold")
        assert all(seen[line["step"]][name] == line[f"validation/{name}"] for name in names)
    assert result.best.scores["cremi_score"] == min(line["validation/cremi_score"] for line in lines)


@pytest.mark.parametrize(
    ("scores", "settings", "ends"),
    [
        (UP_AND_DOWN, {"patience": 2}, 6),  # nothing better at 5 and 6
        (UP_AND_DOWN, {"patience": 1}, 3),
        (UP_AND_DOWN, {"patience": 3}, 6),
        (UP_AND_DOWN, {"patience": 2, "min_improvement": 0.2}, 4),  # 0.4 is no 0.2 less than 0.5
        (dict.fromkeys(range(1, 7)), {"patience": 2}, 2),  # it is never scored
    ],
)
def test_when_it_ends(volume, tmp_path, scored, scores, settings, ends):
    scored(scores)
    result = train(config(validation=settings), [volume], tmp_path / "run", validation=[volume])
    assert result.steps == ends and load_model(result.model).extra["steps"] == ends
    assert result.ended_by == ("steps" if ends == 6 else "patience")
    assert [line["step"] for line in validated(tmp_path / "run")] == list(range(1, ends + 1))


@pytest.mark.parametrize("last", [2, 4, 5])
def test_a_resume_ends_where_the_run_would_have_ended(volume, tmp_path, scored, last):
    scored({1: 0.9, 2: 0.5, 3: 0.7, 4: 0.8, 5: 0.6, 6: 0.1})
    values = config(validation={"patience": 3}, checkpoint_every=2, log_every=1)
    whole = train(values, [volume], tmp_path / "whole", validation=[volume])
    with pytest.raises(Interrupted):
        train(values, [volume], tmp_path / "cut", validation=[volume], on_step=stop_after(last))
    resumed = train(values, [volume], tmp_path / "cut", validation=[volume], resume=True)
    assert whole.steps == resumed.steps == 5 and whole.best == resumed.best and whole.best.step == 2
    for name in ("model.safetensors", "best.safetensors"):
        assert same(weights_in(tmp_path / "whole" / name), weights_in(tmp_path / "cut" / name))
    assert validated(tmp_path / "whole") == validated(tmp_path / "cut")


def test_a_run_killed_while_it_ended_early_ends_there_again(volume, tmp_path, scored, monkeypatch):
    """The check of health has kept the last step, the checkpoint of the end is not written."""
    scored({1: 0.9, 2: 0.5, 3: 0.7, 4: 0.8, 5: 0.6, 6: 0.1})
    values = config(validation={"patience": 3}, checkpoint_every=2, health={"every": 1})
    whole = train(values, [volume], tmp_path / "whole", validation=[volume])
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("segkit.train.loop.Loop._finish", raise_interrupted)
        train(values, [volume], tmp_path / "cut", validation=[volume])
    healthy = torch.load(tmp_path / "cut" / "checkpoints" / "healthy.ckpt", weights_only=True)
    assert healthy["global_step"] == whole.steps == 5
    resumed = train(values, [volume], tmp_path / "cut", validation=[volume], resume=True)
    assert (resumed.steps, resumed.ended_by) == (5, "patience") and same(
        weights_in(whole.model), weights_in(resumed.model)
    )
    assert validated(tmp_path / "whole") == validated(tmp_path / "cut")


def test_the_command_line_says_what_ended_a_run(segkit, volume, tmp_path, scored):
    scored(dict.fromkeys(range(1, 7), 0.5))
    io.write_all(tmp_path / "data.h5", {"raw": volume.raw, "truth": volume.labels})
    data = tmp_path / "data.h5"
    settings = {"patch": "[2,8,8]", "validate_every": 1, "health.every": 0, "validation.patience": 2}
    settings |= {f"model.{name}": value for name, value in TINY["model_parameters"].items()}
    words = ["train", data, "--val", data, "--loss", "mse", "--steps", 6, "--device", "cpu", "--threads", 1]
    words += [word for name, value in settings.items() for word in ("--set", f"{name}={str(value).replace(' ', '')}")]
    ended = segkit(*words, "--out", tmp_path / "patience")
    said = "ended early, after step 3 of 6: no better CREMI score in 2 validations in a row (validation.patience)"
    assert ended.exit_code == 0 and said in ended.stderr, ended.stderr
    again = segkit(*words, "--out", tmp_path / "patience", "--resume")
    said = "has ended early, after 3 steps; set validation.patience above 2, or to 0, to train further"
    assert again.exit_code == 0 and said in again.stderr and "steps in" not in again.stderr
    stopped = segkit(*words, "--out", tmp_path / "clock", "--set", "max_minutes=1e-6")
    assert "stopped by max_minutes after step 1 of 6; --resume goes on" in stopped.stderr
    whole = segkit(*words, "--out", tmp_path / "whole", "--set", "validation.patience=0")
    assert "6 steps in" in whole.stderr and "ended early" not in whole.stderr and "stopped" not in whole.stderr


def test_a_run_that_ended_early_goes_on_with_more_patience(volume, tmp_path, scored):
    scored(UP_AND_DOWN)
    calls = {"validation": [volume], "resume": True}
    train(config(validation={"patience": 1}), [volume], tmp_path / "run", validation=[volume])
    again = train(config(validation={"patience": 1}), [volume], tmp_path / "run", **calls)
    assert again.already and (again.steps, again.ended_by) == (3, "patience")
    result = train(config(validation={"patience": 3}), [volume], tmp_path / "run", **calls)
    assert result.steps == 6 and result.best.step == 4


def test_a_better_network_that_a_resume_goes_back_behind_is_kept(volume, tmp_path, scored):
    """As after a collapse: what comes instead is worse."""
    scored({1: 0.9, 2: 0.8, 3: 0.7, 4: 0.1})
    with pytest.raises(Interrupted):
        train(config(log_every=1), [volume], tmp_path / "run", validation=[volume], on_step=stop_after(5))
    kept = weights_in(tmp_path / "run" / "best.safetensors")
    scored(dict.fromkeys(range(1, 7), 0.5))
    result = train(config(log_every=1), [volume], tmp_path / "run", validation=[volume], resume=True)
    assert result.best.step == 4 and same(kept, weights_in(tmp_path / "run" / "best.safetensors"))


def test_scores_of_other_volumes_are_not_compared(volume, tmp_path, scored):
    scored(UP_AND_DOWN)
    train(config(steps=4), [volume], tmp_path / "run", validation=[volume])
    other = TrainingVolume(volume.raw, Labels(volume.labels.array + np.uint64(1), Grid()))
    result = train(config(), [volume], tmp_path / "run", validation=[other], resume=True)
    assert result.best.step == 6  # 0.4 at step 4 was of another volume; 0.8 at 5, then 0.4 at 6


@pytest.mark.parametrize("error", [InvalidInput("the output is NaN"), MemoryError("all gone")])
def test_what_cannot_be_scored_does_not_end_training(volume, tmp_path, monkeypatch, error):
    def fail(*_):
        torch.rand(3)  # nor may it move training's random numbers
        raise error

    seen = []
    alone = train(config(), [volume], tmp_path / "alone")
    monkeypatch.setattr(Segmenter, "score", fail)
    calls = {"validation": [volume], "on_validation": lambda step, values: seen.append(values["problem"])}
    result = train(config(), [volume], tmp_path / "run", **calls)
    assert result.steps == 6 and result.best is None and not (tmp_path / "run" / "best.safetensors").exists()
    assert {line["validation/problem"] for line in validated(tmp_path / "run")} == set(seen) == {str(error)}
    first, second = (torch.load(each.checkpoint, weights_only=True) for each in (alone, result))
    assert torch.equal(first["random_state"]["cpu"], second["random_state"]["cpu"])
    assert same(weights_in(alone.model), weights_in(result.model))


def test_a_run_that_the_clock_stopped_is_validated(volume, tmp_path, scored):
    scored(UP_AND_DOWN)
    values = config(max_minutes=1e-6, validate_every=4)
    result = train(values, [volume], tmp_path / "run", validation=[volume])
    assert result.steps == 1 and result.best.step == 1 and len(validated(tmp_path / "run")) == 1


def test_the_loss_alone(volume, tmp_path):
    result = train(
        config(validation={"segmentation": False}), [volume], tmp_path / "run", validation=[volume], on_validation=print
    )
    assert result.best is None and result.validation_loss is not None
    assert all("validation/cremi_score" not in line for line in validated(tmp_path / "run"))


def test_nothing_is_written_if_a_volume_cannot_be_segmented(volume, tmp_path):
    with pytest.raises(InvalidInput, match=r"validation\.crop"):
        train(config(validation={"crop": [7, 8, 8]}), [volume], tmp_path / "run", validation=[volume])
    with pytest.raises(InvalidParameter, match=r"'validation\.patince'.*'validation\.patience'"):
        config(validation={"patince": 3})
    assert not list(tmp_path.iterdir())


def test_what_is_validated_is_what_is_saved(volume, tmp_path, monkeypatch):
    """The average of the weights, where they are averaged."""
    seen = []
    monkeypatch.setattr(Segmenter, "score", lambda self, network, _: seen.append(network) or {"cremi_score": 1.0})
    values = config(averaging={"decay": 0.9}, steps=3, validate_every=3)
    result = train(values, [volume], tmp_path / "run", validation=[volume])
    alone = train(config(steps=3), [volume], tmp_path / "alone")
    (network,) = seen
    assert same(network.state_dict(), weights_in(tmp_path / "run" / "best.safetensors"))
    assert same(weights_in(result.model), weights_in(tmp_path / "run" / "best.safetensors"))
    assert not same(weights_in(alone.model), weights_in(result.model))


@pytest.mark.slow
def test_two_processes_keep_what_one_keeps(volume, tmp_path):
    changes = {"batch_size": 2, "steps": 4, "validate_every": 2, "validation": {"patience": 2}}
    one, two = (
        train(config(devices=devices, **changes), [volume], tmp_path / str(devices), validation=[volume])
        for devices in (1, 2)
    )
    assert one.best.step == two.best.step and one.best.scores == pytest.approx(two.best.scores, abs=1e-3)
    assert [line["step"] for line in validated(tmp_path / "2")] == [line["step"] for line in validated(tmp_path / "1")]


def test_one_process_segments_and_all_decide_alike(tmp_path, monkeypatch):
    """Process 1 of two: it is told the scores of process 0, writes no network, and stops when that one stops."""
    told = [{"cremi_score": 0.5}, None, {"cremi_score": 0.6}, None]
    monkeypatch.setattr("segkit.train.validate.distributed", SimpleNamespace(on_rank_zero=lambda work: told.pop(0)))
    segmenter = SimpleNamespace(digest="volumes", made_by={}, score=lambda *_: pytest.fail("it segmented"))
    objective = SimpleNamespace(config=config(validation={"patience": 1}))
    fabric, journal = SimpleNamespace(device=torch.device("cpu")), SimpleNamespace(write=lambda *_: None)
    validation = Validation(ValidationData([], segmenter), RunFolder(tmp_path), objective, fabric, journal)
    validation._loss = lambda *_: 0.0
    assert [validation.run(step) for step in (1, 2)] == [False, True] and not told
    assert validation.state() == {"score": 0.5, "waited": 1, "digest": "volumes"}
