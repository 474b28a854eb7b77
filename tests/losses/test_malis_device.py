"""MALIS in torch operations: against explicit sets and the compiled code, on tensors without values, and on a GPU."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segkit.data import edge_mask
from segkit.errors import InvalidInput, InvalidShape, TrainingFailed
from segkit.losses import malis, malis_device
from segkit.losses.malis_device import pair_counts, pair_terms
from segkit.protocols import Prediction

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
NEIGHBORHOODS = {
    "nearest": NEAREST,
    "successors": [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "long": [*NEAREST, (0, -2, 0), (0, 0, -3), (-1, 1, 2), (-2, 0, 0)],
    "long only": [(0, -2, 0), (0, 0, 3)],
    "2-D": [(0, -1, 0), (0, 0, -1), (0, 3, 3)],
}
LOSSES = {True: malis.ConstrainedMalis, False: malis.Malis}


def batch(seed, shape, neighborhood=NEAREST, items=1, levels=None, objects=4):
    """Random affinities, of `levels` different values, labels in several pieces, and edges outside a random mask."""
    random = np.random.default_rng(seed)
    shape = (items, *shape)
    labels = random.integers(0, objects + 1, shape) * random.integers(1, 10**15)
    edges = np.stack([edge_mask(shape[1:], neighborhood, mask) for mask in random.random(shape) < 0.9])
    affinities = random.random(edges.shape).astype(np.float32)
    if levels:
        affinities = np.round(affinities * (levels - 1)) / max(levels - 1, 1)
    return torch.from_numpy(affinities.astype(np.float32)), torch.from_numpy(labels), torch.from_numpy(edges)


def blocks(seed, shape, size, neighborhood=NEAREST, levels=None):
    """The same with one label for each cube of `size`^3 voxels, a few of them background or given twice."""
    affinities, _, edges = batch(seed, shape, neighborhood, levels=levels)
    z, y, x = (torch.arange(n) // size for n in shape)
    labels = ((z[:, None, None] * 7 + y[:, None]) * 7 + x) % 11
    return affinities, labels[None], edges


def by_sets(affinities, labels, edges, neighborhood, constrained):
    """(positive, negative) of one item, by Kruskal with explicit sets of voxels and a look at every pair."""
    counts = np.zeros((2, *edges.shape), np.int64)
    sets = {}

    def inside(edge):
        return labels[edge[1:]] == labels[target(edge)] != 0

    def target(edge):
        return tuple(int(v) for v in np.add(edge[1:], neighborhood[edge[0]]))

    def key(edge):
        return constrained and not inside(edge), -affinities[edge], edge

    for edge in sorted((tuple(int(v) for v in row) for row in np.argwhere(edges)), key=key):
        a, b = (sets.setdefault(voxel, {voxel}) for voxel in (edge[1:], target(edge)))
        if a is b:
            continue
        for u in a:
            for v in b:
                if labels[u] and labels[v]:
                    counts[int(labels[u] != labels[v])][edge] += 1
        if constrained:
            counts[int(inside(edge))][edge] = 0
        a |= b
        for voxel in b:
            sets[voxel] = a
    return counts


def compiled(affinities, labels, edges, neighborhood, constrained):
    """The counts of the CPU code for all items, (2, B, C, Z, Y, X)."""
    items = zip(affinities.numpy(), labels.numpy(), edges.numpy(), strict=True)
    return np.stack([malis.pair_counts(*item, neighborhood, constrained=constrained) for item in items], 1)


def counted(affinities, labels, edges, neighborhood, constrained):
    """The counts of the code under test, (2, B, C, Z, Y, X)."""
    counts = pair_counts(affinities, labels, edges, neighborhood, constrained=constrained)
    assert all(count.dtype == torch.int64 for count in counts)
    return torch.stack(counts).cpu().numpy()


SHAPES = [(2, 3, 4), (1, 4, 6), (3, 3, 3), (1, 1, 11), (4, 3, 5), (1, 1, 1), (1, 1, 2)]
TIES = list(product([1, 3, None], [True, False]))
"""How many different affinities there are, None for many, and whether the loss is constrained."""


@pytest.mark.parametrize("name", NEIGHBORHOODS)
def test_counts_equal_those_by_explicit_sets(name):
    """210 small volumes and their batches, with masks, background, and labels in several pieces."""
    neighborhood = NEIGHBORHOODS[name]
    for shape, (levels, constrained) in product(SHAPES, TIES):
        given = batch(sum(shape), shape, neighborhood, items=2, levels=levels, objects=3)
        expected = [by_sets(*(t[item].numpy() for t in given), neighborhood, constrained) for item in range(2)]
        found, case = counted(*given, neighborhood, constrained), f"{shape}, {levels} levels, constrained={constrained}"
        np.testing.assert_array_equal(found, np.stack(expected, 1), case)


@pytest.mark.parametrize("name", NEIGHBORHOODS)
@pytest.mark.parametrize(("shape", "items"), [((3, 7, 9), 3), ((1, 40, 50), 1), ((12, 14, 13), 2), ((3, 5, 4), 34)])
def test_counts_equal_those_of_the_compiled_code(name, shape, items):
    """600 volumes in batches, large enough for rounds on voxels, rounds on a matrix, and the end without."""
    for levels, constrained in TIES:
        case = f"{levels} levels, constrained={constrained}"
        given = batch(items, shape, NEIGHBORHOODS[name], items, levels, objects=2)
        expected = compiled(*given, NEIGHBORHOODS[name], constrained)
        assert expected.sum((0, 2, 3, 4, 5)).all(), case
        np.testing.assert_array_equal(counted(*given, NEIGHBORHOODS[name], constrained), expected, case)


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("levels", [2, None])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_counts_of_many_objects(size, levels, constrained):
    given = blocks(size, (17, 20, 19), size, levels=levels)
    np.testing.assert_array_equal(counted(*given, NEAREST, constrained), compiled(*given, NEAREST, constrained))


def halving(length):
    """Edges of a row such that a round of mergers halves the number of components, no more."""
    place = np.arange(length)
    return 1 / (1 + np.log2(np.maximum(place & -place, 1)))


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("strength", [lambda n: np.linspace(1, 0, n), lambda n: np.linspace(0, 1, n), np.ones, halving])
@pytest.mark.parametrize("objects", [1, 3])
def test_worst_cases_of_a_row(strength, objects, constrained):
    """One chain through all voxels in the first round, and as many rounds as there can be."""
    length = 2**12
    affinities = torch.from_numpy(strength(length).astype(np.float32)).view(1, 1, 1, 1, -1)
    labels = (torch.arange(length) * objects // length + 1).view(1, 1, 1, -1)
    edges = torch.ones(affinities.shape, dtype=torch.bool)
    edges[..., 0] = False
    given = affinities, labels, edges, [(0, 0, -1)], constrained
    np.testing.assert_array_equal(counted(*given), compiled(*given))


@pytest.mark.parametrize("constrained", [True, False])
def test_counts_are_exact_beyond_32_bits(constrained):
    """Two halves of 2^16 voxels, joined by one edge at last: 2^32 pairs."""
    labels = torch.ones(1, 1, 1, 2**17, dtype=torch.int64)
    labels[..., 2**16 :] = 2
    affinities = torch.ones(1, 1, 1, 1, 2**17)
    affinities[..., 2**16] = 0.5
    edges = torch.ones(affinities.shape, dtype=torch.bool)
    edges[..., 0] = False
    positive, negative = counted(affinities, labels, edges, [(0, 0, -1)], constrained)
    assert negative[..., 2**16] == negative.sum() == 2**32
    assert positive.sum() == 2 * (2**16 * (2**16 - 1) // 2)


def test_minus_zero_is_zero_and_an_affinity_of_zero_is_an_edge():
    labels = torch.ones(1, 1, 1, 4, dtype=torch.int64)
    affinities = torch.tensor([-0.0, 0.0, -0.0, 0.5]).view(1, 1, 1, 1, 4)
    edges = torch.tensor([True, True, True, False]).view(1, 1, 1, 1, 4)
    positive, _ = counted(affinities, labels, edges, [(0, 0, 1)], True)
    assert positive.ravel().tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        ("uint8", 1),
        ("int16", -1),
        ("int32", 1),
        ("uint16", 2**12),
        ("uint32", 2**28),
        ("int64", 2**32),
        ("uint64", 2**60),
    ],
)
def test_labels_of_any_integers(dtype, factor):
    """Ids 0..10, times a factor: negative ones, some with the highest bit, some that differ in high bits only."""
    affinities, labels, edges = blocks(1, (5, 6, 7), 2)
    expected = counted(affinities, labels, edges, NEAREST, False)
    assert expected[0].any() and expected[1].any()
    given = torch.from_numpy(labels.numpy().astype(dtype) * np.array(factor).astype(dtype))
    np.testing.assert_array_equal(counted(affinities, given, edges, NEAREST, False), expected)


def predict(logits, labels, edges, neighborhood=NEAREST):
    """A prediction; the target plays no part."""
    mask = torch.ones(labels.shape, dtype=torch.bool)
    return Prediction(logits, torch.zeros(logits.shape), labels, mask, edges, np.array(neighborhood))


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("levels", [3, None])
def test_value_and_gradient_are_those_of_the_loss_on_the_cpu(levels, balanced, constrained):
    affinities, labels, edges = batch(5, (6, 7, 8), items=3, levels=levels)
    logits = torch.logit(affinities, eps=1e-4).requires_grad_()
    value, parts = LOSSES[constrained](balanced=balanced)(predict(logits, labels, edges))
    expected = torch.autograd.grad(value, logits)[0]
    terms = pair_terms(logits.sigmoid(), labels, edges, NEAREST, constrained=constrained, balanced=balanced)
    assert terms.dtype == torch.float32 and terms.shape == (3, 2)
    parts_of_it = [torch.autograd.grad(part, logits, retain_graph=True)[0] for part in terms.mean(0)]
    assert terms.sum(1).mean().item() == pytest.approx(value.item(), rel=1e-5)
    assert terms[:, 0].mean().item() == pytest.approx(parts["positive"].item(), rel=1e-5)
    assert all(part.any() for part in parts_of_it)
    size = sum(part.abs() for part in parts_of_it)  # the parts of an edge may nearly cancel
    assert ((sum(parts_of_it) - expected).abs() <= 4 * 2**-23 * size).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_its_float32_values(dtype):
    affinities, labels, edges = batch(6, (4, 5, 6), items=2)
    low = affinities.to(dtype).requires_grad_()
    high = low.detach().float().requires_grad_()
    terms = [pair_terms(a, labels, edges, NEAREST, constrained=True, balanced=True) for a in (low, high)]
    assert torch.equal(*terms)
    for value in terms:
        value.sum().backward()
    assert low.grad.dtype == dtype and torch.equal(low.grad, high.grad.to(dtype)) and high.grad.any()


def test_order_in_memory_does_not_matter_and_inputs_stay_as_they_are():
    affinities, labels, edges = batch(7, (4, 5, 6), items=2, levels=4)
    copies = [t.clone() for t in (affinities, labels, edges)]
    expected = counted(affinities, labels, edges, NEAREST, True)
    for tensor, copy in zip((affinities, labels, edges), copies, strict=True):
        assert torch.equal(tensor, copy)
    last = [t.to(memory_format=torch.channels_last_3d) for t in (affinities, edges)]
    turned = labels.transpose(1, 3).contiguous().transpose(1, 3)
    np.testing.assert_array_equal(counted(last[0], turned, last[1], NEAREST, True), expected)


@pytest.mark.parametrize("value", [torch.nan, -0.25, 1.5, torch.inf, -torch.inf])
def test_a_bad_affinity_spoils_its_item_alone(value):
    affinities, labels, edges = batch(8, (3, 4, 5), items=3)
    affinities.masked_fill_(~edges, value)  # nobody looks at these
    affinities.requires_grad_()
    good = pair_terms(affinities, labels, edges, NEAREST, constrained=True, balanced=True)
    good.sum().backward()
    assert good.isfinite().all() and affinities.grad.isfinite().all()
    with torch.no_grad():
        affinities[1][tuple(edges[1].nonzero()[-1])] = value
    terms = pair_terms(affinities, labels, edges, NEAREST, constrained=True, balanced=True)
    assert terms.isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert torch.equal(terms[::2], good[::2])
    gradient = torch.autograd.grad(terms.sum(), affinities)[0]
    assert gradient[1].isnan().any() and gradient[::2].isfinite().all()


def test_an_edge_that_leaves_the_volume_spoils_its_item():
    affinities, labels, edges = batch(8, (3, 4, 5), items=2)
    edges[1, 2, 0, 0, 0] = True
    terms = pair_terms(affinities, labels, edges, NEAREST, constrained=False, balanced=True)
    assert terms.isnan().tolist() == [[False] * 2, [True] * 2]


@pytest.mark.parametrize("case", ["background", "no edges", "one voxel", "offsets longer than the volume"])
def test_without_pairs_terms_and_gradient_are_zero(case):
    shape = (1, 1, 1) if case == "one voxel" else (2, 2, 2)
    neighborhood = [(3, 0, 0), (0, -2, 0)] if "longer" in case else NEAREST
    affinities, labels, _ = batch(1, shape, neighborhood, items=2)
    labels = torch.zeros_like(labels) if case == "background" else torch.ones_like(labels)
    edges = torch.from_numpy(np.stack([edge_mask(shape, neighborhood)] * 2)) & (case != "no edges")
    affinities.requires_grad_()
    terms = pair_terms(affinities, labels, edges, neighborhood, constrained=True, balanced=True)
    terms.sum().backward()
    assert not terms.any() and not affinities.grad.any()


def test_wrong_shapes_and_dtypes_and_too_many_edges_are_refused():
    affinities, labels, edges = batch(1, (3, 4, 5))
    how = {"constrained": True, "balanced": True}
    for wrong in (
        (affinities[:, :2], labels, edges),
        (affinities, labels[:, 1:], edges),
        (affinities, labels[0], edges),
    ):
        with pytest.raises(InvalidShape, match="must have shapes"):
            pair_terms(*wrong, NEAREST, **how)
    wrong = (affinities, labels.float(), edges), (affinities, labels, edges.int()), (affinities.double(), labels, edges)
    for given in wrong:
        with pytest.raises(InvalidInput, match="must be float32, float16 or bfloat16, bool and integers"):
            pair_terms(*given, NEAREST, **how)
    large = torch.empty(1, 3, 1024, 1024, 1024, device="meta")
    with pytest.raises(InvalidShape, match="fewer than 2\\^31 values, not 3221225472; make the patch or the batch"):
        pair_terms(large, large[:, 0].long(), large.bool(), NEAREST, **how)


def test_too_little_memory_says_how_to_go_on(monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(malis_device, "_terms", full)
    with pytest.raises(
        TrainingFailed, match=r"360 affinities; make the patch or the batch smaller, or .*--loss-backend"
    ):
        pair_terms(*batch(1, (4, 5, 6)), NEAREST, constrained=True, balanced=True)


class OnMeta(TorchDispatchMode):
    """Refuses tensors that are anywhere but on the meta device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, results)):
            assert not isinstance(value, torch.Tensor) or value.device.type == "meta", func
        return results


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize(("shape", "items"), [((5, 6, 7), 2), ((84, 84, 84), 1), ((1, 1, 1), 1)])
def test_nothing_depends_on_values_and_nothing_comes_from_the_host(shape, items, constrained):
    """The meta device has shapes and no values: an operation that waits for one fails there."""
    given = (items, 3, *shape)
    affinities = torch.empty(given, device="meta", requires_grad=True)
    labels = torch.empty((items, *shape), dtype=torch.int64, device="meta")
    edges = torch.empty(given, dtype=torch.bool, device="meta")
    with OnMeta():
        terms = pair_terms(affinities, labels, edges, NEAREST, constrained=constrained, balanced=True)
        gradient = torch.autograd.grad(terms.sum(), affinities)[0]
    assert terms.shape == (items, 2) and gradient.shape == given
    with OnMeta(), pytest.raises(RuntimeError, match="meta"):
        affinities.detach().sum().item()


def test_a_compiled_step_has_the_same_gradient():
    affinities, labels, edges = batch(9, (4, 5, 6), items=2)

    def step(logits):
        terms = pair_terms((2 * logits).sigmoid(), labels, edges, NEAREST, constrained=True, balanced=True)
        return terms.sum(1).mean() * 3

    logits = torch.logit(affinities, eps=1e-3).requires_grad_()
    gradients = [
        torch.autograd.grad(run(logits), logits)[0] for run in (step, torch.compile(step, backend="aot_eager"))
    ]
    assert gradients[0].any()
    torch.testing.assert_close(gradients[1], gradients[0])


def test_autocast_and_accumulation_change_nothing():
    affinities, labels, edges = batch(10, (4, 5, 6), items=2)
    affinities.requires_grad_()

    def gradient(items):
        arrays = affinities[items], labels[items], edges[items]
        return torch.autograd.grad(
            pair_terms(*arrays, NEAREST, constrained=True, balanced=True).sum(), affinities, retain_graph=True
        )[0]

    whole = gradient(slice(None))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gradient(slice(None)), whole)
    torch.testing.assert_close(gradient(slice(0, 1)) + gradient(slice(1, 2)), whole)


@pytest.fixture
def cuda():
    return torch.device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("name", NEIGHBORHOODS)
def test_counts_on_a_gpu_are_those_on_the_cpu(cuda, name, constrained):
    for levels in (1, 3, None):
        given = batch(3, (11, 30, 31), NEIGHBORHOODS[name], items=2, levels=levels)
        expected = compiled(*given, NEIGHBORHOODS[name], constrained)
        given = [t.to(cuda) for t in given]
        np.testing.assert_array_equal(counted(*given, NEIGHBORHOODS[name], constrained), expected)


@pytest.mark.gpu
def test_a_step_on_a_gpu_waits_for_nothing_and_can_be_captured(cuda):
    given = [t.to(cuda) for t in batch(4, (20, 30, 40), items=2)]
    affinities = given[0].requires_grad_()

    def step():
        terms = pair_terms(*given, NEAREST, constrained=True, balanced=True)
        return torch.autograd.grad(terms.sum(), affinities)[0]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
        stream.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            expected = step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    assert torch.equal(captured, expected)
