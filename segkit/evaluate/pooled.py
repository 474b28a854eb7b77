"""One sweep of several volumes: which threshold is the best for all of them?"""

from collections.abc import Sequence

import numpy as np

from segkit.errors import InvalidInput, sentence
from segkit.evaluate.sweep import SCORES, Sweep


def mean_sweep(sweeps: Sequence[Sweep]) -> Sweep:
    """The plain means of the scores of all `sweeps`, at every threshold that makes a difference to any of them.

    Each volume has the same weight, whatever its size; mind that then cremi_score is a mean of scores, not the score
    of the means. Raises InvalidInput if there is none.

    >>> from segkit import Grid, Labels, MergeTree
    >>> from segkit.evaluate import sweep
    >>> tree = MergeTree.from_merges([1, 2], [[0, 1]], [0.25])
    >>> fragments, joined = (Labels.convert([[ids]], Grid()) for ids in ([1, 2], [5, 5]))
    >>> found = mean_sweep([sweep(tree, fragments, joined), sweep(tree, fragments, fragments)])
    >>> found.thresholds.tolist(), found.voi_split.tolist(), found.voi_merge.tolist()
    ([0.25, 1.0], [0.5, 0.0], [0.0, 0.5])
    """
    if not sweeps:
        raise InvalidInput(sentence("sweeps", "must hold at least one"))
    if len(sweeps) == 1:
        return sweeps[0]
    altitudes = np.unique(np.concatenate([each.thresholds[:-1] for each in sweeps]))
    thresholds = np.append(altitudes, max(each.thresholds[-1] for each in sweeps))
    rows = [np.searchsorted(each.thresholds[:-1], thresholds, side="left") for each in sweeps]
    pairs = list(zip(sweeps, rows, strict=True))
    scores = {name: np.mean([getattr(each, name)[row] for each, row in pairs], axis=0) for name in SCORES}
    return Sweep(thresholds, **scores, fragments=_means(sweeps, "fragments"), oracle=_means(sweeps, "oracle"))


def _means(sweeps: Sequence[Sweep], name: str) -> dict[str, float]:
    parts = [getattr(each, name) for each in sweeps]
    return {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
