import numpy as np
import pytest

from segkit import Affinities, Grid, Labels
from segkit.agglomerate.reference import Reference
from segkit.errors import InvalidParameter, InvalidShape


def row(ids, values):
    """Fragments along x, and the affinity between each voxel and the one before it."""
    affinities = Affinities.convert([[[[0, *values]]]], [(0, 0, -1)])
    return affinities, Labels.convert(np.array([[ids]], np.uint64), Grid())


def statistic(values, score, quantile, bins, histogram_init, initial):
    """Of all affinities of a contact; `initial` lists them by pair of fragments."""
    if score == "mean":
        return np.mean(values)
    if score in ("min", "max"):
        return getattr(np, score)(values)
    if histogram_init == "max":
        values = [max(part) for part in initial]
    binned = sorted(min(int(np.float32(v) * bins), bins - 1) for v in values)
    return (binned[min(int(len(binned) * quantile), len(binned) - 1)] + 0.5) / bins


def merge_by_definition(affinities, fragments, **parameters):
    """Looks at every voxel anew for each merge. Pairs of clusters (sets of fragment ids) and scores."""
    edges = []
    for channel, offset in zip(affinities.array, affinities.neighborhood, strict=True):
        for voxel in np.ndindex(*fragments.shape):
            other = tuple(np.add(voxel, offset))
            if all(0 <= i < size for i, size in zip(other, fragments.shape, strict=True)):
                a, b = sorted(int(fragments.array[v]) for v in (voxel, other))
                if a and a != b:
                    edges.append((a, b, float(channel[voxel])))
    cluster = {int(i): frozenset([int(i)]) for i in fragments.ids()}
    history = []
    while True:
        found = {}
        for a, b, value in edges:
            if cluster[a] != cluster[b]:
                found.setdefault(frozenset([cluster[a], cluster[b]]), {}).setdefault((a, b), []).append(value)
        if not found:
            return history
        ranked = []
        for pair, initial in found.items():
            values = [value for part in initial.values() for value in part]
            score = 1 - statistic(values, initial=initial.values(), **parameters)
            ranked.append((round(score, 9), min(initial), sorted(map(sorted, pair))))
        score, _, pair = min(ranked)
        history.append((pair, score))
        union = frozenset(pair[0]) | frozenset(pair[1])
        cluster.update(dict.fromkeys(union, union))


def history_of(tree):
    members = [[i] for i in tree.leaf_ids.tolist()]
    pairs = []
    for a, b in tree.merges:
        pairs.append(sorted([sorted(members[a]), sorted(members[b])]))
        members.append(members[a] + members[b])
    return pairs


@pytest.mark.parametrize(
    "parameters",
    [
        {"score": "mean"},
        {"score": "max"},
        {"score": "min"},
        {"score": "median"},
        {"score": "quantile", "quantile": 0.75, "bins": 8},
        {"score": "quantile", "quantile": 1.0},
        {"score": "quantile", "quantile": 0.25, "histogram_init": "max"},
    ],
    ids=str,
)
def test_follows_the_definition(parameters):
    neighborhood = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 1, -2)]
    full = {"quantile": 0.5, "bins": 256, "histogram_init": "all"} | parameters
    for seed in range(8):
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 9, (4, 2, 4, 4)) / 8  # few values: many ties, and sums that floats hold exactly
        affinities = Affinities.convert(values, neighborhood)
        fragments = Labels.convert(rng.integers(0, 9, (2, 4, 4)), Grid())
        expected = merge_by_definition(affinities, fragments, **full)
        tree = Reference(**parameters).agglomerate(affinities, fragments)
        tree.check()
        assert history_of(tree) == [pair for pair, _ in expected], f"seed {seed}"
        heights = np.maximum.accumulate([score for _, score in expected])
        np.testing.assert_allclose(tree.altitudes, heights, atol=1e-8, err_msg=f"seed {seed}")


def test_hand_worked_mean():
    # 2 -0.9- 5 -0.5- 7, and 2 again beyond 7 with 0.8: after 2+5, the contact with 7 has affinities 0.5 and 0.75
    affinities, fragments = row([2, 5, 7, 2], [0.875, 0.5, 0.75])
    tree = Reference().agglomerate(affinities, fragments)
    assert tree.merges.tolist() == [[0, 1], [2, 3]]
    assert tree.altitudes.tolist() == [0.125, 0.375]
    assert tree.cut(0.2).tolist() == [2, 2, 7]


def test_quantile_one_is_the_largest_bin():
    affinities, fragments = row([1, 2, 1, 2], [0.1, 0.9, 0.3])
    tree = Reference(score="quantile", quantile=1.0, bins=10).agglomerate(affinities, fragments)
    np.testing.assert_allclose(tree.altitudes, [1 - 0.95])


def test_components_stay_apart_and_background_joins_nothing():
    affinities, fragments = row([4, 5, 0, 6, 7, 2**63], [0.5, 1, 1, 0.75, 0])
    tree = Reference().agglomerate(affinities, fragments)
    assert tree.leaf_ids.tolist() == [4, 5, 6, 7, 2**63]
    assert tree.cut(2).tolist() == [4, 4, 6, 6, 6]
    assert tree.altitudes.tolist() == [0.25, 0.5, 1]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"score": "average"}, "score"),
        ({"quantile": 50}, "quantile"),
        ({"quantile": float("nan")}, "quantile"),
        ({"bins": -1}, "bins"),
        ({"max_size": 0}, "max_size"),
        ({"mutex_above": -0.5}, "mutex_above"),
        ({"histogram_init": "min"}, "histogram_init"),
    ],
)
def test_bad_parameters_are_named(parameters, named):
    with pytest.raises(InvalidParameter, match=f"^{named} must"):
        Reference(**parameters)


def test_shapes_must_agree():
    affinities, _ = row([1, 2], [0.5])
    with pytest.raises(InvalidShape, match="affinities and fragments"):
        Reference().agglomerate(affinities, Labels.convert([[[1, 2, 3]]], Grid()))
