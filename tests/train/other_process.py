"""What the second of two processes does in tests, in place of what it should."""

import torch

from segkit.losses.elementwise import MSE
from segkit.protocols import Loss
from segkit.train import distributed, run
from segkit.train.isolation import isolated

TRAIN_ON_RANK = run._train_on_rank


def keep_weights(config, volumes, validation, folder, done):
    """Train, and leave the weights."""
    with isolated(config.seed, 1):
        setup = run.prepare(config, volumes, validation)
        run._train(setup, folder, done, run.Listeners())
    torch.save(setup.objective.module.network.state_dict(), folder.path.parent / "other")


class Learns(Loss, torch.nn.Module):
    """Mean squared error, weighted by what it learns: exp(-s) * mse + s, doi:10.48550/arXiv.1705.07115."""

    def __init__(self):
        super().__init__()
        self.s = torch.nn.Parameter(torch.zeros(()))
        self.mse = MSE()

    def __call__(self, prediction):
        loss, parts = self.mse(prediction)
        return torch.exp(-self.s) * loss + self.s, parts


def learn(*arguments):
    run.parse_loss = lambda *_, **__: Learns()
    TRAIN_ON_RANK(*arguments)


class Explodes(Loss):
    """Mean squared error that is NaN in one call."""

    def __init__(self):
        self.calls, self.mse = 0, MSE()

    def __call__(self, prediction):
        self.calls += 1
        loss, parts = self.mse(prediction)
        return (loss * float("nan") if self.calls == 5 and distributed.rank() else loss), parts


def explode(*arguments):
    run.parse_loss = lambda *_, **__: Explodes()
    TRAIN_ON_RANK(*arguments)
