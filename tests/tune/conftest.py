"""Volumes to choose by, small enough for every test."""

import pytest

from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites
from segkit.tune import Choices, Scene, Space


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
            Choices("fragmenters", "watershed", {"threshold": [0.7, 0.5], "seed_distance": [3, 5]}),
            Choices("fragmenters", "affinity-watershed", {"size_threshold": [5, 20]}),
        ),
        (
            Choices("agglomerators", "python", {"score": ["mean", "max"]}),
            Choices("agglomerators", "python", {"score": ["quantile"], "quantile": [0.6]}),
        ),
    )
