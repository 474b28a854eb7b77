"""Scores of a segmentation against the truth: Rand and VOI, and CREMI's score made of both.

All metrics count voxels in one sparse table, :func:`contingency`, with the conventions of the CREMI challenge:

- Voxels outside the annotation (truth 2^64 - 1 and 2^64 - 2) never count, whatever the options.
- Voxels where the truth is 0 (membrane, unlabelled) do not count; ``ignore_background=False`` makes 0 an object like
  any other, which is what CREMI's own script does with a truth that holds zeros.
- Voxels where the segmentation is 0 count: as one segment in VOI, as one segment a voxel in Rand. A segmentation
  cannot gain by leaving voxels out. Its ids 2^64 - 1 and 2^64 - 2 are read as 0.
- ``border=25`` leaves out voxels within 25 nm of a boundary of the truth in the same section, as CREMI does.

:func:`sweep` scores a merge tree at all thresholds (:func:`mean_sweep`: several), :func:`worst` says where the
errors are, and :func:`evaluate_many` takes several annotators' truths of the same volume.

The arithmetic is exact up to one rounding at the end: squares of counts are summed as integers.
"""

from segkit.evaluate.contingency import Contingency, contingency
from segkit.evaluate.pooled import mean_sweep
from segkit.evaluate.scores import evaluate, evaluate_many
from segkit.evaluate.sweep import Sweep, sweep
from segkit.evaluate.worst import Mistake, worst

__all__ = [
    "Contingency",
    "Mistake",
    "Sweep",
    "contingency",
    "evaluate",
    "evaluate_many",
    "mean_sweep",
    "sweep",
    "worst",
]
