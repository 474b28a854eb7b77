import json
from types import SimpleNamespace

from segkit.train.callbacks import Clock, Journal
from segkit.train.finite import FiniteWatch


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
    trainer = SimpleNamespace(
        global_step=0,
        accumulate_grad_batches=1,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 1}])],
        logger=SimpleNamespace(log_metrics=lambda *_: None),
    )
    journal = Journal(tmp_path / "log", 10, 5, lambda step, total, loss, *_: seen.append((step, loss)))
    for step in range(1, 11):
        trainer.global_step = step
        outputs = {"value": OnDevice(step, waits), "parts": {}}
        before = len(waits)
        journal.on_train_batch_end(trainer, SimpleNamespace(watch=FiniteWatch()), outputs, None, step - 1)
        assert bool(len(waits) - before) == (step in (1, 5, 10))
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(5, 3), (10, 8)]
    assert seen == [(1, 1), (2, 1), (3, 1), (4, 1), *((n, 5) for n in range(5, 10)), (10, 10)]


def test_the_clock_is_not_set_back_when_training_begins_again(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("segkit.train.callbacks.time", SimpleNamespace(monotonic=lambda: now[0]))
    clock, trainer = Clock(1), SimpleNamespace(should_stop=False, accumulate_grad_batches=1)
    stopped = []
    for seconds, begins in [(0, True), (30, False), (29, True), (1, False)]:
        now[0] += seconds
        if begins:
            clock.on_train_start(trainer, None)
        else:
            clock.on_train_batch_end(trainer, None, {}, None, 0)
        stopped.append(trainer.should_stop)
    assert stopped == [False, False, False, True]
