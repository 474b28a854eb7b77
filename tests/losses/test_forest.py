"""Counting on the CPU: edges left out before the sort, tables of labels, threads, and the value with its gradient."""

import warnings

import numpy as np
import pytest
import torch

from segkit.data import edge_mask
from segkit.losses import _forest, _quasilinear
from segkit.losses.malis import ConstrainedMalis, Malis, dense, pair_counts
from segkit.losses.malis_higra import decided_pairs as higra_pairs
from segkit.protocols import Prediction
from segkit.threads import set_thread_limit

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
MIXED = [(1, 0, 0), (0, -1, 0), (0, 0, 1), (0, -2, 1), (0, 1, 1), (-1, 0, 3)]
KINDS = ["distinct", "three values", "constant", "saturated"]


@pytest.fixture
def threads(monkeypatch):
    """Sets the limit for one test, in which any work is worth a thread."""
    monkeypatch.setattr("segkit.threads._limit", [])
    monkeypatch.setattr(_forest, "LEAST", 1)
    monkeypatch.setattr(_quasilinear, "LEAST", 1)
    return set_thread_limit


def item(seed, shape, kind, neighborhood=NEAREST, objects=6):
    """Labels in smooth blobs with background and unannotated voxels; affinities with many, few or no ties."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, objects + 1, [-(-s // 3) for s in shape])
    labels = np.kron(coarse, np.ones((3, 3, 3), np.int64))[tuple(slice(s) for s in shape)]
    labels[random.random(shape) < 0.1] = 0
    edges = edge_mask(shape, neighborhood, random.random(shape) < 0.95)
    affinities = random.random(edges.shape).astype(np.float32)
    if kind == "three values":
        affinities = np.round(affinities * 2) / 2
    elif kind == "constant":
        affinities = np.full_like(affinities, 0.25)
    elif kind == "saturated":
        affinities = np.clip(affinities * 3 - 1, 0, 1)
    return affinities, labels, edges, neighborhood


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("neighborhood", [NEAREST, MIXED, NEAREST[1:]], ids=["nearest", "mixed", "flat"])
def test_counts_equal_higra_with_and_without_ties(neighborhood, kind, constrained):
    for seed, shape in enumerate([(7, 9, 8), (1, 20, 21), (2, 3, 40), (12, 11, 2)] * 5):
        given = item(seed, shape, kind, neighborhood)
        expected = dense(higra_pairs(*given, constrained=constrained), given[0].shape)
        np.testing.assert_array_equal(pair_counts(*given, constrained=constrained), expected, err_msg=f"seed {seed}")


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("shape", [(30, 41, 37), (1, 300, 150), (45, 1, 1000)])
def test_a_volume_of_several_units_equals_higra_on_several_threads(shape, constrained, threads):
    threads(3)
    given = item(3, shape, "saturated", objects=50)
    expected = dense(higra_pairs(*given, constrained=constrained), given[0].shape)
    np.testing.assert_array_equal(pair_counts(*given, constrained=constrained), expected)


@pytest.mark.parametrize("constrained", [True, False])
def test_components_of_more_labels_than_the_first_table_holds(constrained):
    labels = np.arange(1, 3001).reshape(10, 15, 20)
    labels[::3, ::2, ::2] = 0
    edges = edge_mask(labels.shape, NEAREST)
    affinities = np.random.default_rng(0).random(edges.shape).astype(np.float32)
    _, negative = pair_counts(affinities, labels, edges, NEAREST, constrained=constrained)
    voxels = int((labels > 0).sum())
    assert negative.sum() == voxels * (voxels - 1) // 2
    expected = dense(higra_pairs(affinities, labels, edges, NEAREST, constrained=constrained), edges.shape)
    np.testing.assert_array_equal(negative, expected[1])


def test_few_edges_besides_the_forest_are_sorted():
    """Most edges go before the sort; a fault there would show in nothing but the time."""
    affinities, labels, edges, _ = item(1, (12, 12, 12), "distinct", objects=1)
    arrays = affinities.reshape(-1).view(np.int32), edges.reshape(-1), labels.reshape(-1), np.array([-144, -12, -1])
    forest = _forest.grow(*arrays, False)
    order = forest.sorted(0)
    assert 0.9 * labels.size < len(order) == len(forest.edges) < 0.65 * edges.sum()
    assert (np.diff(order) > 0).all()


def batch(count, dtype=torch.float32):
    items = [item(seed, (6, 9, 10), KINDS[seed % 2]) for seed in range(count)]
    affinities, labels, edges = (np.stack([given[k] for given in items]) for k in range(3))
    logits = torch.logit(torch.from_numpy(affinities), eps=1e-4).to(dtype).requires_grad_()
    labels = torch.from_numpy(labels)
    return Prediction(logits, torch.zeros(1), labels, labels >= 0, torch.from_numpy(edges), np.array(NEAREST))


def large(count, shape, neighborhood, kind):
    """Several items, each of several units."""
    items = [item(seed, shape, kind, neighborhood, objects=[40, 1, 3000][seed]) for seed in range(count)]
    affinities, labels, edges = (torch.from_numpy(np.stack([given[k] for given in items])) for k in range(3))
    logits = torch.logit(affinities, eps=1e-4).requires_grad_()
    return Prediction(logits, torch.zeros(1), labels, labels >= 0, edges, np.array(neighborhood))


@pytest.mark.parametrize("loss", [Malis(), ConstrainedMalis(), ConstrainedMalis(balanced=False)])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    ("shape", "neighborhood", "kind"),
    [((27, 50, 40), NEAREST, "distinct"), ((27, 50, 40), MIXED, "saturated"), ((1, 270, 200), NEAREST[1:], "distinct")],
    ids=["nearest", "mixed", "flat"],
)
def test_equal_bits_at_any_number_of_threads(shape, neighborhood, kind, count, loss, threads):
    given, results = large(count, shape, neighborhood, kind), []
    for number in (1, 2, 3, 7):
        threads(number)
        prediction = Prediction(**{name: getattr(given, name) for name in given.__dataclass_fields__})
        value, _ = loss(prediction)
        results.append((value.item(), *torch.autograd.grad(value, given.logits)))
    assert results[0][0] > 0 and results[0][1].any()
    for value, gradient in results[1:]:
        assert value == results[0][0] and torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("loss", [Malis(), ConstrainedMalis()])
def test_a_single_item_is_worked_on_by_several_threads(loss, threads, monkeypatch):
    """Without it all would be the same, but slower."""
    shared, share = set(), _forest.share
    threads(2)

    def watched(work, count, *arguments, least):
        shared.add((work.__name__, count >= 2 * least))
        return share(work, count, *arguments, least=least)

    monkeypatch.setattr(_forest, "share", watched)
    loss(large(1, (27, 50, 40), NEAREST, "distinct"))
    names = {"edge_keys", "strongest_edges", "find_roots", "number_roots", "follow", "candidates", "deal_out"}
    assert shared == {(name, True) for name in names | ({"join_objects"} if loss.constrained else set())}


@pytest.mark.parametrize("loss", [Malis, ConstrainedMalis])
def test_value_and_gradient_equal_those_of_counts_in_torch(loss):
    """The sum written out in torch operations, in float64, with counts from Higra."""
    prediction = batch(3)
    value, _ = loss(balanced=False, backend="cpu")(prediction)
    value.backward()
    logits = prediction.logits.detach().double().requires_grad_()
    terms = []
    for k, affinities in enumerate(logits.sigmoid()):
        arrays = prediction.affinities[k].detach().numpy(), prediction.labels[k].numpy(), prediction.edges[k].numpy()
        counts = dense(higra_pairs(*arrays, NEAREST, constrained=loss.constrained), affinities.shape)
        positive, negative = (torch.from_numpy(count) for count in counts)
        errors = positive * (1 - affinities) ** 2 + negative * affinities**2
        terms.append(errors.sum() / (positive + negative).sum())
    expected = torch.stack(terms).mean()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(prediction.logits.grad.double(), logits.grad, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("loss", [Malis, ConstrainedMalis])
def test_backends_give_the_same(loss):
    values = []
    for backend in ("auto", "cpu", "gpu", "higra"):
        prediction = batch(2)
        value, _ = loss(backend=backend)(prediction)
        value.backward()
        values.append((value.item(), prediction.logits.grad))
    for value, gradient in values:
        assert value == pytest.approx(values[0][0], rel=1e-6)
        torch.testing.assert_close(gradient, values[0][1])


def test_gradients_accumulate_and_scale():
    once, twice = batch(2), batch(2)
    ConstrainedMalis()(once)[0].backward()
    for _ in range(2):
        value, _ = ConstrainedMalis()(Prediction(**{f: getattr(twice, f) for f in twice.__dataclass_fields__}))
        (value * 3).backward()
    torch.testing.assert_close(twice.logits.grad, 6 * once.logits.grad)


def test_a_compiled_step_gives_the_same_gradient_without_a_warning():
    def step(logits, given):
        return ConstrainedMalis()(Prediction(logits, *given))[0]

    prediction = batch(2)
    given = [getattr(prediction, name) for name in ("target", "labels", "mask", "edges", "neighborhood")]
    (expected,) = torch.autograd.grad(step(prediction.logits, given), prediction.logits)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Dynamo does not know how to trace")
        compiled = torch.compile(step, backend="eager")(prediction.logits, given)
    (found,) = torch.autograd.grad(compiled, prediction.logits)
    torch.testing.assert_close(found, expected)
