"""MALIS implementations side by side, forward and backward: pytest benchmarks/test_losses.py --benchmark-enable."""

import numpy as np
import pytest

from segkit.data import edge_mask
from segkit.infer.oracle import oracle_affinities
from segkit.protocols import Prediction
from segkit.registry import load

torch = pytest.importorskip("torch")


def prediction(size: int, volume) -> Prediction:
    """A batch of one, from ground truth and noisy affinities."""
    truth, _, _ = volume(size)
    affinities = oracle_affinities(truth, noise=0.2, seed=2)
    edges = edge_mask(truth.shape, affinities.neighborhood)
    logits = torch.logit(torch.from_numpy(affinities.array.copy()), eps=1e-6)[None].requires_grad_()
    target = torch.from_numpy(oracle_affinities(truth, noise=0.0, blur=0.0).array.copy())[None]
    labels = torch.from_numpy(truth.array.astype(np.int64))[None]
    mask = torch.ones(labels.shape, dtype=torch.bool)
    return Prediction(logits, target, labels, mask, torch.from_numpy(edges)[None], affinities.neighborhood)


@pytest.mark.parametrize("size", [32, 56])
@pytest.mark.parametrize("name", ["malis", "constrained-malis", "malis-higra", "mse"])
@pytest.mark.benchmark(group="loss")
def test_loss(benchmark, volume, name, size):
    loss = load("losses", name)
    given = prediction(size, volume)

    def step() -> torch.Tensor:
        value, _ = loss(Prediction(**{f: getattr(given, f) for f in given.__dataclass_fields__}))
        value.backward()
        return value.detach()

    step()  # compiles
    assert torch.isfinite(benchmark(step))
