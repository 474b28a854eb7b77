"""Roots are found whichever way a forest is stored, and paths become shorter only where that is wanted."""

import numpy as np
import pytest

from segkit.kernels.union_find import find_in_records, find_root, find_root_unchanged, find_sized_root


def chain(length: int) -> np.ndarray:
    """Node k hangs from node k - 1."""
    return np.maximum(np.arange(length) - 1, 0)


def random_forest(seed: int, nodes: int = 200) -> tuple[np.ndarray, list[int]]:
    """A forest, some nodes of which are roots, and the root of each node, found by walking up."""
    random = np.random.default_rng(seed)
    parents = np.array([node if random.random() < 0.1 else random.integers(0, node + 1) for node in range(nodes)])
    roots: list[int] = []
    for node, above in enumerate(parents):
        roots.append(node if above == node else roots[above])
    return parents, roots


def test_a_path_is_halved():
    parents = chain(4)
    assert find_root(parents, 3) == 0 and parents.tolist() == [0, 0, 1, 1]


def test_a_path_is_left_alone():
    parents = chain(4)
    assert find_root_unchanged(parents, 3) == 0 and parents.tolist() == [0, 0, 1, 2]


def test_a_root_holds_minus_its_size():
    parents = np.array([-4, 0, 1, 2])
    assert find_sized_root(parents, 3) == 0 and parents.tolist() == [-4, 0, 1, 1]
    assert find_sized_root(parents, 0) == 0


def test_parents_are_a_field_of_records():
    nodes = np.zeros(4, [("parent", "i4"), ("size", "i4")]).view(np.recarray)
    nodes.parent = chain(4)
    assert find_in_records(nodes, 3) == 0 and nodes.parent.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_all_ways_find_the_roots_of_a_walk_upwards(seed):
    parents, roots = random_forest(seed)
    sized = np.where(parents == np.arange(len(parents)), -1, parents)
    nodes = np.zeros(len(parents), [("parent", "i4"), ("size", "i4")]).view(np.recarray)
    nodes.parent = parents
    order = np.random.default_rng(seed).permutation(len(parents))
    halved = parents.copy()
    for node in order:
        found = find_root(halved, node), find_sized_root(sized, node), find_in_records(nodes, node)
        assert {*found, find_root_unchanged(parents, node)} == {roots[node]}
