import contextlib
import json
import signal
import warnings
from dataclasses import replace

import pytest
import torch
import training_helpers
from training_helpers import Interrupted, lines, same, stop_after, tubes, weights

from segkit import Grid, Labels, Volume
from segkit.errors import (
    CheckpointMismatch,
    InvalidInput,
    InvalidParameter,
    InvalidShape,
    MissingFile,
    StorageError,
    TrainingFailed,
)
from segkit.models.checkpoint import load_model
from segkit.protocols import Loss
from segkit.train import TrainConfig, TrainingVolume, train
from segkit.train.checkpoint import RunFolder, read_checkpoint, read_progress
from segkit.train.step import learning_rate_factor

TINY = {
    **training_helpers.TINY,
    "model_parameters": {**training_helpers.TINY["model_parameters"], "normalisation": "batch"},
    "validation": {"crop": [4, 16, 16]},
    "validation_patches": 2,
}


@pytest.fixture(scope="module")
def volume():
    return tubes()


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate": 2, "schedule": "cosine", "warmup_steps": 2},
        pytest.param({"batch_size": 2}, marks=pytest.mark.slow),
        pytest.param({"precision": "bf16"}, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_interrupted_ends_with_the_same_weights(volume, tmp_path, options):
    config = TrainConfig(**{**TINY, **options})
    whole = train(config, [volume], tmp_path / "whole", validation=[volume])
    with pytest.raises(Interrupted):
        train(config, [volume], tmp_path / "cut", validation=[volume], on_step=stop_after(5))
    assert load_model(tmp_path / "cut" / "model.safetensors").extra["steps"] == 3
    resumed = train(config, [volume], tmp_path / "cut", validation=[volume], resume=True)
    assert same(weights(whole), weights(resumed))
    assert resumed.steps == whole.steps == 6
    assert [line["step"] for line in lines(tmp_path / "cut")] == [2, 4, 6]
    assert lines(tmp_path / "cut")[-1]["loss"] == lines(tmp_path / "whole")[-1]["loss"]
    assert resumed.validation_loss == whole.validation_loss


def test_another_seed_gives_other_weights(volume, tmp_path):
    first, second = (train(TrainConfig(**TINY, seed=s), [volume], tmp_path / str(s)) for s in (0, 1))
    assert not same(weights(first), weights(second))


def test_the_loss_falls_and_the_network_learns(volume, tmp_path):
    changes = {"steps": 100, "log_every": 10, "batch_size": 2, "patch": [2, 16, 16], "checkpoint_every": 100}
    config = TrainConfig(**{**TINY, **changes, "loss": "constrained-malis+mse"})
    result = train(config, [volume], tmp_path / "run")
    assert result.last_loss < result.first_loss / 2


def test_what_a_run_leaves(volume, tmp_path, capsys):
    seen = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(
            TrainConfig(**TINY, validate_every=4),
            [volume],
            tmp_path / "run",
            validation=[volume],
            on_step=lambda *values: seen.append(values),
        )
    assert not caught and capsys.readouterr() == ("", "")
    run = tmp_path / "run"
    names = ["model.safetensors", "best.safetensors", "best.json", "checkpoints", "metrics.jsonl", "logs"]
    names += ["progress.png", "validation.h5"]
    assert {path.name for path in run.iterdir()} == {"card.json", "config.json", *names}
    assert [s[:2] for s in seen] == [(n, 6) for n in range(1, 7)]
    assert all(s[2] > 0 and s[4] > 0 and isinstance(s[3], dict) for s in seen)
    assert lines(run)[0]["loss"] == pytest.approx((seen[0][2] + seen[1][2]) / 2)
    assert [line["step"] for line in lines(run, "validation_loss")] == [4, 6]
    config = json.loads((run / "config.json").read_text())
    assert config["neighborhood"] == [[-1, 0, 0], [0, -1, 0], [0, 0, -1]] and config["patch"] == [2, 8, 8]
    assert TrainConfig(**config).steps == 6
    assert any("tfevents" in path.name for path in (run / "logs").iterdir())
    checkpoint = torch.load(result.checkpoint, weights_only=True)
    assert checkpoint["global_step"] == checkpoint["patches"] == 6
    trained = load_model(result.model)
    assert (trained.name, trained.extra["steps"]) == ("unet3d", 6)
    assert all(torch.equal(value, checkpoint["state_dict"][f"network.{n}"]) for n, value in weights(result).items())


def test_validation_leaves_training_as_it_was(volume, tmp_path):
    config = TrainConfig(**TINY, validate_every=2)
    without = train(config, [volume], tmp_path / "without")
    assert without.validation_loss is None
    assert same(weights(without), weights(train(config, [volume], tmp_path / "with", validation=[volume])))


def test_the_callers_random_state_and_threads_stay(volume, tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(TrainConfig(**{**TINY, "steps": 1}), [volume], tmp_path / "run")
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["fcn", "unet2d-3sections"])
def test_2d_networks(volume, tmp_path, name):
    parameters = {} if name == "fcn" else {"features": 2, "levels": 2}
    values = {**TINY, "model": name, "model_parameters": parameters, "patch": [16, 16], "steps": 2}
    result = train(TrainConfig(**values), [volume], tmp_path / "run")
    assert load_model(result.model).neighborhood.tolist() == [[0, -1, 0], [0, 0, -1]]


def test_a_folder_that_is_not_empty_is_left_alone(volume, tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(InvalidInput, match=r"--out.*--resume"):
        train(TrainConfig(**TINY), [volume], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_what_a_resume_refuses(volume, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(MissingFile, match="earlier run"):
        train(TrainConfig(**TINY), [volume], run, resume=True)
    result = train(TrainConfig(**TINY), [volume], run)
    wider = {**TINY["model_parameters"], "features": 4}
    for change in ({"model_parameters": wider}, {"epsilon": 1e-3}, {"neighborhood": [[0, 0, 1]]}):
        with pytest.raises(CheckpointMismatch, match=next(iter(change))):
            train(TrainConfig(**{**TINY, **change, "steps": 8}), [volume], run, resume=True)
    assert train(TrainConfig(**{**TINY, "steps": 7}), [volume], run, resume=True).steps == 7
    result.checkpoint.write_bytes(result.checkpoint.read_bytes()[:1000])
    with pytest.raises(StorageError, match="no checkpoint"):
        train(TrainConfig(**{**TINY, "steps": 8}), [volume], run, resume=True)


def test_a_run_that_has_finished_is_left_alone(volume, tmp_path):
    result = train(TrainConfig(**TINY), [volume], tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = train(TrainConfig(**TINY), [volume], tmp_path / "run", resume=True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}.items() <= (
        before.items()
    )
    assert replace(again, seconds=0) == replace(result, seconds=0, already=True)


@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_the_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(volume, tmp_path, stop):
    values = {**TINY, "log_every": 3, "checkpoint_every": 2}
    for name, last in (("whole", 0), ("cut", stop)):
        with contextlib.suppress(Interrupted):
            train(TrainConfig(**values), [volume], tmp_path / name, on_step=stop_after(last))
    train(TrainConfig(**values), [volume], tmp_path / "cut", resume=True)
    whole, cut = (lines(tmp_path / name) for name in ("whole", "cut"))
    assert [(line["step"], line["loss"]) for line in cut] == [(line["step"], line["loss"]) for line in whole]


def test_a_resume_with_another_loss_begins_the_line_of_the_log_anew(volume, tmp_path):
    values = {**TINY, "log_every": 3, "checkpoint_every": 2}
    with pytest.raises(Interrupted):
        train(TrainConfig(**values), [volume], tmp_path / "run", on_step=stop_after(2))
    other = {**values, "loss": "2*mse"}
    train(TrainConfig(**other), [volume], tmp_path / "run", resume=True)
    state = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["journal"]
    assert state == {"loss": "2*mse", "batches": 0, "sums": {}}
    first, second = lines(tmp_path / "run")
    assert (first["step"], second["step"]) == (3, 6) and first["loss"] == pytest.approx(2 * first["mse"])


def test_a_checkpoint_with_code_in_it_is_refused(volume, tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    with pytest.raises(Interrupted):
        train(TrainConfig(**TINY), [volume], tmp_path / "run", on_step=stop_after(4))
    torch.save({"global_step": 3, "patches": 3, "state_dict": Harm()}, tmp_path / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(StorageError):
        train(TrainConfig(**TINY), [volume], tmp_path / "run", resume=True)
    assert not (tmp_path / "harm").exists()


def test_a_run_without_a_checkpoint_begins_again(volume, tmp_path):
    with pytest.raises(Interrupted):
        train(TrainConfig(**TINY), [volume], tmp_path / "cut", on_step=stop_after(2))
    resumed = train(TrainConfig(**TINY), [volume], tmp_path / "cut", resume=True)
    assert same(weights(resumed), weights(train(TrainConfig(**TINY), [volume], tmp_path / "whole")))
    assert [line["step"] for line in lines(tmp_path / "cut")] == [2, 4, 6]


def test_bad_calls_write_nothing(volume, tmp_path):
    small = TrainingVolume(Volume(volume.raw.array[:, :9], Grid()), Labels(volume.labels.array[:, :9], Grid()))
    for error, values, volumes in [
        (InvalidShape, {}, [volume, small]),
        (InvalidShape, {"patch": [2, 9, 9]}, [volume]),
        (InvalidParameter, {"model_parameters": {"feature": 3}}, [volume]),
        (InvalidInput, {"loss": "mse+"}, [volume]),
        (InvalidInput, {"device": "toaster"}, [volume]),
        (InvalidInput, {}, []),
    ]:
        with pytest.raises(error):
            train(TrainConfig(**{**TINY, **values}), volumes, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_clock_stops_a_run_that_can_be_resumed(volume, tmp_path):
    result = train(TrainConfig(**TINY, max_minutes=1e-6), [volume], tmp_path / "run")
    assert result.steps == 1
    assert train(TrainConfig(**TINY), [volume], tmp_path / "run", resume=True).steps == 6


def test_ctrl_c_comes_through_and_works_the_next_time(volume, tmp_path):
    def on_step(*_):
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**TINY), [volume], tmp_path / "run", on_step=on_step)
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_cannot_be_written_is_said(volume, tmp_path):
    def in_the_way(step, *_):
        if step == 1:
            (tmp_path / "run" / "checkpoints" / "last.ckpt").mkdir()

    with pytest.raises(StorageError, match=r"last\.ckpt cannot be written"):
        train(TrainConfig(**TINY), [volume], tmp_path / "run", on_step=in_the_way)


class Explodes(Loss):
    def __call__(self, prediction):
        return prediction.affinities.mean() * float("inf"), {}


def test_a_loss_that_is_not_finite_ends_the_run(volume, tmp_path, monkeypatch):
    monkeypatch.setattr("segkit.train.run.parse_loss", lambda *_, **__: Explodes())
    with pytest.raises(TrainingFailed, match=r"loss at step 1 .*learning_rate.*0\.1\*mse"):
        train(TrainConfig(**TINY), [volume], tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_two_accumulated_batches_are_one_of_twice_the_size(volume, tmp_path):
    values = {**TINY, "model_parameters": {**TINY["model_parameters"], "normalisation": "none"}, "gradient_clip": 0.1}
    calls, steps = [], []
    for name, sizes in {"one": {"batch_size": 4}, "two": {"batch_size": 2, "accumulate": 2}}.items():
        config = TrainConfig(**values, **sizes, validate_every=4, health={"every": 4})
        calls.append(train(config, [volume], tmp_path / name, validation=[volume], on_step=lambda *s: steps.append(s)))
    first, second = calls
    for name, value in weights(first).items():
        torch.testing.assert_close(weights(second)[name], value, rtol=1e-4, atol=1e-6)
    assert [step[:2] for step in steps] == 2 * [(n, 6) for n in range(1, 7)]
    for key in ("loss", "validation_loss", "health/gradient_norm"):
        found = [[(line["step"], line[key]) for line in lines(tmp_path / name, key)] for name in ("one", "two")]
        assert [step for step, _ in found[0]] == [step for step, _ in found[1]]
        assert [value for _, value in found[0]] == pytest.approx([value for _, value in found[1]], rel=1e-4)
    assert torch.load(second.checkpoint, weights_only=True)["patches"] == 24


def test_a_resume_may_change_the_learning_rate(volume, tmp_path):
    """What it does to the rate is what training at that rate from the checkpoint on would do."""
    train(TrainConfig(**{**TINY, "steps": 3}), [volume], tmp_path / "run")
    values = {**TINY, "learning_rate": 1e-3, "schedule": "cosine", "log_every": 1}
    train(TrainConfig(**values), [volume], tmp_path / "run", resume=True)
    plain = learning_rate_factor(TrainConfig(**values))
    rates = [line["learning_rate"] for line in lines(tmp_path / "run", "learning_rate")]
    assert rates[-3:] == pytest.approx([1e-3 * plain(step) for step in (4, 5, 6)])


def test_a_resume_may_change_the_schedule(volume, tmp_path, monkeypatch):
    """The first step after it already has the rate of the new schedule."""
    train(TrainConfig(**{**TINY, "steps": 3}), [volume], tmp_path / "run")
    used, step = [], torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda adam, *a, **b: used.append(adam.param_groups[0]["lr"]) or step(adam, *a, **b)
    )
    values = {**TINY, "schedule": "cosine"}
    train(TrainConfig(**values), [volume], tmp_path / "run", resume=True)
    plain = learning_rate_factor(TrainConfig(**values))
    assert used == [values["learning_rate"] * plain(step) for step in range(3, values["steps"])]


def test_what_recoveries_made_of_the_learning_rate_ends_with_a_new_one(volume, tmp_path):
    result = train(TrainConfig(**TINY), [volume], tmp_path / "run")
    checkpoint = torch.load(result.checkpoint, weights_only=True)
    checkpoint["recovery"] |= {"count": 2, "tries": 2, "factor": 0.01}
    torch.save(checkpoint, result.checkpoint)
    folder = RunFolder(tmp_path / "run")
    kept, fresh = (
        read_progress(folder, TrainConfig(**json.loads(folder.config.read_text()) | {"steps": 9, **change})).recovery
        for change in ({}, {"learning_rate": 1e-4})
    )
    assert (kept.tries, kept.factor, fresh.tries, fresh.factor, fresh.count) == (2, 0.01, 0, 1, 2)


def test_a_run_that_the_clock_stops_is_checked_at_its_end(volume, tmp_path):
    train(TrainConfig(**TINY, max_minutes=1e-6), [volume], tmp_path / "run")
    assert [line["step"] for line in lines(tmp_path / "run", "health/z/variance")] == [0, 1]


def test_checks_may_begin_with_a_resume(volume, tmp_path):
    config = TrainConfig(**TINY, health={"every": 0})
    with pytest.raises(Interrupted):
        train(config, [volume], tmp_path / "run", on_step=stop_after(4))
    checked = config.model_copy(update={"health": TrainConfig(health={"every": 2}).health})
    result = train(checked, [volume], tmp_path / "run", resume=True)
    assert [line["step"] for line in lines(tmp_path / "run", "health/z/variance")] == [3, 4, 6]
    states = [torch.load(tmp_path / "run/checkpoints" / f"{n}.ckpt", weights_only=True) for n in ("last", "healthy")]
    assert torch.equal(states[0]["random_state"]["cpu"], states[1]["random_state"]["cpu"])
    assert same(weights(result), weights(train(config, [volume], tmp_path / "whole")))


def test_left_over_files_of_a_killed_run_go(volume, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.json.0123456789ab.tmp").write_text("{")  # killed before there was any file
    with pytest.raises(Interrupted):
        train(TrainConfig(**TINY), [volume], run, on_step=stop_after(4))
    (run / "checkpoints" / ".last.ckpt.0123456789ab.tmp").write_text("half")
    (run / "checkpoints" / ".mine").write_text("kept")
    train(TrainConfig(**TINY), [volume], run, resume=True)
    assert [path.name for path in run.rglob(".*")] == [".mine"]


def test_learning_rates():
    cosine = learning_rate_factor(TrainConfig(schedule="cosine", warmup_steps=4, steps=14))
    assert [cosine(n) for n in range(4)] == [0.25, 0.5, 0.75, 1]
    assert cosine(9) == pytest.approx(0.5) and cosine(14) == pytest.approx(0)
    assert [learning_rate_factor(TrainConfig())(n) for n in (0, 10**6)] == [1, 1]
