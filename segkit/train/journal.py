"""What people watch a training by: the log, TensorBoard, a picture, and volumes to look at."""

import json
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from segkit.curves import draw_curves
from segkit.io import ROLES, hdf5
from segkit.io.atomic import storage_errors
from segkit.io.records import Record, encode
from segkit.io.writer import as_attributes
from segkit.models.inputs import scale_intensity
from segkit.picture import Panel, Row, affinity_colours, colours, draw_rows, matched_colours
from segkit.train import distributed
from segkit.train.checkpoint import RunFolder, replace_whole
from segkit.train.config import TrainConfig
from segkit.train.health import FiniteWatch
from segkit.train.scoring import Shown

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

OnStep = Callable[[int, int, float, Mapping[str, float], float], None]
"""Called after every step with (step, total, loss, parts, steps per second); on accelerators loss and parts are those
of the last step that was looked at, so that no step waits for the device."""

WIDTH, HEIGHT = 1060, 220
"""Of the curves in pixels; the panels below are about as wide together."""
CURVES = (("loss", "validation_loss"), ("validation/cremi_score",))
"""What is drawn, by names of the log: one plot each."""
NAMES = {"validation_loss": "validation loss", "validation/cremi_score": "CREMI score (0 is best)"}


class Journal:
    """Writes means over `log_every` steps to the log, one JSON object a line, and to TensorBoard; calls `on_step`.

    Of several processes rank 0 writes, means over all. TensorBoard is left out where it is not installed.
    """

    def __init__(self, folder: RunFolder, config: TrainConfig, start: int, on_step: OnStep | None) -> None:
        self.folder, self.start, self.on_step = folder, start, on_step
        self.total, self.every, self.loss = config.steps, config.log_every, config.loss
        self.sums: dict[str, float | Tensor] = {}
        self.seen: Mapping[str, float | Tensor] = {}
        self.latest: dict[str, float] = {}
        self.batches, self.steps, self.since = 0, 0, time.perf_counter()

    def add(self, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Take note of the loss of a batch and its parts; does not wait for an accelerator."""
        self.seen = {"loss": loss.detach(), **parts}
        if loss.device.type == "cpu":
            self.seen = {name: float(value) for name, value in self.seen.items()}
        for name, value in self.seen.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.batches += 1

    def end_step(self, step: int, learning_rate: float, watch: FiniteWatch) -> None:
        """Write a line if it is time, and call `on_step`. `watch` looks first where values are waited for."""
        self.steps += 1
        written = step % self.every == 0 or step == self.total
        if written or not self.latest or isinstance(self.seen["loss"], float):
            watch.look(step)
            self.latest = {name: float(value) for name, value in self.seen.items()}
        rate = self._steps_per_second()
        if written:
            self.flush(step, learning_rate)
        if self.on_step is not None:
            parts = dict(self.latest)
            self.on_step(step, self.total, parts.pop("loss"), parts, rate)

    def flush(self, step: int, learning_rate: float) -> None:
        """Write the means since the last line, if there was a step."""
        if not self.batches:
            return
        means = {name: float(value) / self.batches for name, value in self.sums.items()}
        rates = {"learning_rate": learning_rate, "steps_per_second": self._steps_per_second()}
        self.write(step, {**distributed.mean_over_ranks(means), **rates})
        self.sums, self.batches, self.steps, self.since = {}, 0, 0, time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Return what the next line holds so far; of several processes the mean."""
        sums = {name: float(value) for name, value in self.sums.items()}
        return {"loss": self.loss, "batches": self.batches, "sums": distributed.mean_over_ranks(sums) if sums else {}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on with the line that was begun, if it was of the same loss."""
        if state["loss"] == self.loss:
            self.sums, self.batches = dict(state["sums"]), state["batches"]

    def write(self, step: int, values: Mapping[str, float | str]) -> None:
        """Add a line of named values; texts go into the file alone."""
        if distributed.rank():
            return
        append_line(self.folder.journal, step, values)
        if self._tensorboard is not None:
            with storage_errors("written", self.folder.tensorboard):
                for name, value in values.items():
                    if not isinstance(value, str):
                        self._tensorboard.add_scalar(name, value, step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """Show an image, uint8 (Y, X, 3), in TensorBoard."""
        if self._tensorboard is not None:
            with storage_errors("written", self.folder.tensorboard):
                self._tensorboard.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Write what TensorBoard has not written yet."""
        writer: SummaryWriter | None = self.__dict__.get("_tensorboard")  # it need not be made for this
        if writer is not None:
            with storage_errors("written", self.folder.tensorboard):
                writer.close()

    @cached_property
    def _tensorboard(self) -> "SummaryWriter | None":
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the extra `tensorboard`
            return None
        with storage_errors("written", self.folder.tensorboard):
            return SummaryWriter(str(self.folder.tensorboard), purge_step=self.start + 1)

    def _steps_per_second(self) -> float:
        return self.steps / max(time.perf_counter() - self.since, 1e-9)


def append_line(path: Path, step: int, values: Mapping[str, float | str]) -> None:
    """Add a line of named values to a log."""
    with storage_errors("written", path), path.open("a") as file:
        file.write(json.dumps({"step": step, **values}) + "\n")


def renew_pictures(folder: RunFolder, journal: Journal, shown: Shown | None, step: int) -> None:
    """Draw progress.png and write validation.h5 anew, with what the validation after `step` steps saw, if it did.

    The panels of the picture are added to TensorBoard. Raises StorageError.
    """
    rows = [Row([Panel("", curves_of(folder.journal))], f"after step {step}; losses and score over the steps")]
    if shown is not None:
        panels = panels_of(shown)
        rows.append(panels)
        replace_whole(folder.validation, lambda half: write_shown(half, shown, step))
        journal.add_image("validation", np.asarray(draw_rows([panels])), step)
    picture = draw_rows(rows)
    replace_whole(folder.picture, lambda half: picture.save(half, format="PNG"))


def curves_of(journal: Path) -> np.ndarray:
    """Draw the losses and the score in a log, side by side: uint8 (Y, X, 3)."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    plots = []
    for names in CURVES:
        found = {
            NAMES.get(name, name): [(line["step"], line[name]) for line in lines if name in line] for name in names
        }
        if len(names) > 1 or any(found.values()):
            plots.append(found)
    return np.concatenate([draw_curves(plot, WIDTH // len(plots), HEIGHT) for plot in plots], axis=1)


def panels_of(shown: Shown) -> Row:
    """Draw raw data, affinities, segmentation and truth of the middle section."""
    z = len(shown.raw) // 2
    size = shown.truth.grid.voxel_size[1:]
    matched = matched_colours(shown.segmentation.array, shown.truth.array)[z]
    grey = ((scale_intensity(shown.raw[z]) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    affinities = affinity_colours(shown.affinities.array[:, z], shown.affinities.neighborhood)
    panels = [
        Panel("raw", grey, size, scale_bar=True),
        Panel("affinities z, y, x: red, green, blue", affinities, size),
        Panel(f"segmentation at {shown.threshold:g}", matched, size),
        Panel("truth", colours(shown.truth.array[z]), size),
    ]
    return Row(panels, scale=max(1, WIDTH // (len(panels) * max(grey.shape))))


def write_shown(path: Path, shown: Shown, step: int) -> None:
    """Write affinities (of 8 bits), fragments and segmentation to a new HDF5 file; their notes say the step."""
    notes = as_attributes({"step": step, "threshold": shown.threshold})
    records = {}
    for role in ("affinities", "fragments", "segmentation"):
        record = encode(getattr(shown, role))
        data = record.data
        if role == "affinities":
            data = np.round(shown.affinities.array * 255).astype(np.uint8)
        records[ROLES[role][0]] = Record(data, record.attributes | notes)
    hdf5.write(path, records)
