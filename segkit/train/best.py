"""The best network of a run so far, and whether it is worth going on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segkit.train.module import TrainingModule
from segkit.train.progress import RunFolder
from segkit.train.save import replace_whole, save_network


@dataclass(frozen=True)
class Best:
    """The best network of a run."""

    step: int
    scores: Mapping[str, float]
    """On the validation volumes, `cremi_score` and `threshold` among them."""


class BestNetwork:
    """Keeps the network of the lowest CREMI score in the run folder.

    What is there counts, not what a checkpoint remembers: a run that goes back, after a collapse or a kill, loses no
    network that was better. One of other volumes or components (another `digest`) cannot be compared, and goes.
    """

    def __init__(self, folder: RunFolder, made_by: Mapping[str, object], digest: str) -> None:
        self.folder, self.made_by, self.digest = folder, made_by, digest
        self.score = _read(folder).get("cremi_score", float("inf")) if self.is_known() else float("inf")

    def is_known(self) -> bool:
        """Whether the folder holds a network of equal volumes and components."""
        return self.folder.best.exists() and _read(self.folder).get("digest") == self.digest

    def offer(self, module: TrainingModule, step: int, scores: Mapping[str, float]) -> None:
        """Keep the network, after `step` steps, if its score is better."""
        if not scores["cremi_score"] < self.score:
            return
        record = {"step": step, **scores, **self.made_by, "digest": self.digest}
        save_network(self.folder.best, module, step, record)
        replace_whole(self.folder.best_scores, lambda half: half.write_text(json.dumps(record, indent=2) + "\n"))
        self.score = scores["cremi_score"]


class Patience:
    """Counts validations in a row that were not better by at least `least` than the best before."""

    def __init__(self, patience: int, least: float) -> None:
        self.patience, self.least = patience, least
        self.state: dict[str, Any] = {"score": None, "waited": 0, "digest": None}

    def see(self, score: float | None, digest: str) -> bool:
        """Take note of a score, None for a validation without; whether patience is at its end."""
        if self.state["digest"] != digest:  # other volumes or components: scores begin anew
            self.state = {"score": None, "waited": 0, "digest": digest}
        before = self.state["score"]
        better = score is not None and (before is None or (score < before and score <= before - self.least))
        self.state |= {"score": score if better else before, "waited": 0 if better else self.state["waited"] + 1}
        return self.over(self.state, self.patience)

    @staticmethod
    def over(state: Mapping[str, Any], patience: int) -> bool:
        """Whether a run in this state has ended early."""
        return bool(patience) and state["waited"] >= patience


def read_best(folder: RunFolder) -> Best | None:
    """The best network of a run; None if it was never validated by segmentation."""
    record = _read(folder)
    if not record or not folder.best.exists():
        return None
    return Best(record["step"], {name: value for name, value in record.items() if isinstance(value, float)})


def _read(folder: RunFolder) -> dict:
    """What is known of the best network; nothing if the file is missing or damaged."""
    try:
        found = json.loads(folder.best_scores.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
