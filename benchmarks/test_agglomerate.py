"""Agglomerators side by side: pytest benchmarks/test_agglomerate.py --benchmark-enable."""

import pytest

from segkit.errors import UnknownComponent
from segkit.registry import load

COMPILED_WHEN_ASKED = pytest.param("waterz", "max", marks=pytest.mark.compiler)
PAIRS = [(backend, score) for backend in ("reference", "python") for score in ("mean", "max")]


@pytest.mark.parametrize(("backend", "score"), [*PAIRS, ("waterz", "mean"), COMPILED_WHEN_ASKED])
@pytest.mark.benchmark(group="agglomerate")
def test_agglomerate(benchmark, volume, backend, score):
    _, affinities, fragments = volume(64)
    try:
        agglomerator = load("agglomerators", backend, score=score)
    except UnknownComponent as error:
        pytest.skip(str(error))
    agglomerator.agglomerate(affinities, fragments)  # compiles
    tree = benchmark(agglomerator.agglomerate, affinities, fragments)
    assert len(tree.leaf_ids) == len(fragments.ids())


@pytest.mark.benchmark(group="agglomerate")
def test_agglomerate_higra(benchmark, volume):
    _, affinities, fragments = volume(64)
    tree = benchmark(load("agglomerators", "higra").agglomerate, affinities, fragments)
    assert len(tree.leaf_ids) == len(fragments.ids())
