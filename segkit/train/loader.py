"""The patches of a run, in batches, to each process its share."""

from itertools import count

import torch
from torch.utils.data import DataLoader

from segkit.train import distributed
from segkit.train.augment.finish import collate
from segkit.train.config import TrainConfig
from segkit.train.dataset import PatchDataset


class _From:
    """The numbers of this process's patches, from `first` on: of each `batch`, its share, in order.

    Without end: Lightning ends at `max_steps`, and takes no length into account.
    """

    def __init__(self, first: int, batch: int) -> None:
        self.first, self.batch = first, batch
        self.share = batch // distributed.count()

    def __iter__(self):
        for start in count(self.first + distributed.rank() * self.share, self.batch):
            yield from range(start, start + self.share)


def patch_loader(patches: PatchDataset, config: TrainConfig, first: int) -> DataLoader:
    """Batches of the patches from number `first` on, without end.

    It has a generator of its own, so that torch's random state is left to the network.
    """
    return DataLoader(
        patches,
        batch_size=config.batch_size // distributed.count(),
        sampler=_From(first, config.batch_size),
        collate_fn=collate,
        num_workers=config.workers,
        generator=torch.Generator(),
    )
