"""Validation between the steps: the loss, the segmentation, the best network, and the end of a run without gains."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor

from segkit.errors import SegkitError
from segkit.train import distributed
from segkit.train.best import BestNetwork, Patience
from segkit.train.callbacks import Journal, ends_step
from segkit.train.module import TrainingModule
from segkit.train.pictures import Pictures
from segkit.train.quiet import kept_threads
from segkit.train.resume import VALIDATION
from segkit.train.scoring import Segmenter

OnValidation = Callable[[int, Mapping[str, float | str]], None]
"""Called after every validation with (step, values), named as in the log, without "validation/"."""


class Validation(L.Callback):
    """Every `every` steps and when training ends: the loss over fixed `batches`, and the score of `segmenter`.

    Both go into one line of the log, and what was segmented into `pictures`. A network that cannot be scored gets the
    reason there instead (`problem`), and counts as one that is not better; training goes on. One process segments, the
    others wait for its scores.
    """

    state_key = VALIDATION

    def __init__(
        self,
        batches: Iterable[Mapping[str, Tensor]],
        every: int,
        journal: Journal,
        segmenter: Segmenter | None = None,
        best: BestNetwork | None = None,
        patience: Patience | None = None,
        on_validation: OnValidation | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self.batches, self.every, self.journal = batches, every, journal
        self.segmenter, self.best, self.patience, self.on_validation = segmenter, best, patience, on_validation
        self.pictures = pictures
        self.validated = -1

    def state_dict(self) -> dict[str, object]:
        """What a resume needs."""
        return dict(self.patience.state) if self.patience else {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on as if never interrupted."""
        if self.patience and state:
            self.patience.state = dict(state)

    def on_train_batch_end(self, trainer: L.Trainer, module: TrainingModule, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        if ends_step(trainer, batch_idx) and (step % self.every == 0 or step == self.journal.total):
            self._validate(trainer, module, step)

    def on_train_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        step = trainer.global_step
        if step and step < self.journal.total and not self.ended_early():  # the clock stopped the run
            self._validate(trainer, module, step)

    def _validate(self, trainer: L.Trainer, module: TrainingModule, step: int) -> None:
        if step == self.validated:
            return
        self.validated = step
        with kept_random_state(module.device):
            values: dict[str, Any] = {"validation_loss": self._loss(trainer, module)}
            segmenter = self.segmenter
            scores = distributed.on_rank_zero(lambda: self._score(module)) if segmenter else {}
        values |= {f"validation/{name}": value for name, value in scores.items()}
        self.journal.write(trainer, step, values)
        if "cremi_score" in scores:
            distributed.on_rank_zero(lambda: self._offer(module, step, scores))
        if (pictures := self.pictures) is not None:
            distributed.on_rank_zero(lambda: pictures.renew(trainer, step))
        if segmenter and self.patience and self.patience.see(scores.get("cremi_score"), segmenter.digest):
            trainer.should_stop = True
        if self.on_validation is not None:
            self.on_validation(step, {"loss": values["validation_loss"], **scores})

    def _loss(self, trainer: L.Trainer, module: TrainingModule) -> float:
        module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            batches = (trainer.strategy.batch_to_device(batch) for batch in self.batches)
            losses = [float(module.evaluate(batch)[0]) for batch in batches]
        module.train()
        return sum(losses) / len(losses)

    def _score(self, module: TrainingModule) -> dict[str, Any]:
        assert self.segmenter is not None
        try:
            with kept_threads():
                return self.segmenter.score(module.kept_network, module.device)
        except (SegkitError, MemoryError, torch.OutOfMemoryError) as error:
            return {"problem": str(error) or type(error).__name__}

    def _offer(self, module: TrainingModule, step: int, scores: dict[str, Any]) -> None:
        if self.best is not None:
            self.best.offer(module, step, scores)

    def ended_early(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and Patience.over(self.patience.state, self.patience.patience)


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """torch's random state, of the CPU and of `device`, as before afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
