"""What is computed for a page, each thing once: scores, the sweep over all thresholds, mistakes, the health."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from segkit import health
from segkit.data import Labels
from segkit.evaluate import Mistake, Sweep, evaluate, sweep, worst
from segkit.registry import load
from segkit.report.scene import Scene
from segkit.report.sources import Sources

MISTAKES = 5
"""Splits and merges that are shown, of each at most."""


@dataclass(frozen=True)
class Found:
    """A mistake with its short name: S1 is the worst split, M1 the worst merge."""

    name: str
    mistake: Mistake

    @property
    def is_merge(self) -> bool:
        """Whether a segment joins objects, rather than an object being cut."""
        return self.name.startswith("M")


class Facts:
    """Everything that the sections of a page say, computed when the first of them asks for it."""

    def __init__(self, sources: Sources, scene: Scene, border: float) -> None:
        self.sources, self.scene, self.border = sources, scene, border

    @property
    def main(self) -> str | None:
        """The title of the segmentation that is shown."""
        return next(iter(self.scene.titles), None)

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """A row for the fragments and for each segmentation: `segmentation`, `segments` and the scores."""
        names = [name for name in ("fragments", *self.scene.titles) if self.scene.has(name)]
        return [{"segmentation": name} | self._score(self.scene.labels(name)) for name in names]

    @cached_property
    def sweep(self) -> Sweep:
        """The scores of the merge tree at all thresholds."""
        from segkit import io

        assert self.sources.merge_tree is not None
        tree = io.read_merge_tree(self.sources.merge_tree)
        return sweep(tree, self.scene.labels("fragments"), self.scene.labels("truth"), border=self.border)

    @cached_property
    def mistakes(self) -> list[Found]:
        """The worst splits, then the worst merges, of the segmentation that is shown."""
        assert self.main is not None
        labels, truth = self.scene.labels(self.main), self.scene.labels("truth")
        splits, merges = worst(labels, truth, count=MISTAKES, border=self.border)
        found = [Found(f"S{k}", mistake) for k, mistake in enumerate(splits, 1)]
        return found + [Found(f"M{k}", mistake) for k, mistake in enumerate(merges, 1)]

    @cached_property
    def health(self) -> tuple[health.HealthFigures, tuple[health.Finding, ...]]:
        """The figures of the affinities, and what is wrong with them."""
        affinities, part = self.scene.affinities()
        truth = None
        if self.scene.has("truth"):
            whole = self.scene.labels("truth")
            truth = Labels(whole.array[part], affinities.grid)
        report = health.examine(affinities, truth)
        return report, health.verdict(report)

    def _score(self, labels: Labels) -> dict[str, Any]:
        row: dict[str, Any] = {"segments": len(labels.ids())}
        metric = load("metrics", "cremi", border=self.border)
        per_section = self.sources.per_section
        return row | dict(evaluate(labels, self.scene.labels("truth"), {"cremi": metric}, per_section=per_section))
