"""What the second of two processes does in tests of their ends; it imports no more than that takes."""

import os

from segkit.errors import InvalidParameter
from segkit.train import distributed


def fail():
    raise InvalidParameter("something is wrong in the second process")


def end():
    os._exit(3)


def wait():
    distributed.on_rank_zero(lambda: None)
