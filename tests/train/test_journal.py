"""The log: what it writes, and when it waits for an accelerator."""

import json
import sys
from types import SimpleNamespace

from training_helpers import TINY, tubes

from segkit.train import TrainConfig, train
from segkit.train.checkpoint import RunFolder
from segkit.train.health import FiniteWatch
from segkit.train.journal import Journal


class OnDevice:
    """A number on an accelerator, which counts how often somebody waits for it."""

    device = SimpleNamespace(type="cuda")

    def __init__(self, value, waits):
        self.value, self.waits = value, waits

    def detach(self):
        return self

    def __add__(self, other):
        return OnDevice(self.value + getattr(other, "value", other), self.waits)

    __radd__ = __add__

    def __float__(self):
        self.waits.append(self.value)
        return float(self.value)


def test_on_accelerators_the_log_waits_for_the_device_only_when_it_writes(tmp_path):
    waits, seen = [], []
    config = TrainConfig(steps=10, log_every=5)
    journal = Journal(RunFolder(tmp_path), config, 0, lambda step, total, loss, *_: seen.append((step, loss)))
    for step in range(1, 11):
        before = len(waits)
        journal.add(OnDevice(step, waits), {})
        journal.end_step(step, 1.0, FiniteWatch())
        assert bool(len(waits) - before) == (step in (1, 5, 10))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(5, 3), (10, 8)]
    assert seen == [(1, 1), (2, 1), (3, 1), (4, 1), *((n, 5) for n in range(5, 10)), (10, 10)]


def test_without_tensorboard_a_run_says_nothing_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = TrainConfig(**{**TINY, "validate_every": 3})
    result = train(config, [tubes()], tmp_path / "run", validation=[tubes()])
    assert result.steps == 6 and not (tmp_path / "run" / "logs").exists() and capsys.readouterr() == ("", "")
    assert (tmp_path / "run" / "metrics.jsonl").exists() and (tmp_path / "run" / "progress.png").exists()
