"""What every fragmenter promises, checked for all of them."""

import numpy as np
import pytest
from scipy.ndimage import label

import segkit
from segkit.data import NEAREST, Affinities, Grid, Labels, Volume, edge_mask
from segkit.errors import InvalidInput, InvalidParameter, InvalidShape

NAMES = ("threshold", "watershed", "affinity-watershed", "higra-watershed")
IN_PLANE = ((0, -1, 0), (0, 0, -1))
SHAPE = (5, 14, 13)


def assert_numbered(array):
    ids = np.unique(array)
    assert np.array_equal(ids[ids > 0], np.arange(1, len(ids[ids > 0]) + 1))


@pytest.mark.parametrize("per_section", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_numbered_connected_and_on_the_grid(name, per_section, random_affinities):
    affinities = random_affinities(SHAPE)
    fragments = segkit.load("fragmenters", name, per_section=per_section).fragment(affinities)
    assert fragments.array.dtype == np.uint64
    assert fragments.grid == affinities.grid
    assert fragments.shape == SHAPE
    assert_numbered(fragments.array)
    assert fragments.array.max() > 1
    for fragment in fragments.ids():
        assert label(fragments.array == fragment)[1] == 1


@pytest.mark.parametrize("name", NAMES)
def test_same_input_same_output_and_nothing_shared(name, random_affinities):
    affinities = random_affinities(SHAPE, levels=3)
    before = affinities.array.copy()
    fragmenter = segkit.load("fragmenters", name)
    first, second = fragmenter.fragment(affinities), fragmenter.fragment(affinities)
    assert np.array_equal(first.array, second.array)
    assert not np.shares_memory(first.array, second.array)
    assert np.array_equal(affinities.array, before)


@pytest.mark.parametrize("per_section", [False, True])
@pytest.mark.parametrize("name", ("threshold", "watershed", "affinity-watershed"))
def test_the_number_of_threads_does_not_matter(name, per_section, random_affinities, monkeypatch):
    affinities = random_affinities((9, 40, 70), levels=5)
    mask = Volume(np.random.default_rng(3).random((9, 40, 70)) < 0.95, affinities.grid)
    results = []
    for threads in (1, 2, 7):
        monkeypatch.setattr("segkit.threads.thread_count", lambda threads=threads: threads)
        results.append(segkit.load("fragmenters", name, per_section=per_section).fragment(affinities, mask).array)
    assert results[0].max() > 10
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_equals_a_crop(name, random_affinities):
    """Nothing outside the mask has any influence, and outside it all is 0."""
    affinities = random_affinities(SHAPE)
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 2:12, 3:13] = True
    fragments = segkit.load("fragmenters", name).fragment(affinities, Volume(mask, affinities.grid))
    assert not fragments.array[~mask].any()
    box = affinities.array[:, 1:4, 2:12, 3:13]
    cropped = Affinities(np.where(edge_mask(box.shape[1:], NEAREST), box, np.float32(0)), NEAREST, Grid())
    if name == "watershed":  # to it the border of a mask is a boundary, that of a volume is not
        assert_numbered(fragments.array)
        return
    expected = segkit.load("fragmenters", name).fragment(cropped)
    assert np.array_equal(fragments.array[1:4, 2:12, 3:13], expected.array)


@pytest.mark.parametrize("name", NAMES)
def test_sections_apart_equal_sections_one_by_one(name, random_affinities):
    affinities = random_affinities(SHAPE)
    fragmenter = segkit.load("fragmenters", name, per_section=True)
    whole = fragmenter.fragment(affinities).array
    last = 0
    for z in range(SHAPE[0]):
        section = Affinities(affinities.array[1:, z : z + 1], IN_PLANE, affinities.grid)
        alone = fragmenter.fragment(section).array.astype(int)
        assert np.array_equal(whole[z : z + 1], np.where(alone > 0, alone + last, 0))
        last += alone.max()


@pytest.mark.parametrize("name", NAMES)
def test_only_edges_to_neighbours_count(name, random_affinities):
    affinities = random_affinities(SHAPE)
    more = random_affinities(SHAPE, seed=9, neighborhood=((0, -3, 0), (-1, -1, 0)))
    both = Affinities(
        np.concatenate([more.array, affinities.array]), [*more.neighborhood, *affinities.neighborhood], affinities.grid
    )
    fragmenter = segkit.load("fragmenters", name)
    assert np.array_equal(fragmenter.fragment(both).array, fragmenter.fragment(affinities).array)


@pytest.mark.parametrize("name", NAMES)
def test_the_end_at_which_an_edge_is_stored_does_not_matter(name, random_affinities):
    affinities = random_affinities(SHAPE)
    moved = np.zeros_like(affinities.array)
    moved[0, :-1], moved[1, :, :-1], moved[2, :, :, :-1] = (
        affinities.array[0, 1:],
        affinities.array[1, :, 1:],
        affinities.array[2, :, :, 1:],
    )
    successors = Affinities(moved, -affinities.neighborhood, affinities.grid)
    fragmenter = segkit.load("fragmenters", name)
    assert np.array_equal(fragmenter.fragment(successors).array, fragmenter.fragment(affinities).array)


@pytest.mark.parametrize("name", NAMES)
def test_two_dimensional_neighborhoods_work_section_by_section_only(name, random_affinities):
    affinities = random_affinities(SHAPE, neighborhood=IN_PLANE)
    with pytest.raises(InvalidInput, match="per_section=true"):
        segkit.load("fragmenters", name).fragment(affinities)
    assert segkit.load("fragmenters", name, per_section=True).fragment(affinities).array.max() >= SHAPE[0]
    section = Affinities(affinities.array[:, :1], IN_PLANE, affinities.grid)
    assert segkit.load("fragmenters", name).fragment(section).array.any()


@pytest.mark.parametrize("name", NAMES)
def test_missing_in_plane_edges_are_refused(name, random_affinities):
    affinities = random_affinities(SHAPE, neighborhood=((-1, 0, 0), (0, -1, 0)))
    for per_section in (False, True):
        with pytest.raises(InvalidInput, match="along x"):
            segkit.load("fragmenters", name, per_section=per_section).fragment(affinities)


@pytest.mark.parametrize("name", NAMES)
def test_masks_that_do_not_fit_are_refused(name, random_affinities):
    affinities = random_affinities(SHAPE)
    fragmenter = segkit.load("fragmenters", name)
    with pytest.raises(InvalidShape, match="affinities and mask"):
        fragmenter.fragment(affinities, Volume(np.ones((2, 2, 2), bool), affinities.grid))
    with pytest.raises(InvalidInput, match="voxel size"):
        fragmenter.fragment(affinities, Volume(np.ones(SHAPE, bool), Grid((1, 1, 1))))
    with pytest.raises(InvalidInput, match="booleans"):
        fragmenter.fragment(affinities, Volume(np.ones(SHAPE, np.float32), affinities.grid))


@pytest.mark.parametrize("value", [np.nan, 1.01, -0.01])
@pytest.mark.parametrize("name", NAMES)
def test_affinities_that_are_none_are_refused_where_they_are_used(name, value, random_affinities):
    array = random_affinities(SHAPE).array.copy()
    array[0, 2, 3, 4] = value
    bad = Affinities(array, NEAREST, Grid())
    with pytest.raises(InvalidInput, match=r"^affinities must .*"):
        segkit.load("fragmenters", name).fragment(bad)
    assert segkit.load("fragmenters", name, per_section=True).fragment(bad).array.any()


@pytest.mark.parametrize("name", NAMES)
def test_empty_mask_gives_no_fragment(name, random_affinities):
    affinities = random_affinities(SHAPE)
    fragments = segkit.load("fragmenters", name).fragment(affinities, Volume(np.zeros(SHAPE, bool), affinities.grid))
    assert not fragments.array.any()


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 1, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_a_volume_without_boundaries_is_one_fragment(name, shape):
    affinities = Affinities.from_labels(Labels(np.ones(shape, np.uint64), Grid()))
    assert (segkit.load("fragmenters", name).fragment(affinities).array == 1).all()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("threshold", {"threshold": 1.5}, "threshold must lie in 0..1"),
        ("threshold", {"min_size": -1}, "min_size must be at least 0"),
        ("watershed", {"threshold": -0.1}, "threshold must lie in 0..1"),
        ("watershed", {"seed_distance": 0}, "seed_distance must be at least 1"),
        ("affinity-watershed", {"low": 0.9, "high": 0.2}, "low must be below high"),
        ("affinity-watershed", {"merge_threshold": float("nan")}, "merge_threshold"),
        ("higra-watershed", {"level": -1}, "level must be at least 0"),
        ("higra-watershed", {"hierarchy": "none", "level": 3}, "omit it"),
        ("higra-watershed", {"hierarchy": "depth"}, "'none' | 'area' | 'dynamics' | 'volume'"),
    ],
)
def test_bad_parameters_are_named(name, values, message):
    with pytest.raises(InvalidParameter) as caught:
        segkit.load("fragmenters", name, **values)
    assert message in str(caught.value)
