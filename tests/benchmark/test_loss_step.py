"""A loss on its own: what it sees, what comes out, and what a trace says."""

import json

import numpy as np
import pytest
import torch

from segkit.benchmark.loss_step import EPSILON, LossStep, copied_to_host
from segkit.data import NEAREST, Affinities, Grid, Labels, edge_mask
from segkit.errors import BrokenComponent, InvalidShape
from segkit.losses.malis import pair_counts
from segkit.protocols import Loss
from segkit.registry import load

SHAPE = (3, 4, 5)


def case(seed: int = 0, neighborhood=NEAREST) -> tuple[Affinities, Labels]:
    """Affinities with ties, objects, background and voxels outside the annotation."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 7, 2**40, 2**64 - 1], np.uint64), SHAPE, p=[0.1, 0.4, 0.4, 0.1])
    values = rng.choice(np.float32([0, 0.25, 0.5, 1]), (len(neighborhood), *SHAPE))
    array = np.where(edge_mask(SHAPE, neighborhood), values, np.float32(0))
    return Affinities(array, np.array(neighborhood), Grid()), Labels(labels, Grid())


class SumOfAffinities(Loss):
    """Its gradient to a logit is a (1 - a)."""

    def __call__(self, prediction):
        return prediction.affinities.sum(), {}


def test_what_the_loss_sees():
    affinities, truth = case()
    step = LossStep.of(SumOfAffinities(), affinities, truth, batch=2)
    inside = truth.inside
    assert step.mask.tolist() == [inside.tolist()] * 2
    np.testing.assert_array_equal(step.edges[1], edge_mask(SHAPE, NEAREST, inside))
    np.testing.assert_array_equal(step.target[1], Affinities.from_labels(truth).array)
    compact = step.labels[0].numpy()
    assert set(np.unique(compact)) == {0, 1, 2} and step.labels.shape == (2, *SHAPE)
    assert len({(a, b) for a, b in zip(compact.ravel(), np.where(inside, truth.array, 0).ravel(), strict=True)}) == 3
    shown = step.logits.detach().sigmoid()
    np.testing.assert_allclose(shown, np.stack([affinities.array] * 2), atol=2 * EPSILON)


def test_loss_and_gradient_of_each_call_are_those_of_that_call():
    affinities, truth = case(1)
    step = LossStep.of(SumOfAffinities(), affinities, truth)
    for _ in range(2):
        value, gradient = step.run()
        clipped = np.clip(affinities.array, EPSILON, 1 - EPSILON)
        assert value.item() == pytest.approx(clipped.sum(dtype=np.float64), rel=1e-5)
        np.testing.assert_allclose(gradient[0], clipped * (1 - clipped), atol=1e-6)


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("backend", ["cpu", "higra", "gpu", "auto"])
def test_pair_counts_are_those_of_each_item(backend, constrained):
    neighborhood = [*NEAREST, (0, 1, -2)]
    affinities, truth = case(2, neighborhood)
    loss = load("losses", "constrained-malis" if constrained else "malis", backend=backend)
    positive, negative = LossStep.of(loss, affinities, truth, batch=2).pair_counts()
    labels, edges = (
        np.where(truth.inside, truth.array, 0).astype(np.int64),
        edge_mask(SHAPE, neighborhood, truth.inside),
    )
    expected = pair_counts(affinities.array, labels, edges, neighborhood, constrained=constrained)
    assert expected[0].sum() > 0 and expected[1].sum() > 0
    for counts, single in zip((positive, negative), expected, strict=True):
        np.testing.assert_array_equal(counts, np.stack([single] * 2))


def test_other_losses_have_no_pairs():
    assert LossStep.of(load("losses", "mse"), *case()).pair_counts() is None


@pytest.mark.parametrize("result", [None, (), (0.5, {}), (torch.zeros(2), {}), torch.zeros(())])
def test_a_loss_that_returns_something_else(result):
    with pytest.raises(BrokenComponent, match=r"must return a scalar tensor and a dict of parts"):
        LossStep.of(lambda prediction: result, *case()).run()


def test_inputs_that_do_not_fit():
    affinities, _ = case()
    with pytest.raises(InvalidShape, match="affinities and truth"):
        LossStep.of(SumOfAffinities(), affinities, Labels(np.ones((3, 4, 4), np.uint64), Grid()))


def test_a_trace_of_the_cpu(tmp_path):
    step = LossStep.of(SumOfAffinities(), *case())
    assert step.trace(tmp_path / "trace.json") is None and step.device_peak() is None
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"aten::sigmoid", "aten::sum"} <= names


def test_bytes_copied_to_the_host(tmp_path):
    def copy(name: str, size: int, category: str = "gpu_memcpy") -> dict:
        return {"ph": "X", "cat": category, "name": name, "args": {"bytes": size}}

    events = [
        copy("Memcpy DtoH (Device -> Pageable)", 64),
        copy("Memcpy DtoH (Device -> Pinned)", 8),
        copy("Memcpy HtoD (Pageable -> Device)", 512),
        copy("Memcpy DtoD (Device -> Device)", 1024),
        {"ph": "M", "name": "process_name"},
    ]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    assert copied_to_host(path) == 72


@pytest.mark.gpu
def test_on_a_gpu(tmp_path):
    step = LossStep.of(load("losses", "constrained-malis", backend="gpu"), *case(), device="cuda")
    assert step.run()[1].device.type == "cuda" and step.device_peak() > 0
    assert step.trace(tmp_path / "gpu.json") == 0
    copying = LossStep.of(load("losses", "constrained-malis", backend="cpu"), *case(), device="cuda")
    assert copying.trace(tmp_path / "cpu.json") >= 4 * 3 * 60
