"""segkit run and demo: stages in order, done ones left alone, scores at the end."""

import json
import os
import shutil
import socket
import threading
from pathlib import Path

import h5py
import pytest

from segkit import io
from segkit.cli.run import steps_of
from segkit.cli.steps import Earlier, Step
from segkit.infer.oracle import oracle_affinities
from segkit.io import hdf5
from segkit.io.lock import RUN_LOCK, start_of
from segkit.parameters import overlay
from segkit.run import Record, load_recipe
from segkit.testing.phantoms import neurites

RECIPE = """
title = "From affinities"
[data]
affinities = "affinities.h5"
truth = "data.h5"
[fragment]
affinities = "{data.affinities}"
out = "{out}/fragments.h5"
[agglomerate]
affinities = "{data.affinities}"
fragments = "{out}/fragments.h5"
threshold = [0.5]
out = "{out}/tree.h5"
[evaluate]
segmentation = "{out}/tree.h5"
truth = "{data.truth}"
"""
STAGES = ["fragment", "agglomerate", "evaluate"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    phantom = neurites((12, 32, 32), count=6, seed=3)
    io.write(tmp_path / "data.h5", phantom.truth, "truth")
    io.write(tmp_path / "affinities.h5", oracle_affinities(phantom.truth, seed=0), "affinities")
    (tmp_path / "mine.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stages_that_ran(result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [line.split()[1] for line in result.stderr.splitlines() if line.startswith("segkit ")]


def test_stages_run_once(segkit, folder):
    words = ["run", "mine.toml", "--out", "out", "--json"]
    first = segkit(*words)
    assert stages_that_ran(first) == ["fragment", "agglomerate", "evaluate"]
    again = segkit(*words)
    assert stages_that_ran(again) == []
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert json.loads(first.stdout)["evaluate"]["cremi_score"] >= 0


FILES = ("out/fragments.h5", "out/tree.h5")


def test_files_are_the_same_in_memory_or_not(segkit, folder):
    found = {}
    for memory in ("1B", "1GB"):
        assert segkit("run", "mine.toml", "--out", "out", "--in-memory", memory, "--no-report").exit_code == 0
        found[memory] = [(folder / name).read_bytes() for name in FILES]
        assert not (folder / "out/report.html").exists()
        shutil.rmtree("out")
    assert found["1B"] == found["1GB"]


def test_a_stage_is_finished_once_its_file_is_written(segkit, folder, monkeypatch):
    """And those after it have gone on meanwhile: all files wait until the last stage has begun."""
    begun, finished, write = threading.Event(), [], hdf5.write

    def written(path, records, drop=()):
        assert begun.wait(60)
        stages = json.loads((folder / "out/stages.json").read_text())
        finished.append((path.name, [name for name, entry in stages.items() if "result" in entry]))
        write(path, records, drop)

    begin = Record.begin

    def begins(record, stage, inputs):
        found = begin(record, stage, inputs)
        if stage == "evaluate":
            begun.set()
        return found

    monkeypatch.setattr(Record, "begin", begins)
    monkeypatch.setattr(hdf5, "write", written)
    assert stages_that_ran(segkit("run", "mine.toml", "--out", "out")) == STAGES
    assert finished == [("fragments.h5", []), ("tree.h5", ["fragment"])]
    assert stages_that_ran(segkit("run", "mine.toml", "--out", "out")) == []


def test_a_file_that_cannot_be_written_is_named(segkit, folder, monkeypatch):
    write = hdf5._write

    def full(file, name, record):
        if name == "merge_tree":
            raise OSError(28, "No space left on device")
        write(file, name, record)

    monkeypatch.setattr(hdf5, "_write", full)
    result = segkit("run", "mine.toml", "--out", "out")
    assert result.exit_code == 1 and "out/tree.h5 cannot be written (No space left" in result.stderr, result.stderr
    stages = json.loads((folder / "out/stages.json").read_text())
    assert "result" in stages["fragment"] and "result" not in stages["agglomerate"]
    assert not (folder / "out/tree.h5").exists() and not list((folder / "out").glob(".*"))
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert stages_that_ran(segkit("run", "mine.toml", "--out", "out")) == ["agglomerate", "evaluate"]


def test_only_wanted_files_are_written(segkit, folder):
    words = ["run", "mine.toml", "--out", "out", "--no-report", "--json"]
    whole = json.loads(segkit(*words).stdout)
    shutil.rmtree("out")
    words += ["--keep", "agglomerate"]
    first = segkit(*words)
    assert stages_that_ran(first) == STAGES and json.loads(first.stdout) == whole
    assert [path.name for path in (folder / "out").glob("*.h5")] == ["tree.h5"]
    assert stages_that_ran(again := segkit(*words)) == [] and json.loads(again.stdout) == whole
    assert stages_that_ran(segkit(*words, "--set", "evaluate.metric=voi")) == ["fragment", "evaluate"]
    assert stages_that_ran(segkit(*words[:-2])) == STAGES  # all are wanted now
    assert all((folder / name).exists() for name in FILES)
    assert stages_that_ran(segkit(*words)) == [] and all((folder / name).exists() for name in FILES)


@pytest.mark.parametrize("kept", ["fragment", "agglomerate"])
def test_a_file_that_is_wanted_has_all_that_stages_write_to_it(segkit, folder, kept):
    recipe = folder / "mine.toml"
    recipe.write_text(RECIPE.replace("fragments.h5", "all.h5").replace("tree.h5", "all.h5"))
    assert stages_that_ran(segkit("run", "mine.toml", "--out", "out", "--no-report", "--keep", kept)) == STAGES
    assert io.read_labels("out/all.h5", "fragments").array.any() and io.read_merge_tree("out/all.h5").parents.size


def test_what_does_not_fit_is_written_all_the_same(segkit, folder):
    words = ["run", "mine.toml", "--out", "out", "--no-report", "--keep", "evaluate", "--in-memory", "1B"]
    assert stages_that_ran(segkit(*words)) == STAGES
    assert all((folder / name).exists() for name in FILES)
    assert stages_that_ran(segkit(*words)) == []


def test_a_stage_is_not_done_whose_unwritten_input_is_another(segkit, folder, monkeypatch):
    """Killed after the first stage was made anew, whose file nobody wanted."""
    words = ["run", "mine.toml", "--out", "out", "--no-report", "--keep", "agglomerate"]
    assert stages_that_ran(segkit(*words)) == STAGES
    words += ["--set", "fragment.set.seed_distance=3"]

    def stops(step, values):
        raise KeyError

    with monkeypatch.context() as patch:
        run = Step.run
        patch.setattr(Step, "run", lambda step, values: (run if step.name == "fragment" else stops)(step, values))
        patch.setattr(Record, "begin", lambda record, stage, inputs: False)  # it was killed before it was noted
        assert segkit(*words).exit_code == 1
    stages = json.loads((folder / "out/stages.json").read_text())
    assert all("result" in stages[name] for name in STAGES)
    assert stages_that_ran(segkit(*words)) == STAGES


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--keep", "agglomerat"], "--keep must be one of fragment, agglomerate, evaluate, not 'agglomerat'"),
        (["--keep", "fragment", "--blockwise"], "--keep cannot be had with --blockwise"),
    ],
)
def test_what_cannot_be_kept_is_refused(segkit, folder, more, said):
    result = segkit("run", "mine.toml", "--out", "out", *more)
    assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert not (folder / "out").exists()


def test_a_file_that_two_stages_write_is_that_of_both(segkit, folder):
    words = ["--set", "fragment.out={out}/one.h5", "--set", "agglomerate.out={out}/one.h5", "--set"]
    words += ["agglomerate.fragments={out}/one.h5", "--set", "evaluate.segmentation={out}/one.h5"]
    assert stages_that_ran(segkit("run", "mine.toml", "--out", "out", *words)) == STAGES
    assert {"merge_tree", "volumes/fragments", "volumes/segmentation"} <= set(io.datasets(Path("out/one.h5")))


def test_a_change_runs_what_depends_on_it(segkit, folder):
    words = ["run", "mine.toml", "--out", "out"]
    segkit(*words)
    changed = segkit(*words, "--set", "agglomerate.threshold=[0.2]")
    assert stages_that_ran(changed) == ["agglomerate", "evaluate"]
    (folder / "out" / "fragments.h5").unlink()
    assert stages_that_ran(segkit(*words, "--set", "agglomerate.threshold=[0.2]"))[0] == "fragment"


def test_a_dry_run_prints_commands_and_writes_nothing(segkit, folder):
    result = segkit("run", "mine.toml", "--out", "out", "--dry-run")
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["fragment", "agglomerate", "evaluate"]
    assert not (folder / "out").exists()


def test_a_failing_stage_leaves_the_finished_ones(segkit, folder):
    with h5py.File("data.h5") as data, h5py.File("empty.h5", "w") as empty:
        data.copy("volumes", empty)
        empty["volumes/labels/neuron_ids"][...] = 0
    result = segkit("run", "mine.toml", "--out", "out", "--set", "data.truth=empty.h5")
    assert result.exit_code == 2 and "truth must hold at least one object" in result.stderr
    assert stages_that_ran(segkit("run", "mine.toml", "--out", "out")) == ["evaluate"]


@pytest.fixture
def training(folder):
    """A recipe that only trains, for four steps."""
    phantom = neurites((8, 24, 24), count=4, seed=1)
    io.write_all("train.h5", {"raw": phantom.raw, "truth": phantom.truth})
    path = folder / "train.toml"
    path.write_text(
        '[train]\ndata = "train.h5"\nmodel = "fcn"\nloss = "mse"\nsteps = 4\nout = "{out}/run"\n'
        "set = { patch = [1, 16, 16], checkpoint_every = 2 }\n"
    )
    return path


@pytest.mark.parametrize("step", [1, 3], ids=["before a checkpoint", "after a checkpoint"])
def test_training_that_was_cut_off_goes_on(segkit, folder, training, monkeypatch, step):
    from segkit.train.journal import Journal

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "end_step", cut_off_at(step, Journal.end_step))
        assert segkit("run", "train.toml", "--out", "out").exit_code == 1
    result = segkit("run", "train.toml", "--out", "out")
    assert result.exit_code == 0 and "--resume" in result.stderr, result.stderr
    assert last_step(folder / "out/run") == 4


def test_training_that_was_cut_off_just_after_its_end_is_finished(segkit, folder, training):
    assert segkit("run", "train.toml", "--out", "out").exit_code == 0
    stages = json.loads((folder / "out/stages.json").read_text())
    del stages["train"]["result"]
    (folder / "out/stages.json").write_text(json.dumps(stages))
    before = (folder / "out/run/model.safetensors").stat().st_mtime_ns
    result = segkit("run", "train.toml", "--out", "out")
    assert result.exit_code == 0 and "has finished its 4 steps; set steps above 4 to train further" in result.stderr
    assert (folder / "out/run/model.safetensors").stat().st_mtime_ns == before
    assert "train: finished before" in segkit("run", "train.toml", "--out", "out").stderr


def test_training_with_other_settings_moves_the_old_run_aside(segkit, folder, training):
    segkit("run", "train.toml", "--out", "out")
    result = segkit("run", "train.toml", "--out", "out", "--set", "train.steps=2")
    assert result.exit_code == 0 and "run.before-1" in result.stderr, result.stderr
    assert (last_step(folder / "out/run"), last_step(folder / "out/run.before-1")) == (2, 4)


def test_a_run_that_the_recipe_did_not_make_is_left_alone(segkit, folder, training):
    words = ["train", "train.h5", "--model", "fcn", "--loss", "mse", "--steps", 1, "--set", "patch=[1, 16, 16]"]
    assert segkit(*words, "--out", folder / "run").exit_code == 0
    result = segkit("run", "train.toml", "--out", ".")
    assert result.exit_code == 2 and "must be a new or empty folder" in result.stderr


def test_names_of_later_stages_are_checked_first(segkit, folder):
    for more in ([], ["--dry-run"]):
        result = segkit("run", "mine.toml", "--out", "out", "--set", "agglomerate.backend=pyhton", *more)
        assert result.exit_code == 2 and "did you mean 'python'?" in result.stderr
    assert not (folder / "out").exists()


def test_a_dry_run_is_json_where_asked(segkit, folder):
    planned = json.loads(segkit("run", "mine.toml", "--out", "out", "--dry-run", "--json").stdout)
    assert [(step["stage"], step["verb"]) for step in planned] == [(verb, verb) for verb in STAGES]
    assert planned[0]["command"] == ["segkit", "fragment", "affinities.h5", "--out", "out/fragments.h5"]


PIPELINE = """
[train]
data = "train.h5"
val = "train.h5"
model = "unet3d"
loss = "bce"
steps = 4
out = "{out}/run"
[train.set]
patch = [4, 16, 16]
model = { features = 2, growth = 1, pooling = [[1, 2, 2]], padding = "same" }
[infer]
raw = "train.h5"
run = "{out}/run"
out = "{out}/affinities.h5"
[fragment]
affinities = "{out}/affinities.h5"
out = "{out}/fragments.h5"
[agglomerate]
affinities = "{out}/affinities.h5"
fragments = "{out}/fragments.h5"
threshold = 0.5
out = "{out}/tree.h5"
[evaluate]
segmentation = "{out}/tree.h5"
truth = "train.h5"
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("infer.raw=trian.h5", ["[infer]: trian.h5 does not exist; did you mean train.h5?"]),
        ("infer.raw=affinities.h5", ["[infer]: affinities.h5 has no raw data"]),
        ("infer.precision=fp16", ["[infer]: precision must be 32 or bf16 on a CPU"]),
        ("infer.batch-size=0", ["[infer]: Invalid value for '--batch-size'"]),
        ("infer.tle=[1,2,3]", ["'tle' of stage 'infer'", "did you mean 'tile'?"]),
        ("fragment.set.treshold=0.5", ["[fragment]: fragmenter 'watershed'", "did you mean 'threshold'?"]),
        ("fragment.mask=none.h5", ["[fragment]: none.h5 does not exist"]),
        ("agglomerate.set.score=maen", ["[agglomerate]: parameter 'score' of agglomerator 'python'", "'maen'"]),
        ("agglomerate.threshold=50", ["[agglomerate]: --threshold must lie in 0..1"]),
        ("evaluate.set.bordr=25", ["[evaluate]: metric 'cremi' has no parameter 'bordr'", "did you mean 'border'?"]),
        ("evaluate.truth=affinities.h5", ["[evaluate]: affinities.h5 has no ground truth"]),
        ("evaluate.worst=3 evaluate.sweep=true", ["[evaluate]: --worst needs a segmentation, not --sweep"]),
        ("train.set.lerning_rate=1", ["[train]: training has no setting 'lerning_rate'", "'learning_rate'?"]),
        ("train.set.model.fetures=2", ["[train]: model 'unet3d' has no parameter 'fetures'"]),
        ("train.set.patch=[4,15,16]", ["[train]: patch must be an output that the model can give, not [4, 15, 16]"]),
        ("train.set.patch=[4,64,64]", ["[train]: training volume train.h5 must hold raw data of (4, 64, 64)"]),
        ("train.loss=bce+malsi", ["[train]:", "malsi"]),
        ("train.loss=bce train.set.loss.balancd=true", ["[train]: loss 'bce' has no parameter 'balancd'"]),
        ("train.set.validation.agglomerator=pyton", ["[train]:", "did you mean 'python'?"]),
        ("train.set.health.fragmenter_parameters.x=1", ["[train]: fragmenter 'watershed' has no parameter 'x'"]),
        ("train.val=affinities.h5", ["[train]: affinities.h5 has no raw data"]),
        (
            "agglomerate.threshold={result.fragment.theshold}",
            ["[agglomerate]: result 'theshold' must be one of out, fra"],
        ),
        ("evaluate.border={result.train.threshold}", ["[evaluate]: result 'threshold' must be one of out, steps"]),
        (
            "agglomerate.affinities={out}/fragments.h5",
            [
                "[agglomerate]: out/fragments.h5 must hold affinities, not fragments, which an earlier stage writes",
                "`segkit infer RAW",
            ],
        ),
        ("agglomerate.affinities={out}/run", ["out/run must hold affinities, not training run, which an earlier"]),
        (
            "agglomerate.fragments={out}/affinities.h5:volumes/affinities",
            ["must hold fragments, not affinities, which"],
        ),
        (
            "evaluate.segmentation={out}/fragments.h5",
            ["[evaluate]: out/fragments.h5 must hold segmentation, not fragm"],
        ),
        (
            "evaluate.segmentation={out}/fragments.h5 evaluate.sweep=true",
            ["must hold merge tree, not fragments, which"],
        ),
        ("agglomerate.threshold=[0.4,0.5]", ["[evaluate]: out/tree.h5 must hold segmentation, not merge tree and fra"]),
        ("train.set.validation.crop=[99,9,9]", ["[train]: validation.crop must be a shape z, y, x inside"]),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry"])
def test_nothing_is_found_late_that_can_be_found_early(segkit, folder, training, change, said, more):
    (folder / "long.toml").write_text(PIPELINE)
    changes = [word for each in change.split() for word in ("--set", each)]
    result = segkit("run", "long.toml", "--out", "out", *changes, *more)
    assert result.exit_code == 2, (result.stdout, result.stderr)
    assert all(part in result.stderr for part in ["recipe long.toml", *said]), result.stderr
    assert not (folder / "out").exists() and not result.stdout


def test_a_recipe_without_faults_is_planned(segkit, folder, training):
    (folder / "long.toml").write_text(PIPELINE)
    result = segkit("run", "long.toml", "--out", "out", "--dry-run")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 5, result.stderr


@pytest.mark.parametrize(
    "change",
    [
        "evaluate.segmentation={out}/fragments.h5:volumes/fragments",
        "evaluate.segmentation={out}/tree.h5 evaluate.sweep=true",
        "agglomerate.fragments={result.fragment.out}",
        "agglomerate.threshold=[0.4,0.5] evaluate.segmentation={out}/tree.h5:volumes/segmentation_0.4",
        "fragment.mask=data.h5:volumes/labels/neuron_ids",
    ],
)
def test_a_stage_takes_what_an_earlier_one_makes(segkit, folder, training, change):
    (folder / "long.toml").write_text(PIPELINE)
    changes = [word for each in change.split() for word in ("--set", each)]
    result = segkit("run", "long.toml", "--out", "out", *changes, "--dry-run")
    assert result.exit_code == 0, result.stderr


def test_what_lies_in_a_file_that_a_stage_adds_to_is_there(segkit, folder):
    result = segkit("run", "mine.toml", "--out", "out", "--set", "fragment.out=data.h5", "--dry-run")
    assert result.exit_code == 2 and "out/fragments.h5 does not exist" in result.stderr
    own = ["--set", "fragment.out=data.h5", "--set", "agglomerate.fragments=data.h5"]
    result = segkit("run", "mine.toml", "--out", "out", *own, "--dry-run")
    assert result.exit_code == 0, result.stderr


MORE = """
[fragment-both]
verb = "fragment"
affinities = "affinities.h5"
out = "{out}/both.h5"
[segment]
merge_tree = "{out}/tree.h5"
threshold = 0.5
out = "{out}/one.h5"
[segment-several]
verb = "segment"
merge_tree = "{out}/tree.h5"
threshold = [0.4, 0.5]
out = "{out}/several.h5"
[segment-listed]
verb = "segment"
merge_tree = "{out}/tree.h5"
threshold = 0.5
uncertain = 3
[sweep]
verb = "evaluate"
segmentation = "{out}/tree.h5"
truth = "{data.truth}"
sweep = true
[others]
verb = "evaluate"
segmentation = "{out}/one.h5"
truth = "{data.truth}"
metric = ["voi", "rand"]
"""


TRAINED = """
[infer]
raw = "train.h5"
run = "{out}/run"
out = "{out}/affinities.h5"
"""


@pytest.mark.parametrize("network", [False, True])
def test_results_and_files_are_those_that_verbs_declare(segkit, folder, training, network):
    (folder / "more.toml").write_text(training.read_text() + TRAINED if network else RECIPE + MORE)
    result = segkit("run", "more.toml", "--out", "out", "--json")
    assert result.exit_code == 0, result.stderr
    earlier = Earlier()
    for step in steps_of(load_recipe("more.toml", Path("out"))):
        earlier.add(step)
    found = json.loads(result.stdout)
    assert {name: set(values) for name, values in found.items()} == {
        name: set(values) for name, values in earlier.results.items()
    }
    for path, things in earlier.files.items():
        if things == {"": "run"}:
            assert (path / "config.json").exists()
        else:
            assert all(io.exists(f"{path}:{name}", role) for name, role in things.items()), path


def test_debug_reaches_the_stages(segkit, folder):
    result = segkit("run", "mine.toml", "--out", "out", "--set", "data.truth=affinities.h5", "--debug")
    assert isinstance(result.exception, LookupError)


def test_files_of_later_stages_must_be_there_before_the_first_runs(segkit, folder):
    result = segkit("run", "mine.toml", "--out", "out", "--set", "data.truth=dta.h5")
    assert result.exit_code == 2 and "dta.h5 does not exist; did you mean data.h5?" in result.stderr
    assert not (folder / "out").exists()


def test_a_folder_in_which_another_process_works_is_refused(segkit, folder, training):
    hold(folder / "out")
    result = segkit("run", "train.toml", "--out", "out")
    assert result.exit_code == 1 and f"the run {folder / 'out'} is in use by process {os.getppid()}" in result.stderr
    assert [item.name for item in (folder / "out").iterdir()] == [".run.lock"]
    hold(folder / "out/run")
    result = segkit("train", "train.h5", "--out", "out/run")
    assert result.exit_code == 1 and f"the run {folder / 'out/run'} is in use by process" in result.stderr


def test_a_run_in_which_another_process_trains_is_not_moved_aside(segkit, folder, training):
    segkit("run", "train.toml", "--out", "out")
    hold(folder / "out/run")
    result = segkit("run", "train.toml", "--out", "out", "--set", "train.steps=2")
    assert result.exit_code == 1 and "is in use by process" in result.stderr and last_step(folder / "out/run") == 4


def hold(run):
    """Let the process that has started this one hold the lock of a run."""
    run.mkdir(exist_ok=True)
    pid = os.getppid()
    holder = {"host": socket.gethostname(), "pid": pid, "start": start_of(pid), "command": "segkit", "since": "now"}
    (run / RUN_LOCK).write_text(json.dumps(holder))


def last_step(run) -> int:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]


def cut_off_at(step: int, original):
    def hook(self, now, *arguments):
        if now == step:
            raise RuntimeError("cut off")
        return original(self, now, *arguments)

    return hook


def test_demo_on_few_steps(segkit, tmp_path, monkeypatch):
    from segkit import run
    from segkit.cli import demo

    load_recipe = run.load_recipe
    small = {"train": {"set": {"patch": [8, 16, 16], "model": {"features": 2}}}}
    monkeypatch.setattr(run, "load_recipe", lambda name, out, given: load_recipe(name, out, overlay(given, small)))
    monkeypatch.setattr(demo, "VOLUMES", (("train", (24, 64, 64), 0), ("test", (16, 48, 48), 1)))
    monkeypatch.chdir(tmp_path)
    result = segkit("demo", "--steps", 1, "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["fragments"].keys() == scores["agglomerated, python"].keys()
    assert (tmp_path / "demo-output" / "demo.png").stat().st_size > 0
