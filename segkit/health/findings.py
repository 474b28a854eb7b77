"""What the figures mean, in words. The thresholds lie between healthy affinities and spoiled ones, far from both."""

from dataclasses import dataclass

from segkit.health.agreement import CUT, Agreement
from segkit.health.channels import Channel
from segkit.health.figures import HealthFigures
from segkit.health.spectrum import Peak

UNIFORM = 1e-5
"""Largest variance of a channel that says nothing: a standard deviation of 0.003. Networks have some 1e-2, before
training too; a dead one has below 1e-8."""
ONE_SIDED = 0.999
"""Share of values saturated at one end: then the channel has no say, whatever the other values are."""
TWO_SIDED = 0.95
"""Share of values saturated at either end; networks leave under a tenth there, rounding leaves all."""
GRID_SHARE = 0.005
"""Least share of a channel's variance that is called a grid; one of 0.2 % can be seen, but moves no fragment."""
GRID_PROMINENCE = 4.0
"""Least power over background of a grid. Neurons have at most 1.6 along any axis, the faintest visible grid 10."""
CONTRADICTION = 0.7
"""Contradictions over those of unrelated channels: 0.1 to 0.5 in networks, over 0.9 if one channel is noise."""
CONTRADICTORY = 0.1
"""Least share of cut squares that contradict; where nearly all edges are cut, chance is near 0 and means nothing."""
GUESSING = 0.6
"""Area under the ROC curve up to which a channel guesses: 0.5 is chance, networks have over 0.8."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong."""

    kind: str
    """"not finite", "uniform", "saturated", "grid", "contradictory", "guessing" or "inverted"."""
    sentence: str
    """What was seen, with its figure, and what it comes from."""


def verdict(report: HealthFigures) -> tuple[Finding, ...]:
    """Everything that is wrong, the worst first; nothing if the affinities are healthy."""
    found = [finding for channel in report.channels for finding in _of_channel(channel)]
    spoiled = {channel.name for channel in report.channels if is_uniform(channel)}
    found += [_contradictory(pair) for pair in report.agreements if _contradicts(pair, spoiled)]
    found += [_grid(peak) for peak in _grids(report, spoiled)]
    kinds = ["not finite", "uniform", "inverted", "guessing", "contradictory", "grid", "saturated"]
    return tuple(sorted(found, key=lambda finding: kinds.index(finding.kind)))


def is_uniform(channel: Channel, limit: float = UNIFORM) -> bool:
    """Whether a channel says nothing although the truth, where it is known, says something."""
    return channel.variance < limit and channel.truth_variance != 0


def _of_channel(channel: Channel) -> list[Finding]:
    name = f"channel {channel.name}"
    if channel.not_finite:
        return [Finding("not finite", f"{name} has {channel.not_finite} values that are NaN or infinite")]
    if is_uniform(channel):
        values = f"variance {channel.variance:.1g} around {channel.mean:.3g}"
        return [Finding("uniform", f"{name} has {values}: it says the same of every edge")]
    found = []
    if channel.auc is not None and channel.auc <= GUESSING:
        percent = f"in {100 * channel.auc:.0f} % of pairs (50 % is chance)"
        kind, why = (
            ("inverted", "is 1 = split?") if channel.auc < 1 - GUESSING else ("guessing", "it does not see them")
        )
        found.append(Finding(kind, f"{name} ranks true joins above true splits {percent}: {why}"))
    if max(channel.at_zero, channel.at_one) >= ONE_SIDED and channel.truth_variance != 0:
        end = 0 if channel.at_zero > channel.at_one else 1
        share = f"{100 * max(channel.at_zero, channel.at_one):.2f} % of {name} is {end}"
        found.append(Finding("saturated", f"{share}: it decides nothing"))
    elif channel.at_zero + channel.at_one >= TWO_SIDED:
        share = f"{100 * (channel.at_zero + channel.at_one):.0f} % of {name} is 0 or 1"
        why = "as if made from labels; thresholds and mean scores have little to choose from"
        found.append(Finding("saturated", f"{share}: {why}"))
    return found


def _contradicts(pair: Agreement, spoiled: set[str]) -> bool:
    if pair.chance is None or {pair.first, pair.second} & spoiled:
        return False
    return pair.contradictions >= max(CONTRADICTORY, CONTRADICTION * pair.chance)


def _contradictory(pair: Agreement) -> Finding:
    figures = f"at {100 * pair.contradictions:.0f} % of the squares with an edge below {CUT}"
    chance = f"unrelated channels would at {100 * (pair.chance or 0):.0f} %"
    return Finding(
        "contradictory", f"channels {pair.first} and {pair.second} contradict each other {figures}; {chance}"
    )


def _grids(report: HealthFigures, spoiled: set[str]) -> list[Peak]:
    """Peaks that are grids, those at the stride first; one a channel and axis."""
    found: dict[tuple[str, str], Peak] = {}
    for peak in (*report.at_stride, *report.peaks):
        if peak.share >= GRID_SHARE and peak.prominence >= GRID_PROMINENCE and peak.channel not in spoiled:
            found.setdefault((peak.channel, peak.axis), peak)
    return list(found.values())


def _grid(peak: Peak) -> Finding:
    held = f"holds {100 * peak.share:.2g} % of the variance of channel {peak.channel}"
    return Finding("grid", f"a grid along {peak.axis} with period {peak.period:.3g} voxels {held}")
