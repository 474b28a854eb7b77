"""MALIS against brute force over all pairs of voxels, against Higra, and against finite differences."""

from itertools import combinations

import numpy as np
import pytest
import torch

from segkit.data import edge_mask
from segkit.errors import InvalidInput, InvalidShape
from segkit.losses.malis import ConstrainedMalis, Malis, dense, pair_counts
from segkit.losses.malis_higra import MalisHigra
from segkit.losses.malis_higra import decided_pairs as higra_pairs
from segkit.protocols import Prediction

NEIGHBORHOODS = {
    "nearest": [(-1, 0, 0), (0, -1, 0), (0, 0, -1)],
    "successors": [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "long": [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -2, 0), (0, 0, -3), (-1, 1, 2), (-2, 0, 0)],
    "long only": [(0, -2, 0), (0, 0, 3)],
}
SHAPES = [(2, 3, 4), (1, 4, 5), (3, 3, 3), (1, 1, 9), (4, 1, 3)]


def volume(seed, shape=(2, 3, 4), neighborhood="nearest", levels=None, objects=None):
    """A random item with background, masked voxels, and labels that lie in several pieces."""
    random = np.random.default_rng(seed)
    neighborhood = NEIGHBORHOODS[neighborhood]
    objects = objects or random.integers(1, 5)
    labels = random.integers(0, objects + 1, shape) * random.integers(1, 10**15)
    mask = random.random(shape) < 0.9
    edges = edge_mask(shape, neighborhood, mask)
    levels = levels or random.choice([2, 4, 1000])
    affinities = (random.integers(0, levels, edges.shape) / (levels - 1)).astype(np.float32)
    return affinities, labels, edges, neighborhood


def ranked_edges(affinities, labels, edges, neighborhood):
    """(index, source, target) of every edge, strongest first; voxels are (z, y, x)."""
    indices = sorted(map(tuple, np.argwhere(edges)), key=lambda e: (-affinities[e], e))
    return [(e, e[1:], tuple(int(v) for v in np.add(e[1:], neighborhood[e[0]]))) for e in indices]


def by_sets(ranked, decided):
    """Kruskal with explicit sets: call decided(index, set, set) where an edge joins two."""
    sets = {}
    for index, source, target in ranked:
        a, b = sets.setdefault(source, {source}), sets.setdefault(target, {target})
        if a is not b:
            decided(index, a, b)
            a |= b
            for voxel in b:
                sets[voxel] = a


def counted(ranked, labels, shape):
    """(positive, negative) over all pairs of voxels, each looked at on its own."""
    positive, negative = np.zeros(shape, np.int64), np.zeros(shape, np.int64)

    def decide(index, a, b):
        for u in a:
            for v in b:
                if labels[u] and labels[v]:
                    (positive if labels[u] == labels[v] else negative)[index] += 1

    by_sets(ranked, decide)
    return positive, negative


def brute(affinities, labels, edges, neighborhood, constrained):
    ranked = ranked_edges(affinities, labels, edges, neighborhood)
    if not constrained:
        return counted(ranked, labels, edges.shape)
    inside = [(i, u, v) for i, u, v in ranked if labels[u] and labels[u] == labels[v]]
    others = [edge for edge in ranked if edge not in inside]
    positive, _ = counted(inside, labels, edges.shape)
    _, negative = counted(inside + others, labels, edges.shape)
    return positive, negative


def dumbest(affinities, labels, edges, neighborhood):
    """Unconstrained counts with no forest at all: a pair's edge is the one whose arrival first connects it."""
    ranked = ranked_edges(affinities, labels, edges, neighborhood)
    voxels = [tuple(v) for v in np.argwhere(labels)]
    positive, negative = np.zeros(edges.shape, np.int64), np.zeros(edges.shape, np.int64)
    waiting = set(combinations(voxels, 2))
    for number, (index, _, _) in enumerate(ranked, 1):
        for u, v in list(waiting):
            if reachable(u, v, ranked[:number]):
                waiting.discard((u, v))
                (positive if labels[u] == labels[v] else negative)[index] += 1
    return positive, negative


def reachable(start, goal, ranked):
    seen, todo = {start}, [start]
    while todo:
        voxel = todo.pop()
        for _, u, v in ranked:
            other = v if u == voxel else u if v == voxel else None
            if other is not None and other not in seen:
                seen.add(other)
                todo.append(other)
    return goal in seen


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("neighborhood", NEIGHBORHOODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_counts_equal_brute_force_over_all_pairs(shape, neighborhood, constrained):
    for seed in range(15):
        item = volume(seed, shape, neighborhood)
        found = pair_counts(*item, constrained=constrained)
        np.testing.assert_array_equal(found, brute(*item, constrained), err_msg=f"seed {seed}")


@pytest.mark.parametrize("seed", range(12))
def test_counts_equal_reachability_of_each_pair(seed):
    item = volume(seed, (1, 3, 3) if seed % 2 else (2, 2, 2), ["nearest", "long"][seed % 2])
    np.testing.assert_array_equal(pair_counts(*item, constrained=False), dumbest(*item))


@pytest.mark.parametrize("constrained", [True, False])
def test_counts_equal_higra(constrained):
    random = np.random.default_rng(5)
    for seed in range(100):
        shape = tuple(random.integers(1, 9, 3))
        item = volume(seed, shape, random.choice(list(NEIGHBORHOODS)), objects=int(random.choice([2, 5, 40])))
        expected = dense(higra_pairs(*item, constrained=constrained), item[0].shape)
        np.testing.assert_array_equal(pair_counts(*item, constrained=constrained), expected, err_msg=f"seed {seed}")


def blocks(seed, shape, size, background=0.3):
    """Larger: blocks of many labels that background separates, with smooth affinities."""
    random = np.random.default_rng(seed)
    coarse = random.integers(1, 10**12, [-(-s // size) for s in shape])
    labels = np.kron(coarse, np.ones((size,) * 3, np.int64))[tuple(slice(s) for s in shape)]
    labels[random.random(shape) < background] = 0
    edges = edge_mask(shape, NEIGHBORHOODS["nearest"])
    return random.random(edges.shape).astype(np.float32), labels, edges, NEIGHBORHOODS["nearest"]


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_components_of_many_labels(size, constrained):
    item = blocks(size, (14, 15, 16), size)
    expected = dense(higra_pairs(*item, constrained=constrained), item[0].shape)
    np.testing.assert_array_equal(pair_counts(*item, constrained=constrained), expected)


def test_total_pairs_are_those_of_connected_voxels():
    """Everything connected, one piece an object: all pairs of labelled voxels are decided, each by one edge."""
    labels = np.repeat([1, 2, 3], [8, 4, 12]).reshape(3, 2, 4)
    affinities, edges = np.zeros((3, 3, 2, 4)), edge_mask((3, 2, 4), NEIGHBORHOODS["nearest"])
    for constrained in (True, False):
        positive, negative = pair_counts(affinities, labels, edges, NEIGHBORHOODS["nearest"], constrained=constrained)
        assert positive.sum() == 8 * 7 // 2 + 4 * 3 // 2 + 12 * 11 // 2
        assert negative.sum() == 8 * 4 + 8 * 12 + 4 * 12


def test_an_affinity_of_zero_is_still_an_edge_and_minus_zero_is_zero():
    labels, edges = np.ones((1, 1, 4), int), edge_mask((1, 1, 4), [(0, 0, 1)])
    affinities = np.array([[[[-0.0, 0.0, -0.0, 0.5]]]], np.float32)
    positive, _ = pair_counts(affinities, labels, edges, [(0, 0, 1)], constrained=True)
    assert positive.ravel().tolist() == [1, 2, 3, 0]


def test_constrained_ignores_paths_outside_the_object_but_malis_takes_them():
    """A U of object 1, cut at its foot, whose arms meet through background as well."""
    labels = np.array([[[1, 1, 1], [1, 0, 1]]])
    affinities = np.zeros((2, 1, 2, 3), np.float32)
    affinities[0, 0, 1] = [1, 0, 1]
    affinities[1, 0, 0, 1:] = [1, 0.1]
    affinities[1, 0, 1, 1:] = [0.7, 0.6]
    neighborhood = [(0, -1, 0), (0, 0, -1)]
    edges = edge_mask(labels.shape, neighborhood)
    inside, _ = pair_counts(affinities, labels, edges, neighborhood, constrained=True)
    anywhere, _ = pair_counts(affinities, labels, edges, neighborhood, constrained=False)
    assert inside[1, 0, 0, 2] == 6 and inside[1, 0, 1].sum() == 0
    assert anywhere[1, 0, 0, 2] == 0 and anywhere[1, 0, 1, 2] == 6


def test_counts_are_exact_beyond_32_bits():
    """Two halves of 2^17 voxels, joined by one edge at last: 2^34 pairs."""
    labels = np.repeat([1, 2], 2**17).reshape(1, 1, -1)
    affinities = np.ones((1, *labels.shape), np.float32)
    affinities[..., 2**17] = 0.5
    edges = edge_mask(labels.shape, [(0, 0, -1)])
    for constrained in (True, False):
        positive, negative = pair_counts(affinities, labels, edges, [(0, 0, -1)], constrained=constrained)
        assert negative[..., 2**17] == negative.sum() == 2**34
        assert positive.sum() == 2 * (2**17 * (2**17 - 1) // 2)


def test_read_only_inputs_of_other_dtypes_and_layouts_stay_as_they_are():
    affinities, labels, edges, neighborhood = volume(3, (3, 4, 5), "long")
    expected = pair_counts(affinities, labels, edges, neighborhood, constrained=True)
    unsigned = np.asfortranarray(labels.astype(np.uint64))
    arrays = (affinities.astype(np.float64), unsigned, np.asfortranarray(edges))
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    np.testing.assert_array_equal(pair_counts(*arrays, neighborhood, constrained=True), expected)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("count", [pair_counts, higra_pairs])
@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("value", [np.nan, -0.25, 1.5, np.inf])
def test_bad_affinities_are_named_with_their_place(count, constrained, value):
    labels, edges = np.ones((1, 2, 3), int), edge_mask((1, 2, 3), [(0, 0, -1)])
    affinities = np.full((1, 1, 2, 3), 0.5, np.float32)
    affinities[0, 0, 1, 0] = np.nan  # no edge: nobody looks at it
    count(affinities, labels, edges, [(0, 0, -1)], constrained=constrained)
    affinities[0, 0, 1, 2] = value
    with pytest.raises(InvalidInput, match=rf"affinities must lie in 0..1.*{value}.*\(0, 0, 1, 2\)"):
        count(affinities, labels, edges, [(0, 0, -1)], constrained=constrained)


def test_edges_out_of_the_volume_and_wrong_shapes_and_dtypes_are_refused():
    affinities, labels, edges, neighborhood = volume(1)
    with pytest.raises(InvalidInput, match="edge leaves the volume"):
        pair_counts(affinities, labels, np.ones_like(edges), neighborhood, constrained=True)
    with pytest.raises(InvalidShape, match="must have shapes"):
        pair_counts(affinities, labels[1:], edges, neighborhood, constrained=True)
    with pytest.raises(InvalidShape, match="must have shapes"):
        pair_counts(affinities[:2], labels, edges, neighborhood, constrained=True)
    with pytest.raises(InvalidInput, match="must be bool and integers"):
        pair_counts(affinities, labels.astype(float), edges, neighborhood, constrained=True)
    with pytest.raises(InvalidInput, match="must be bool and integers"):
        pair_counts(affinities, labels, edges.astype(int), neighborhood, constrained=True)


LOSSES = [Malis, ConstrainedMalis, MalisHigra, lambda balanced: MalisHigra(constrained=False, balanced=balanced)]
CONSTRAINED = [False, True, True, False]


def predict(logits, labels, edges, neighborhood):
    """A prediction from arrays of several items; the target plays no part in MALIS."""
    return Prediction(
        logits=logits,
        target=torch.zeros(logits.shape),
        labels=torch.from_numpy(labels),
        mask=torch.ones(labels.shape, dtype=torch.bool),
        edges=torch.from_numpy(edges),
        neighborhood=np.array(neighborhood),
    )


def batch(seeds, shape=(2, 3, 3), neighborhood="nearest", dtype=torch.float32):
    """A prediction of several items with distinct random logits."""
    items = [volume(seed, shape, neighborhood, objects=3) for seed in seeds]
    labels, edges = (np.stack([item[k] for item in items]) for k in (1, 2))
    logits = torch.from_numpy(np.random.default_rng(seeds[0]).normal(size=edges.shape)).to(dtype)
    return predict(logits.requires_grad_(), labels, edges, NEIGHBORHOODS[neighborhood])


def brute_loss(logits, prediction, constrained, balanced):
    """The definition, in float64, with the pairs counted anew."""
    affinities = 1 / (1 + np.exp(-logits))
    losses = []
    for item, a in enumerate(affinities):
        labels, edges = prediction.labels[item].numpy(), prediction.edges[item].numpy()
        positive, negative = brute(a, labels, edges, prediction.neighborhood, constrained)
        split, merge = (positive * (1 - a) ** 2).sum(), (negative * a**2).sum()
        if balanced:
            losses.append((split / max(positive.sum(), 1) + merge / max(negative.sum(), 1)) / 2)
        else:
            losses.append((split + merge) / max((positive + negative).sum(), 1))
    return np.mean(losses)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize(("loss", "constrained"), list(zip(LOSSES, CONSTRAINED, strict=True)))
def test_value_and_gradient_equal_finite_differences_of_the_definition(loss, constrained, balanced):
    prediction = batch([7, 8])
    value, parts = loss(balanced=balanced)(prediction)
    value.backward()
    logits = prediction.logits.detach().double().numpy()
    assert value.dtype == torch.float32 and value.shape == ()
    assert value.item() == pytest.approx(brute_loss(logits, prediction, constrained, balanced), rel=1e-5)
    assert sum(parts.values()).item() == pytest.approx(value.item(), rel=1e-5)
    assert not any(part.requires_grad for part in parts.values())
    step = 1e-6
    for where in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[where] += step
        down[where] -= step
        rise = brute_loss(up, prediction, constrained, balanced) - brute_loss(down, prediction, constrained, balanced)
        assert prediction.logits.grad[where].item() == pytest.approx(rise / (2 * step), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_is_the_mean_of_its_items(loss):
    both, first, second = batch([1, 2]), batch([1]), batch([2])
    logits = both.logits.detach()
    values = []
    for item, single in enumerate((first, second)):
        arrays = single.labels.numpy(), single.edges.numpy(), single.neighborhood
        values.append(loss(balanced=True)(predict(logits[item : item + 1], *arrays))[0].item())
    assert values[0] != values[1]
    assert loss(balanced=True)(both)[0].item() == pytest.approx(np.mean(values), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", ["background", "no edges", "one voxel"])
def test_without_pairs_loss_and_gradient_are_zero(loss, case):
    shape = (1, 1, 1) if case == "one voxel" else (2, 2, 2)
    labels = np.zeros((2, *shape), np.int64) if case == "background" else np.ones((2, *shape), np.int64)
    edges = np.stack([edge_mask(shape, NEIGHBORHOODS["nearest"])] * 2) & (case != "no edges")
    logits = torch.randn(edges.shape, requires_grad=True)
    value, _ = loss(balanced=True)(predict(logits, labels, edges, NEIGHBORHOODS["nearest"]))
    value.backward()
    assert value.item() == 0 and logits.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("loss", LOSSES[:2])
def test_any_float_dtype_gives_the_loss_of_its_float32_affinities(loss, dtype):
    """Saturated logits too, whose affinities tie at exactly 1."""
    prediction = batch([4], neighborhood="long", dtype=dtype)
    with torch.no_grad():
        prediction.logits[:, :2] *= 60
    value, _ = loss(balanced=True)(prediction)
    value.backward()
    same = prediction.logits.detach().float()
    arrays = prediction.labels.numpy(), prediction.edges.numpy(), prediction.neighborhood
    assert value.dtype == torch.float32
    assert value.item() == loss(balanced=True)(predict(same, *arrays))[0].item()
    assert prediction.logits.grad.dtype == dtype and prediction.logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_logits_are_refused(loss):
    prediction = batch([4])
    where = tuple(prediction.edges.nonzero()[0])
    with torch.no_grad():
        prediction.logits[where] = torch.nan
    with pytest.raises(InvalidInput, match=r"must lie in 0\.\.1 and not be NaN, not nan"):
        loss(balanced=True)(prediction)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_inputs_give_equal_bits_and_stay_unchanged(loss):
    results = []
    prediction = batch([9], (4, 5, 6))
    before = [t.detach().clone() for t in (prediction.logits, prediction.labels, prediction.edges)]
    for _ in range(2):
        prediction.logits.grad = None
        value, _ = loss(balanced=True)(prediction)
        value.backward(retain_graph=True)
        results.append((value.item(), prediction.logits.grad.clone()))
    assert results[0][0] == results[1][0] and torch.equal(results[0][1], results[1][1])
    for tensor, copy in zip((prediction.logits, prediction.labels, prediction.edges), before, strict=True):
        assert torch.equal(tensor.detach(), copy)


@pytest.mark.parametrize("loss", LOSSES)
def test_descent_ends_at_the_true_segmentation(loss):
    """Two slabs with membrane between: afterwards the components of affinities > 0.5 tell the objects apart."""
    labels = np.repeat([1, 0, 2], [2, 1, 2])[None, None, :, None] * np.ones((1, 2, 1, 3), np.int64)
    edges = edge_mask(labels.shape[1:], NEIGHBORHOODS["nearest"])[None]
    logits = torch.randn(edges.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    values = []
    for _ in range(150):
        optimizer.zero_grad()
        value, _ = loss(balanced=True)(predict(logits, labels, edges, NEIGHBORHOODS["nearest"]))
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.02 < values[0]
    affinities = logits.detach().sigmoid().numpy()[0]
    strong = edges[0] & (affinities > 0.5)
    positive, negative = pair_counts(affinities, labels[0], strong, NEIGHBORHOODS["nearest"], constrained=False)
    assert positive.sum() == 2 * (12 * 11 // 2) and negative.sum() == 0
