"""Inputs of the benchmarks: affinities like a network's, made from synthetic neurites, so that anybody has them."""

import pytest


@pytest.fixture(scope="session")
def volume():
    """A callable(size) -> (truth, affinities, fragments) of size^3 voxels, each made once."""
    from segkit.fragment.watershed import Watershed
    from segkit.infer.oracle import oracle_affinities
    from segkit.testing.phantoms import neurites

    made = {}

    def make(size: int):
        if size not in made:
            truth = neurites((size, size, size), count=max(size**3 // 20_000, 4), seed=1).truth
            affinities = oracle_affinities(truth, noise=0.2, seed=1)
            made[size] = truth, affinities, Watershed(threshold=0.7, seed_distance=4).fragment(affinities)
        return made[size]

    return make
