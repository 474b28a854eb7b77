"""Mean squared error and cross-entropy against loops over edges and hand-worked numbers."""

import math

import numpy as np
import pytest
import torch

from segkit.data import edge_mask
from segkit.losses.elementwise import BCE, MSE
from segkit.protocols import Prediction

NEIGHBORHOOD = np.array([(0, -1, 0), (0, 0, -1)])


def prediction(seed=0, shape=(2, 3, 4), batch=2, dtype=torch.float32, edges=None):
    """Random logits and targets on a masked grid."""
    random = np.random.default_rng(seed)
    mask = random.random((batch, *shape)) < 0.8
    if edges is None:
        edges = np.stack([edge_mask(shape, NEIGHBORHOOD, item) for item in mask])
    logits = torch.from_numpy(random.normal(size=edges.shape) * 3).to(dtype).requires_grad_()
    return Prediction(
        logits=logits,
        target=torch.from_numpy((random.random(edges.shape) < 0.7).astype(np.float32)),
        labels=torch.ones(mask.shape, dtype=torch.int64),
        mask=torch.from_numpy(mask),
        edges=torch.from_numpy(edges),
        neighborhood=NEIGHBORHOOD,
    )


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def entropy(x, t):
    return -math.log(sigmoid(x)) if t else -math.log(1 - sigmoid(x))


def each_edge(p):
    """(item, channel, logit, target) of every edge."""
    for where in zip(*np.nonzero(p.edges.numpy()), strict=True):
        yield where[0], where[1], p.logits[where].item(), p.target[where].item()


def test_mse_is_the_mean_over_edges():
    p = prediction()
    errors = [(sigmoid(x) - t) ** 2 for _, _, x, t in each_edge(p)]
    value, parts = MSE()(p)
    assert value.item() == pytest.approx(np.mean(errors), rel=1e-5) and parts == {}


def test_bce_without_balance_is_the_mean_over_edges():
    p = prediction()
    value, parts = BCE(balanced=False)(p)
    assert value.item() == pytest.approx(np.mean([entropy(x, t) for _, _, x, t in each_edge(p)]), rel=1e-5)
    assert sum(parts.values()).item() == pytest.approx(value.item(), rel=1e-6)


def test_balanced_bce_weights_classes_by_item_and_channel():
    p = prediction(3)
    edges = list(each_edge(p))
    total = 0.0
    for item, channel, x, t in edges:
        alike = [edge for edge in edges if edge[:2] == (item, channel)]
        fraction = sum(edge[3] == t for edge in alike) / len(alike)
        assert fraction > 0.05
        total += entropy(x, t) / (2 * fraction)
    assert BCE()(p)[0].item() == pytest.approx(total / len(edges), rel=1e-5)


def test_one_membrane_edge_in_a_large_patch_weighs_at_most_tenfold():
    edges = edge_mask((4, 20, 20), NEIGHBORHOOD)[None]
    p = prediction(shape=(4, 20, 20), batch=1, edges=edges)
    p.target[...] = 1
    p.target[0, 0, 1, 5, 5] = 0
    value, _ = BCE()(p)
    value.backward()
    a = sigmoid(p.logits[0, 0, 1, 5, 5].item())
    assert p.logits.grad[0, 0, 1, 5, 5].item() == pytest.approx(10 * a / edges.sum(), rel=1e-5)


@pytest.mark.parametrize("loss", [MSE(), BCE(), BCE(balanced=False)])
def test_only_edges_have_gradient_and_none_gives_zero(loss):
    p = prediction(1)
    loss(p)[0].backward()
    assert (p.logits.grad[~p.edges] == 0).all() and (p.logits.grad[p.edges] != 0).all()
    empty = prediction(1, edges=np.zeros((2, 2, 2, 3, 4), bool))
    value, _ = loss(empty)
    value.backward()
    assert value.item() == 0 and empty.logits.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("loss", [MSE(), BCE()])
def test_any_float_dtype_gives_a_finite_float32_loss(loss, dtype):
    p = prediction(2, dtype=dtype)
    with torch.no_grad():
        p.logits.mul_(1000)
    value, parts = loss(p)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and p.logits.grad.isfinite().all()
    assert p.logits.grad.dtype == dtype and not any(part.requires_grad for part in parts.values())
