"""Keeps what Lightning and torch do to the process inside a block: messages, warnings, random state, threads."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """No banners, tips or warnings of Lightning; warnings of others are heard."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(lightning|torch|tensorboard)(\..*)?$")
            for name in LOGGERS:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def own_random_state(seed: int, threads: int | None) -> Iterator[None]:
    """torch seeded with `seed` and held to `threads` CPU threads; both as before afterwards."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if threads is not None:
                torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kept_threads() -> Iterator[None]:
    """torch's number of CPU threads as before afterwards: Numba, when it starts its own threads, sets it too."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
