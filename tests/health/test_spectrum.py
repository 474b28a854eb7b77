import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import Affinities
from segkit.health.spectrum import Spectrum, peaks

SHAPE = (24, 49, 64)


def noise(seed=0, size=0.05):
    rng = np.random.default_rng(seed)
    return 0.5 + size * rng.standard_normal((3, *SHAPE)).astype(np.float32)


def strongest(array, channel, axis):
    found, _ = peaks(Affinities.convert(np.clip(array, 0, 1)))
    return next(peak for peak in found if (peak.channel, peak.axis) == (channel, axis))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 9))
def test_power_adds_up_to_the_variance(length, lines, seed):
    values = np.random.default_rng(seed).random((lines, 3, length)).astype(np.float32)
    spectrum = Spectrum(values, 2)
    within = values.var(axis=2).mean() / values.var()  # the variance between lines is at frequency 0
    between = (values.mean(axis=2).astype(float) - values.mean()) ** 2
    assert spectrum.lines.sum() == pytest.approx(1 - between.mean() / values.var(), abs=1e-4)
    assert spectrum.lines.sum() == pytest.approx(within, abs=1e-4)
    assert spectrum.profile.sum() == pytest.approx(values.mean((0, 1)).var() / values.var(), abs=1e-4)


@pytest.mark.parametrize("period", [2, 3, 8, 10])
def test_a_comb_is_found_with_its_share(period):
    array = noise()
    clean = array[0, 1:].var()
    array[0, :, :, ::period] -= 0.2
    peak = strongest(array, "z", "x")
    assert peak.period == pytest.approx(period, rel=0.02) and peak.prominence > 50
    held = 1 - clean / array[0, 1:].var()
    assert peak.share == pytest.approx(held, abs=0.08) and peak.in_profile == pytest.approx(peak.share, abs=0.03)
    assert strongest(array, "y", "x").prominence < 2 > strongest(array, "z", "y").prominence


def test_what_is_at_the_stride_is_exact():
    array = noise()
    array[1, :, :, 5::9] -= 0.3
    _, wanted = peaks(Affinities.convert(np.clip(array, 0, 1)), (1, 1, 9))
    shares = {peak.channel: peak.share for peak in wanted}
    comb = 0.3**2 * (1 / 9) * (8 / 9)
    assert shares["y"] == pytest.approx(comb / (comb + 0.05**2), abs=0.02)
    assert shares["z"] < 0.01 and {(peak.axis, peak.period) for peak in wanted} == {("x", 9)}


def test_points_that_repeat_are_seen_although_the_profile_hardly_shows_them():
    array = noise(size=0.02)
    array[2, :, ::7, ::8] -= 0.4
    peak = strongest(array, "x", "x")
    assert peak.period == pytest.approx(8, rel=0.02) and peak.share > 2 * peak.in_profile


def test_a_wave_that_all_lines_share_is_seen_where_each_line_alone_is_wild():
    rng = np.random.default_rng(4)
    walks = np.cumsum(rng.standard_normal((3, 24, 49, 128)), axis=3) * 0.02
    wave = 0.03 * np.sin(np.arange(128) * 2 * np.pi / 10)
    array = np.clip(0.5 + walks - walks.mean(axis=3, keepdims=True) + wave, 0, 1).astype(np.float32)
    peak = strongest(array, "z", "x")
    assert peak.period == pytest.approx(10, rel=0.05) and peak.prominence > 4


def test_neither_noise_nor_a_slope_is_a_peak():
    found, _ = peaks(Affinities.convert(noise()))
    assert len(found) == 9 and max(peak.prominence for peak in found) < 2
    slope = np.linspace(0, 1, 64, dtype=np.float32) ** 2 * np.ones((3, *SHAPE), np.float32)
    assert strongest(slope, "z", "x").prominence < 2


def test_what_is_too_short_or_constant_has_none():
    found, wanted = peaks(Affinities.convert(noise()[:, :4]), (1, 13, 17))
    assert {peak.axis for peak in found} == {"y", "x"} and wanted == ()
    assert peaks(Affinities.convert(np.full((3, 9, 9, 9), 0.5, np.float32)), (1, 2, 2)) == ((), ())
