"""The voxels that a page shows and scores: those that all volumes have in common, at most `LARGEST` in the middle."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from segkit.data import Affinities, Grid, Labels
from segkit.data.boxes import Slices, common, middle, within
from segkit.errors import InvalidInput, SegkitError, sentence
from segkit.io import Address, RegionSource
from segkit.report.sources import Sources

LARGEST = 256**3
"""Voxels that are scored and shown at most: larger volumes are cropped to their middle."""
EXAMINED = 160**3
"""Voxels of affinities whose health is examined at most."""
ROLES = ("raw", "truth", "affinities", "fragments")
"""Volumes that are no segmentation."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A volume, and where in it the box begins."""

    source: RegionSource
    start: tuple[int, int, int]

    def read(self, part: Slices) -> np.ndarray:
        """The values of a part of the box."""
        z, y, x = (slice(s + along.start, s + along.stop) for s, along in zip(self.start, part, strict=True))
        return self.source.read((z, y, x))


class Scene:
    """The box, and what lies in it, read when it is asked for.

    Raises InvalidInput if the volumes have no voxel in common.
    """

    def __init__(self, sources: Sources, beside: Mapping[str, Address]) -> None:
        self.sources = sources
        self.problems: dict[str, str] = {}
        """Role or title -> why this volume is left out."""
        self.found = self._open(sources, beside)
        self.whole, self.box = self._common()
        """Sizes of the reference volume, and the box in its voxels."""
        self._kept: dict[str, Labels] = {}

    @property
    def reference(self) -> RegionSource:
        """The volume whose voxels are counted: affinities, if there are any."""
        return next(iter(self.found.values()))

    @property
    def start(self) -> tuple[int, ...]:
        """Where the box begins, in voxels of the reference."""
        return tuple(along.start for along in self.box)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size of the box in voxels."""
        z, y, x = (along.stop - along.start for along in self.box)
        return z, y, x

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""
        return self.reference.grid.crop(self.start)

    @property
    def cropped(self) -> bool:
        """Whether there are voxels outside the box."""
        return self.shape != self.whole

    def has(self, *names: str) -> bool:
        """Whether all these volumes are there."""
        return all(name in self.found for name in names)

    @property
    def titles(self) -> list[str]:
        """All segmentations that can be scored, those beside included, the main one first."""
        return [name for name in self.found if name not in ROLES]

    def layer(self, name: str) -> Layer:
        """A volume with its place."""
        source = self.found[name]
        z, y, x = source.grid.voxel_position(self.grid)
        return Layer(source, (z, y, x))

    @cached_property
    def everything(self) -> Slices:
        """The whole box."""
        z, y, x = (slice(0, size) for size in self.shape)
        return z, y, x

    def labels(self, name: str) -> Labels:
        """The labels in the box, under the grid of the reference; truth, fragments and the main one are kept."""
        if name in self._kept:
            return self._kept[name]
        found = Labels(self.layer(name).read(self.everything), self.grid)
        if name in ("truth", "fragments", *self.titles[:1]):
            self._kept[name] = found
        return found

    def affinities(self, largest: int = EXAMINED) -> tuple[Affinities, Slices]:
        """Affinities of the middle of the box, and which part of it that is."""
        part = middle(self.shape, largest)
        layer = self.layer("affinities")
        assert layer.source.neighborhood is not None
        grid = self.grid.crop([along.start for along in part])
        return Affinities.convert(layer.read(part), layer.source.neighborhood, grid), part

    def _open(self, sources: Sources, beside: Mapping[str, Address]) -> dict[str, RegionSource]:
        named: list[tuple[str, str, Address | None]]
        named = [("affinities", "affinities", sources.affinities), ("fragments", "fragments", sources.fragments)]
        named += [(title, "segmentation", at) for title, at in sources.segmentations.items() if title not in ROLES]
        named += [("truth", "truth", sources.truth), ("raw", "raw", sources.raw)]
        named += [(title, "segmentation", at) for title, at in beside.items()]
        found: dict[str, RegionSource] = {}
        for name, role, at in named:
            if at is None:
                continue
            try:
                source = RegionSource(at, role)
                source.shape  # noqa: B018  # opens it
                if found:
                    source.grid.voxel_position(next(iter(found.values())).grid)
            except (SegkitError, OSError) as error:
                if name in beside:
                    raise
                self.problems[name] = str(error)
            else:
                found[name] = source
        return found

    def _common(self) -> tuple[tuple[int, int, int], Slices]:
        if not self.found:
            return (0, 0, 0), (slice(0, 0),) * 3
        box = common(self.reference, *self.found.values())
        if box is None:
            raise InvalidInput(sentence("the volumes of a report", "must have voxels in common", ", ".join(self.found)))
        part = middle([along.stop - along.start for along in box], LARGEST)
        return self.reference.shape, within(box, part)
