"""Fragmenters and their peers side by side: pytest benchmarks/test_fragment.py --benchmark-enable."""

import numpy as np
import pytest

from segkit.errors import UnknownComponent
from segkit.fragment._distance import maxima, squared_distance
from segkit.fragment._flood import flooded, numbered_seeds
from segkit.fragment._shared import voxels_above
from segkit.registry import load

SIZE, THRESHOLD, WINDOW = 64, 0.7, 11


@pytest.mark.parametrize("per_section", [False, True])
@pytest.mark.parametrize("name", ["threshold", "watershed", "affinity-watershed", "higra-watershed", "waterz"])
@pytest.mark.benchmark(group="fragment")
def test_fragment(benchmark, volume, name, per_section):
    _, affinities, _ = volume(SIZE)
    if name == "waterz" and per_section:
        pytest.skip("waterz floods volumes only")
    try:
        fragmenter = load("fragmenters", name, **({"per_section": True} if per_section else {}))
    except UnknownComponent as error:
        pytest.skip(str(error))
    fragmenter.fragment(affinities)  # compiles
    assert benchmark(fragmenter.fragment, affinities).array.max() > 1


@pytest.mark.parametrize("per_section", [False, True])
@pytest.mark.benchmark(group="fragment")
def test_scipy_and_mahotas(benchmark, volume, per_section):
    """The same watershed, as it is usually put together."""
    mahotas = pytest.importorskip("mahotas", reason="needs mahotas")
    _, affinities, _ = volume(SIZE)
    assert benchmark(scipy_and_mahotas, affinities.array, mahotas, per_section).max() > 1


def scipy_and_mahotas(array, mahotas, per_section):
    from scipy.ndimage import distance_transform_edt, maximum_filter

    inside = array.mean(axis=0) > THRESHOLD
    labels, last = np.empty(inside.shape, np.uint64), 0
    for slab in [slice(z, z + 1) for z in range(len(inside))] if per_section else [slice(None)]:
        part = inside[slab][0] if per_section else inside
        distance = distance_transform_edt(part)
        seeds, count = mahotas.label(maximum_filter(distance, WINDOW) == distance)
        labels[slab] = mahotas.cwatershed(distance.max() - distance, seeds) + last
        last += count
    return labels


@pytest.mark.parametrize("flooding", ["segkit", "skimage"])
@pytest.mark.benchmark(group="flood")
def test_flooding(benchmark, volume, flooding):
    """The flooding alone, from the same seeds."""
    from skimage.segmentation import watershed

    _, affinities, _ = volume(SIZE)
    squares = squared_distance(voxels_above(affinities, None, False, "mean", THRESHOLD), (1, 1, 1), False)
    places = maxima(squares, [WINDOW // 2] * 3, False)
    seeds = numbered_seeds(places, squares, False)
    markers = np.zeros(squares.shape, np.int32)
    markers.flat[places] = seeds[0][0]
    flooded(squares, places, seeds, None)  # compiles
    arguments = (flooded, squares, places, seeds, None) if flooding == "segkit" else (watershed, -squares, markers)
    assert (benchmark(*arguments) > 0).all()
