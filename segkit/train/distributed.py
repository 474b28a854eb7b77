"""What the processes that train one network do together, by torch.distributed; alone, each call is cheap."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from segkit.errors import SegkitError

T = TypeVar("T")


def count() -> int:
    """Processes that train together; 1 outside :func:`segkit.train.launch.joined`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def by_the_first(work: Callable[[], T]) -> T:
    """What `work()` gives in the first process, or the SegkitError that it raises there, in all of them."""
    if count() == 1:
        return work()
    outcome: list = [None, None]
    if rank() == 0:
        try:
            outcome[0] = work()
        except SegkitError as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def mean_of_all(values: Mapping[str, float]) -> dict[str, float]:
    """Means over the processes of values that all of them have."""
    if count() == 1:
        return dict(values)
    together = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(together)
    return dict(zip(values, (together / count()).tolist(), strict=True))


def any_of_all(flags: Mapping[str, Tensor]) -> dict[str, bool]:
    """Which flags are set in any of the processes, all of which have flags of these names."""
    seen = {name: bool(flag) for name, flag in flags.items()}
    if count() == 1 or not seen:
        return seen
    found = torch.tensor([seen[name] for name in sorted(seen)], dtype=torch.uint8)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return seen | dict(zip(sorted(seen), map(bool, found.tolist()), strict=True))
