"""Metrics that need nothing but the contingency table, so that several of them count the voxels once."""

from abc import abstractmethod

from segkit.data import Labels
from segkit.evaluate.contingency import Contingency, check_border, contingency
from segkit.protocols import Metric
from segkit.timing import phase


class CountingMetric(Metric):
    """A metric of the contingency table.

    Parameters
    ----------
    ignore_background
        Voxels where the truth is 0 do not count.
    border
        Voxels within this distance (nm, in the section plane) of a boundary of the truth do not count; CREMI: 25.
    """

    def __init__(self, *, ignore_background: bool = True, border: float = 0.0) -> None:
        self.ignore_background = ignore_background
        self.border = check_border(border)

    @property
    def rule(self) -> tuple[bool, float]:
        """What counts: `ignore_background` and `border`."""
        return self.ignore_background, self.border

    @abstractmethod
    def of(self, table: Contingency) -> dict[str, float]:
        """The scores of a table."""

    def count(self, segmentation: Labels, truth: Labels) -> Contingency:
        """The table with the options of this metric. Raises InvalidInput unless both are aligned, some voxel counts."""
        return contingency(segmentation, truth, ignore_background=self.ignore_background, border=self.border)

    def score(self, segmentation: Labels, truth: Labels) -> dict[str, float]:
        """The scores; one pass over the voxels. Raises InvalidInput unless both are aligned and some voxel counts."""
        table = self.count(segmentation, truth)
        with phase("scores"):
            return self.of(table)
