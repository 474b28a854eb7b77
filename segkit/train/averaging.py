"""Weights averaged over the steps: they score better than those of any one step, and change less between them."""

from copy import deepcopy

import torch
from torch import Tensor, nn

PREFIX = "average."
"""Under which names a checkpoint holds the average."""


class Average(nn.Module):
    """The exponential moving average of a network's weights (doi:10.1137/0330046), and of its statistics.

    Up to step `start` it is the network itself. In the n-th step after it the average keeps a share of `decay`, or of
    (1 + n) / (10 + n) where that is less, so that it forgets the first steps sooner. Running means and variances of
    normalisations are averaged alike, for they belong to the weights; counters are copied.
    """

    def __init__(self, network: nn.Module, decay: float, start: int) -> None:
        super().__init__()
        self.decay, self.start = decay, start
        self.network = deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after `step` steps."""
        count = step - self.start
        keep = min(self.decay, (1 + count) / (10 + count)) if count > 0 else 0.0
        means, values = self.network.state_dict(), network.state_dict()
        floating = [name for name, value in values.items() if value.is_floating_point()]
        for name in values.keys() - set(floating):
            means[name].copy_(values[name])
        now = [values[name] for name in floating]
        if keep:
            torch._foreach_lerp_([means[name] for name in floating], now, 1 - keep)
        else:
            torch._foreach_copy_([means[name] for name in floating], now)


def adapt(state: dict[str, Tensor], averaged: bool) -> None:
    """Make the weights of a checkpoint those of a run that is, or is not, `averaged`, whatever it was before."""
    names = [name for name in state if name.startswith(PREFIX)]
    if averaged and not names:
        state |= {f"{PREFIX}{name}": value.clone() for name, value in state.items() if name.startswith("network.")}
    elif not averaged:
        for name in names:
            del state[name]
