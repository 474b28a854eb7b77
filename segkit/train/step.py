"""From a batch to its loss: the network, what its loss learns, and the average of the weights over the steps."""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from segkit.errors import BrokenComponent, InvalidInput, sentence
from segkit.losses.combined import terms_of
from segkit.losses.descriptors import ShapeDescriptors, descriptor_error
from segkit.models.device import LAYOUT, put_channels_last
from segkit.protocols import Loss, Model, Prediction
from segkit.registry import calls
from segkit.train import distributed
from segkit.train.augment.finish import RawBatch, finish
from segkit.train.config import TrainConfig
from segkit.train.health import FiniteWatch
from segkit.train.isolation import kept_threads
from segkit.train.voxels import UNKNOWN, Voxels

Batch = Mapping[str, Tensor]
"""What :func:`segkit.train.augment.finish.finish` makes."""


class ExponentialMovingAverage(nn.Module):
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


class Trainable(nn.Module):
    """All that has weights: the network, its average if there is one, and the losses that learn parameters.

    Its forward is that of the network. Its `state_dict` is what checkpoints hold.
    """

    def __init__(self, network: Model, loss: Loss, config: TrainConfig) -> None:
        super().__init__()
        assert isinstance(network, nn.Module)
        put_channels_last(network)
        self.network = network
        averaging = config.averaging
        self.average = (
            ExponentialMovingAverage(self.network, averaging.decay, averaging.start) if averaging is not None else None
        )
        learned = {name: term for name, _, term in terms_of(loss, config.loss) if isinstance(term, nn.Module)}
        self.loss = nn.ModuleDict({name.replace(".", "_"): term for name, term in learned.items()})

    def forward(self, raw: Tensor) -> Tensor:
        return self.network(raw)

    @property
    def kept_network(self) -> nn.Module:
        """What is saved and validated: the network of averaged weights, if they are averaged."""
        return self.network if self.average is None else self.average.network

    def optimised(self) -> list[nn.Parameter]:
        """List the weights that the optimiser changes: those of the network first, then those of the losses."""
        return [*self.network.parameters(), *self.loss.parameters()]


class Objective:
    """What training makes small: the loss of the output of `module` for a batch.

    `loss` is not part of `module`, for a recovery may exchange it; what it learns is.
    """

    def __init__(
        self, module: Trainable, loss: Loss, neighborhood: np.ndarray, config: TrainConfig, voxels: Voxels = UNKNOWN
    ) -> None:
        self.module, self.loss, self.neighborhood = module, loss, neighborhood
        self.config, self.voxels = config, voxels
        ndim = module.network.ndim
        self.descriptors = voxels.descriptors(config, ndim)
        self.layout = LAYOUT[ndim + 2]
        self.watch = FiniteWatch()

    def finish(self, batch: RawBatch) -> Batch:
        """Augment the patches of a batch and make their targets, on the device where they lie."""
        return finish(batch, self.neighborhood, components=self.config.components)

    def logits(self, batch: Batch, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Run `network` on the raw data of a batch."""
        return calls.logits(self.module.network, batch["raw"].contiguous(memory_format=self.layout), network)

    def prediction(self, batch: Batch, network: Callable[[Tensor], Tensor]) -> Prediction:
        """Put together what a loss sees of a batch and of what `network` makes of it."""
        return self._seen(batch, self.logits(batch, network))

    def evaluate(
        self, batch: Batch, network: Callable[[Tensor], Tensor], step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of what `network` makes of a batch, and its parts; `watch` sees whether all is finite."""
        logits = self.logits(batch, network)
        seen = self._seen(batch, logits)
        self._check_shape(with_sections(logits), seen.target)
        self.watch.see("the output of the network", logits, step)
        try:
            with kept_threads():
                loss, parts = calls.loss(self.loss, seen)
        except InvalidInput:  # of affinities that are NaN, say, which on an accelerator nobody has looked at yet
            if distributed.world_size() > 1 and self.watch.suspects():  # the others will see it when all look
                loss = sum((each.sum() for each in self.module.loss.parameters()), logits.sum()) * float("nan")
                self.watch.see("the loss", loss, step)  # all have flags of the same names
                return loss, {}
            self.watch.look(step)
            raise
        if self.descriptors is not None and self.config.descriptors is not None:
            error = _descriptor_error(self.descriptors, batch, logits)
            loss, parts = loss + self.config.descriptors.weight * error, parts | {"descriptors": error.detach()}
        self.watch.see("the loss", loss, step)
        return loss, parts

    def _seen(self, batch: Batch, logits: Tensor) -> Prediction:
        """Channels beyond those of the neighborhood are no affinities, and left out."""
        logits = with_sections(logits)[:, : len(self.neighborhood)]
        return Prediction(logits, batch["target"], batch["labels"], batch["mask"], batch["edges"], self.neighborhood)

    def _check_shape(self, logits: Tensor, target: Tensor) -> None:
        expected = list(target.shape)
        expected[1] += getattr(self.module.network, "auxiliary", 0)
        if list(logits.shape) != expected:
            rule = f"must give the output it promised, of shape {tuple(expected)}"
            raise BrokenComponent(sentence(f"model {self.config.model!r}", rule, tuple(logits.shape)))


def make_optimiser(module: Trainable, config: TrainConfig) -> torch.optim.Adam:
    """Make the optimiser of all that `module` has to learn."""
    return torch.optim.Adam(module.optimised(), lr=config.learning_rate, betas=config.betas, eps=config.epsilon)


def learning_rate_factor(config: TrainConfig, lowered: float = 1.0) -> Callable[[int], float]:
    """Make the function that gives the factor of the learning rate in step n, counted from 0.

    `lowered` is what recoveries make of the rate.
    """

    def factor(step: int) -> float:
        warm = lowered * (min((step + 1) / config.warmup_steps, 1) if config.warmup_steps else 1)
        if config.schedule == "constant":
            return warm
        done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
        return warm * (1 + math.cos(math.pi * min(max(done, 0), 1))) / 2

    return factor


def with_sections(logits: Tensor) -> Tensor:
    """Return logits (B, C, Z, Y, X), also of a 2-D network, which gives (B, C, Y, X)."""
    return logits.unsqueeze(2) if logits.ndim == 4 else logits


def _descriptor_error(descriptors: ShapeDescriptors, batch: Batch, logits: Tensor) -> Tensor:
    predicted = with_sections(logits)[:, -descriptors.channels :]
    return descriptor_error(predicted, descriptors(batch["labels"]), batch["labels"], batch["mask"])
