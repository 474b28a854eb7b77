"""Threads that work ahead: order, errors, and an end to everything once nobody listens."""

import threading
import time

import pytest

from segkit.infer.overlap import ahead
from segkit.timing import listening, phase


def _threads():
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread()]


def test_items_come_in_order_and_the_threads_end():
    before = len(_threads())
    doubled = ahead(2 * number for number in ahead(iter(range(100)), depth=1))
    assert list(doubled) == list(range(0, 200, 2))
    assert len(_threads()) == before


def test_work_goes_on_in_another_thread_while_an_item_is_used():
    made = threading.Event()

    def items():
        yield 1
        made.set()
        yield 2

    for item in ahead(items()):
        assert made.wait(10) and item in (1, 2)


def test_it_stays_at_most_so_many_items_ahead():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    taken = ahead(items(), depth=3)
    next(taken)
    time.sleep(0.3)
    assert len(made) <= 1 + 3 + 1  # taken, waiting, in hand
    taken.close()


@pytest.mark.parametrize("error", [ValueError("a bad tile"), KeyboardInterrupt()])
def test_an_error_is_raised_after_the_items_before_it(error):
    def items():
        yield 1
        yield 2
        raise error

    taken, seen = ahead(ahead(items())), []
    with pytest.raises(type(error)) as raised:
        seen.extend(taken)
    assert raised.value is error and seen == [1, 2]


def test_closing_ends_all_threads_and_closes_what_is_inside():
    before, closed = len(_threads()), []

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread())

    taken = ahead(number for number in ahead(items()))
    next(taken)
    taken.close()
    assert len(_threads()) == before and len(closed) == 1 and closed[0] is not threading.main_thread()


def test_phases_of_the_other_thread_are_heard():
    def items():
        with phase("making"):
            time.sleep(0.02)
        yield 1

    with listening() as phases:
        list(ahead(items()))
    assert phases["making"] >= 0.02
