"""All figures of affinities together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from segkit.data import Affinities, Labels, check_aligned
from segkit.health.agreement import Agreement, agreement_figures
from segkit.health.channels import Channel, channel_figures
from segkit.health.objects import CROP, Objects, object_figures
from segkit.health.spectrum import Peak, peaks
from segkit.timing import phase


@dataclass(frozen=True)
class HealthFigures:
    """What :func:`examine` finds; :func:`segkit.health.verdict` says what it means."""

    channels: tuple[Channel, ...]
    agreements: tuple[Agreement, ...]
    """One a pair of channels."""
    peaks: tuple[Peak, ...]
    """The most prominent period of each channel along each axis, whether or not it means anything."""
    at_stride: tuple[Peak, ...]
    """What there is at the periods that were asked for."""
    objects: Objects | None
    """None where values are not finite, or the fragmenter cannot use the neighborhood."""

    def flat(self) -> dict[str, float]:
        """All figures as numbers by name, such as "z/variance"; what does not apply is left out."""
        found: dict[str, float | None] = {}
        for channel in self.channels:
            values = asdict(channel)
            name = values.pop("name")
            found |= {f"{name}/{key}": value for key, value in values.items()}
        for pair in self.agreements:
            values = asdict(pair)
            name = f"{values.pop('first')}-{values.pop('second')}"
            found |= {f"{name}/{key}": value for key, value in values.items()}
        for kind, items in (("peak", self.peaks), ("stride", self.at_stride)):
            for peak in items:
                name = f"{peak.channel}/{kind}_{peak.axis}"
                found |= {f"{name}_share": peak.share, f"{name}_period": peak.period}
        if self.objects is not None:
            values = asdict(self.objects)
            values.pop("shape")
            found |= values
        return {name: value for name, value in found.items() if value is not None and np.isfinite(value)}


def examine(
    affinities: Affinities,
    labels: Labels | None = None,
    *,
    stride: Sequence[int] = (1, 1, 1),
    crop: int = CROP,
    fragmenter: str = "watershed",
    parameters: Mapping[str, object] | None = None,
) -> HealthFigures:
    """The figures of `affinities`, some of them against the objects of `labels`, which lie at the same place.

    Parameters
    ----------
    stride
        Periods, in voxels along z, y, x, at which to look for grids: the stride of the network, the distance of
        sections in a resampled volume. 1 = none along this axis.
    crop
        Edge, in voxels, of the crop in the middle that is cut into fragments.
    fragmenter, parameters
        What cuts it; see `segkit plugins list`.

    Values must lie in 0..1; those that are not finite are counted, and all figures but those of channels left out.

    >>> from segkit import Grid
    >>> labels = Labels.convert(np.arange(512).reshape(8, 8, 8) // 128, Grid())
    >>> report = examine(Affinities.from_labels(labels), labels, fragmenter="affinity-watershed")
    >>> report.objects.fragments, report.objects.voi_merge, [channel.auc for channel in report.channels]
    (3, 0.0, [1.0, 1.0, 1.0])
    """
    check_aligned(affinities=affinities, labels=labels)
    with phase("channels"):
        channels = channel_figures(affinities, labels)
    if any(channel.not_finite for channel in channels):
        return HealthFigures(channels, (), (), (), None)
    with phase("agreement"):
        agreements = agreement_figures(affinities)
    with phase("spectra"):
        strongest, wanted = peaks(affinities, stride)
    with phase("fragments"):
        objects = object_figures(affinities, labels, crop=crop, fragmenter=fragmenter, parameters=parameters)
    return HealthFigures(channels, agreements, strongest, wanted, objects)
