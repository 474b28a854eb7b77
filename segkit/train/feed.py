"""The batches that a step takes, read beside the steps."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import torch
from torch.utils.data import DataLoader

from segkit.train import distributed
from segkit.train.augment.finish import RawBatch, collate
from segkit.train.config import TrainConfig
from segkit.train.data import PatchDataset

READING = 4
"""Threads that read patches, where the settings name no number."""


class ShardedSampler:
    """Counts the patches of this process without end, from `first` on: of each `batch`, its share, in order."""

    def __init__(self, first: int, batch: int) -> None:
        self.first, self.batch = first, batch
        self.share = batch // distributed.world_size()

    def __iter__(self) -> Iterator[int]:
        for start in count(self.first + distributed.rank() * self.share, self.batch):
            yield from range(start, start + self.share)


def patch_loader(patches: PatchDataset, config: TrainConfig, first: int) -> Generator[RawBatch]:
    """Load the patches from number `first` on in batches, without end; to each process its share.

    Those of volumes in memory are prepared by worker processes, if there are any, those of others by threads beside the
    steps. Torch's random state is left to the network. Close it where it is no longer needed.
    """
    numbers, size = ShardedSampler(first, config.batch_size), config.batch_size // distributed.world_size()
    if not all(volume.in_memory for volume in patches.volumes):
        yield from _read_ahead(patches, iter(numbers), size, config.workers or READING)
        return
    yield from DataLoader(
        patches,
        batch_size=size,
        sampler=numbers,
        collate_fn=collate,
        num_workers=config.workers,
        generator=torch.Generator(),
    )


def _read_ahead(patches: PatchDataset, numbers: Iterator[int], size: int, threads: int) -> Generator[RawBatch]:
    """Load batches of `size` patches, of which `threads` are read at the same time, one batch before it is asked for.

    What patch k is hangs on k alone, so that it does not matter which is read first.
    """
    pool = ThreadPoolExecutor(threads, "segkit-patches")
    try:
        ahead = deque(pool.submit(patches.__getitem__, k) for k in islice(numbers, threads + size))
        while True:
            cuts = [ahead.popleft().result() for _ in range(size)]
            ahead.extend(pool.submit(patches.__getitem__, k) for k in islice(numbers, size))
            yield collate(cuts)
    finally:
        pool.shutdown(cancel_futures=True)
