"""Validation between the steps: the loss, the segmentation, the best network, and the end of a run without gains."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from segkit.errors import SegkitError
from segkit.io.json_file import read_json_if_whole
from segkit.train import distributed
from segkit.train.checkpoint import RunFolder, replace_whole, save_network
from segkit.train.isolation import kept_random_state, kept_threads
from segkit.train.journal import Journal, renew_pictures
from segkit.train.scoring import Segmenter
from segkit.train.step import Batch, Objective

if TYPE_CHECKING:
    from lightning_fabric import Fabric

OnValidation = Callable[[int, Mapping[str, float | str]], None]
"""Called after every validation with (step, values), named as in the log, without "validation/"."""


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
        self.score = (
            read_json_if_whole(folder.best_scores).get("cremi_score", float("inf")) if self.is_known() else float("inf")
        )

    def is_known(self) -> bool:
        """Say whether the folder holds a network of equal volumes and components."""
        return self.folder.best.exists() and read_json_if_whole(self.folder.best_scores).get("digest") == self.digest

    def offer(self, objective: Objective, step: int, scores: Mapping[str, float]) -> None:
        """Keep the network, after `step` steps, if its score is better."""
        if not scores["cremi_score"] < self.score:
            return
        record = {"step": step, **scores, **self.made_by, "digest": self.digest}
        save_network(self.folder.best, objective, step, record)
        replace_whole(self.folder.best_scores, lambda half: half.write_text(json.dumps(record, indent=2) + "\n"))
        self.score = scores["cremi_score"]


class EarlyStopping:
    """Counts validations in a row that were not better by at least `min_improvement` than the best before."""

    def __init__(self, patience: int, min_improvement: float) -> None:
        self.patience, self.min_improvement = patience, min_improvement
        self.state: dict[str, Any] = {"score": None, "waited": 0, "digest": None}

    def update(self, score: float | None, digest: str) -> bool:
        """Take note of a score, None for a validation without. Returns whether training is to stop."""
        if self.state["digest"] != digest:  # other volumes or components: scores begin anew
            self.state = {"score": None, "waited": 0, "digest": digest}
        before = self.state["score"]
        better = score is not None and (before is None or (score < before and score <= before - self.min_improvement))
        self.state |= {"score": score if better else before, "waited": 0 if better else self.state["waited"] + 1}
        return bool(self.patience) and self.state["waited"] >= self.patience


@dataclass(frozen=True, eq=False)
class ValidationData:
    """What a network is validated on."""

    batches: Sequence[Batch]
    """Fixed patches, of which the loss is computed."""
    segmenter: Segmenter | None
    """What scores the network by a segmentation; None computes the loss alone."""


class Validation:
    """Computes the loss of fixed batches, and the score of what the network segments.

    Both go into one line of the log, and what was segmented into pictures. A network that cannot be scored gets the
    reason there instead (`problem`), and counts as one that is not better; training goes on. Rank 0 segments, the
    others wait for its scores.
    """

    def __init__(
        self,
        data: ValidationData,
        folder: RunFolder,
        objective: Objective,
        fabric: "Fabric",
        journal: Journal,
        on_validation: OnValidation | None = None,
    ) -> None:
        self.data, self.segmenter, self.folder, self.objective = data, data.segmenter, folder, objective
        self.fabric, self.journal, self.on_validation = fabric, journal, on_validation
        chosen = objective.config.validation
        self.early_stopping = EarlyStopping(chosen.patience, chosen.min_improvement)
        made = self.segmenter
        self.best = None if made is None else BestNetwork(folder, made.made_by, made.digest)
        self.validated = -1

    def state(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return dict(self.early_stopping.state)

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on as if never interrupted."""
        self.early_stopping.state = dict(state)

    def run(self, step: int) -> bool:
        """Validate the network after `step` steps, once. Returns whether training is to stop early."""
        if step == self.validated:
            return False
        self.validated = step
        with kept_random_state(self.fabric.device):
            values: dict[str, Any] = {"validation_loss": self._loss(step)}
            scores = distributed.on_rank_zero(lambda: self._score(step)) if self.segmenter else {}
        values |= {f"validation/{name}": value for name, value in scores.items()}
        self.journal.write(step, values)
        distributed.on_rank_zero(lambda: self._keep(step, scores))
        stops = self.segmenter is not None and self.early_stopping.update(
            scores.get("cremi_score"), self.segmenter.digest
        )
        if self.on_validation is not None:
            self.on_validation(step, {"loss": values["validation_loss"], **scores})
        return stops

    def _loss(self, step: int) -> float:
        objective = self.objective
        objective.module.eval()
        with torch.no_grad(), self.fabric.autocast():
            batches = (self.fabric.to_device(dict(batch)) for batch in self.data.batches)
            losses = [float(objective.evaluate(batch, objective.module.kept_network, step)[0]) for batch in batches]
        objective.module.train()
        return sum(losses) / len(losses)

    def _score(self, step: int) -> dict[str, Any]:
        """Score the network; `step` is for those who look from outside."""
        assert self.segmenter is not None
        try:
            with kept_threads():
                return self.segmenter.score(self.objective.module.kept_network, self.fabric.device)
        except (SegkitError, MemoryError, torch.OutOfMemoryError) as error:
            return {"problem": str(error) or type(error).__name__}

    def _keep(self, step: int, scores: Mapping[str, Any]) -> None:
        """Keep the network if it is the best, and draw what was seen."""
        if self.best is not None and "cremi_score" in scores:
            self.best.offer(self.objective, step, scores)
        renew_pictures(self.folder, self.journal, self.segmenter.shown if self.segmenter else None, step)


def read_best(folder: RunFolder) -> Best | None:
    """Read the best network of a run; None if it was never validated by segmentation."""
    record = read_json_if_whole(folder.best_scores)
    if not record or not folder.best.exists():
        return None
    return Best(record["step"], {name: value for name, value in record.items() if isinstance(value, float)})
