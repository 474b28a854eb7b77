"""Places to look at: the worst mistakes, or the merges on whose decision most hangs."""

from collections.abc import Sequence
from dataclasses import dataclass

from segkit.data import Labels
from segkit.data.boxes import Slices, common, middle, within
from segkit.errors import InvalidInput, sentence
from segkit.evaluate import Sweep, sweep, worst
from segkit.io import RegionSource
from segkit.segment import uncertain
from segkit.view.served import Cut

SCORED = 2**24
"""Voxels that are scored against the truth, at most; of a larger volume the middle is."""
COUNT = 20
"""How many are listed of each kind."""
SPLIT, MERGE, UNSURE = "#56b4e9", "#d55e00", "#e69f00"
"""Colours of marks, which the colour-blind can tell apart."""


@dataclass(frozen=True)
class Mark:
    """A place to look at."""

    text: str
    position: tuple[float, float, float]
    """z, y, x, in nm."""
    color: str


class Scored:
    """Labels beside the truth: where both are, or in the middle of that."""

    def __init__(self, labels: RegionSource, truth: RegionSource) -> None:
        both, same = common(labels, truth), common(truth, labels)
        if both is None or same is None:
            raise InvalidInput(sentence("segmentation and truth", "must overlap"))
        part = middle([along.stop - along.start for along in both], SCORED)
        self.labels, self.truth = _labels_of(labels, within(both, part)), _labels_of(truth, within(same, part))
        self.sweep: Sweep | None = None

    def worst(self, cut: Cut | None) -> list[Mark]:
        """Mark the worst splits and merges of the labels, or, of fragments, of the segments of a `cut`; worst first."""
        segments = self.labels
        if cut is not None:
            if self.sweep is None:
                self.sweep = sweep(cut.tree, self.labels, self.truth)
            segments = Labels(cut(self.labels.array), self.labels.grid)
        splits, merges = worst(segments, self.truth, count=COUNT)
        found = [(f"split: object {each.id}", each, SPLIT) for each in splits]
        found += [(f"merge: segment {each.id}", each, MERGE) for each in merges]
        found.sort(key=lambda mark: -mark[1].bits)
        return [
            Mark(f"{what}, {each.bits:.3f} bits, {_parts(each.parts)}", each.position, color)
            for what, each, color in found
        ]


def unsure(cut: Cut, fragments: RegionSource) -> list[Mark]:
    """Mark the merges on whose decision most hangs, the heaviest first."""
    found = uncertain(cut.tree, fragments.read, fragments.shape, fragments.grid, cut.threshold, count=COUNT)
    return [
        Mark(
            f"altitude {each.altitude:.3f} ({'done' if each.done else 'not done'}): segments {each.sides[0]} and "
            f"{each.sides[1]}, {each.voxels[0]} and {each.voxels[1]} voxels",
            each.position,
            UNSURE,
        )
        for each in found
        if each.position is not None
    ]


def _labels_of(source: RegionSource, box: Slices) -> Labels:
    return Labels(source.read(box), source.grid.crop([along.start for along in box]))


def _parts(parts: Sequence[tuple[int, int]]) -> str:
    return " + ".join(f"{identity} ({voxels} voxels)" for identity, voxels in parts[:2])
