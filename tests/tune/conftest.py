"""Volumes to choose by, small enough for every test."""

import pytest

from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites
from segkit.tune import Grid, Scene, Space


@pytest.fixture(scope="session")
def scenes():
    """Three volumes: those that a good network predicts, and a bad one."""
    found = []
    for seed, noise in enumerate((0.2, 0.25, 0.35)):
        truth = neurites((12, 28, 28), count=6, seed=seed).truth
        found.append(Scene(oracle_affinities(truth, noise=noise, seed=seed), truth))
    return found


@pytest.fixture(scope="session")
def space():
    """Six fragmentations of two fragmenters, three scores."""
    return Space(
        (
            Grid("fragmenters", "watershed", {"threshold": [0.7, 0.5], "seed_distance": [3, 5]}),
            Grid("fragmenters", "affinity-watershed", {"size_threshold": [5, 20]}),
        ),
        (
            Grid("agglomerators", "python", {"score": ["mean", "max"]}),
            Grid("agglomerators", "python", {"score": ["quantile"], "quantile": [0.6]}),
        ),
    )
