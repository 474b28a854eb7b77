"""The loop: what it does between the steps, when it ends, and what its losses learn."""

from types import SimpleNamespace

from segkit.train.loop import Clock


def test_the_clock_is_not_set_back_when_training_begins_again(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("segkit.train.loop.time", SimpleNamespace(monotonic=lambda: now[0]))
    clock, over = Clock(1), []
    for seconds, begins in [(0, True), (30, False), (29, True), (1, False)]:
        now[0] += seconds
        if begins:
            clock.start()
        over.append(clock.is_over())
    assert over == [False, False, False, True]


def test_without_a_limit_the_clock_is_never_over():
    clock = Clock(None)
    clock.start()
    assert not clock.is_over()
