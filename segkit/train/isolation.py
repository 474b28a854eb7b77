"""Keeps what training does to its process inside a block: random state, threads, warnings of libraries."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def isolated(seed: int, threads: int | None) -> Iterator[None]:
    """Seed torch with `seed`, hold it to `threads` CPU threads and silence its warnings; all as before afterwards."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(lightning_fabric|torch|tensorboard)(\..*)?$")
            torch.manual_seed(seed)
            if threads is not None:
                torch.set_num_threads(threads)
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kept_threads() -> Iterator[None]:
    """Keep torch's number of CPU threads: Numba, when it starts its own threads, sets it too."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Keep torch's random state, of the CPU and of `device`."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
