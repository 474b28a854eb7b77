"""Periodic patterns: networks leave grids at the period of their pooling, and stacks at that of their sections."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import rfft

from segkit.data import Affinities, edge_slices
from segkit.health.channels import AXES, channel_name

REPEATS = 4
"""Fewer repeats in the volume are no period."""
REACH = 6
"""The background of a frequency is taken from so many frequencies on each side."""
LINES = 2**16
"""Spectra look at no more than about so many lines of voxels, spread evenly."""
PROFILE = 0.25
"""Prominence in the profile counts so much: it is a mean over few objects, and varies more than the mean of lines."""
FAINT = 1e-3
"""Frequencies of the profile with a smaller share of the variance are not looked at."""
PATTERN = 2.0
"""Less prominent frequencies are no pattern whose fundamental would be worth looking for."""
FEW = 2**12
"""Lines that are enough to choose between fundamentals."""
NEARLY = 0.9
"""The shortest period that holds so much of the largest share is the fundamental: its multiples hold as much."""


@dataclass(frozen=True)
class Peak:
    """A frequency along one axis of one channel, with its harmonics."""

    channel: str
    axis: str
    """The axis along which the pattern repeats: "z", "y", "x"."""
    period: float
    """Voxels."""
    share: float
    """What it holds of the channel's variance, beyond the background of the spectrum: 0..1."""
    prominence: float
    """Power over that of the background, the larger of both sides: about 1 where there is no pattern. That of the
    mean profile, which shows faint patterns that all lines have in common, counts a quarter."""
    in_profile: float
    """The part of `share` that all lines have in common: what the mean over the two other axes shows."""


def peaks(affinities: Affinities, periods: Sequence[int] = (1, 1, 1)) -> tuple[tuple[Peak, ...], tuple[Peak, ...]]:
    """The strongest peak of every channel along every axis; and those at `periods` (z, y, x), where these exceed 1.

    An axis with too few voxels for four repeats has none, nor has a constant channel.
    """
    strongest, wanted = [], []
    for values, offset in zip(affinities.array, affinities.neighborhood, strict=True):
        values = values[edge_slices(affinities.shape, offset)[0]]
        if not values.size or not values.min() < values.max():
            continue
        for axis, name in enumerate(AXES):
            where = channel_name(offset), name
            if values.shape[axis] >= 2 * REPEATS:
                strongest.append(_strongest(where, values, axis))
            if 1 < periods[axis] <= values.shape[axis] // REPEATS:
                wanted.append(_at(where, values, axis, periods[axis]))
    return tuple(strongest), tuple(wanted)


class Spectrum:
    """Power along one axis, by frequency, as shares of the variance of the whole array (those of `lines` sum to 1)."""

    def __init__(self, values: np.ndarray, axis: int, most: int = LINES) -> None:
        lines = np.moveaxis(values, axis, -1)
        self.length = lines.shape[-1]
        mean = np.mean(lines, dtype=np.float64)
        variance = max(np.var(lines, dtype=np.float64), np.finfo(np.float64).tiny)
        self.profile = _power(np.asarray(np.mean(lines, axis=(0, 1), dtype=np.float64)) - mean) / variance
        step = -(-lines.shape[0] * lines.shape[1] // most)
        chosen = lines.reshape(-1, self.length)[::step] if step > 1 else lines
        self.lines = _power(chosen - np.float32(mean)) / variance
        self._both = self.lines, self.profile

    def peak(self, where: tuple[str, str], base: int) -> Peak:
        """The peak at frequency `base` (repeats in the array) and its harmonics."""
        harmonics = np.arange(base, len(self.lines), base)
        power, background = self._above(self.lines, harmonics)
        profile, floor = self._above(self.profile, harmonics)
        common = np.maximum(profile - floor, 0).sum()
        excess = max(np.maximum(power - background, 0).sum(), common)  # neurons hide faint long periods in the lines
        prominence = self.prominences(harmonics).max()
        return Peak(*where, self.length / base, float(excess), float(prominence), float(common))

    def prominences(self, frequencies: np.ndarray) -> np.ndarray:
        """Power over background at each frequency: that of the lines, or a quarter of that of the profile."""
        lines, profile = (power[frequencies] / _positive(self._background(power, frequencies)) for power in self._both)
        return np.maximum(lines, np.where(self.profile[frequencies] >= FAINT, PROFILE * profile, 0))

    def _above(self, power: np.ndarray, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Power in each frequency and its neighbours, and what the background has there."""
        padded = np.concatenate([power, np.zeros(1)])
        width = 3 - (frequencies == len(power) - 1)
        total = padded[frequencies - 1] * (frequencies > 1) + padded[frequencies] + padded[frequencies + 1]
        return total, width * self._background(power, frequencies)

    def _background(self, power: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        """The larger of the medians on both sides, so that a slope is no peak; direct neighbours do not count."""
        medians = []
        for frequency in frequencies:
            left = power[max(frequency - 1 - REACH, 1) : frequency - 1]
            right = power[frequency + 2 : frequency + 2 + REACH]
            medians.append(max((np.median(side) for side in (left, right) if len(side)), default=0.0))
        return np.array(medians)


def _strongest(where: tuple[str, str], values: np.ndarray, axis: int) -> Peak:
    """The most prominent frequency; if it is a pattern of whole voxels, as its fundamental with all harmonics."""
    spectrum = Spectrum(values, axis)
    tried = np.arange(REPEATS, len(spectrum.lines))
    frequency = REPEATS + int(spectrum.prominences(tried).argmax())
    peak = spectrum.peak(where, frequency)
    if peak.prominence < PATTERN:
        return peak
    periods = _multiples(spectrum.length, frequency)
    shares = np.array([_at(where, values, axis, period, FEW).share for period in periods])
    exact = _at(where, values, axis, periods[int((shares >= NEARLY * shares.max()).argmax())])
    return exact if exact.share >= NEARLY * peak.share else peak


def _multiples(length: int, frequency: int) -> list[int]:
    """Whole periods of which `frequency`, give or take a half, may be a harmonic."""
    found = set()
    for harmonic in range(1, frequency // REPEATS + 1):
        low, high = harmonic * length / (frequency + 0.5), harmonic * length / (frequency - 0.5)
        found |= set(range(int(low), int(high) + 2))
    return sorted(period for period in found if 2 <= period <= length // REPEATS)


def _at(where: tuple[str, str], values: np.ndarray, axis: int, period: int, most: int = LINES) -> Peak:
    """The peak at `period`, in as many voxels as hold whole repeats, so that it falls on one frequency."""
    repeats = values.shape[axis] // period
    whole = np.moveaxis(np.moveaxis(values, axis, 0)[: repeats * period], 0, axis)
    return Spectrum(whole, axis, most).peak(where, repeats)


def _power(lines: np.ndarray) -> np.ndarray:
    """Mean power of lines (last axis) by frequency, so that the sum from frequency 1 on is their mean variance."""
    length = lines.shape[-1]
    coefficients = rfft(lines, axis=-1)
    power = (coefficients.real**2 + coefficients.imag**2).reshape(-1, coefficients.shape[-1]).mean(0, dtype=np.float64)
    power *= 2 / length**2
    power[0] = 0
    if length % 2 == 0:
        power[-1] /= 2
    return power


def _positive(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 1e-12)
