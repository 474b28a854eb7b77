"""What people watch a training by: a picture, and volumes to look at, renewed by each validation."""

import json
from pathlib import Path

import lightning as L
import numpy as np

from segkit.curves import draw_curves
from segkit.io import ROLES, hdf5
from segkit.io.records import Record, encode
from segkit.io.writer import as_attributes
from segkit.models.inputs import scale_intensity
from segkit.picture import Panel, Row, affinity_colours, colours, draw_rows, matched_colours
from segkit.train.progress import RunFolder
from segkit.train.save import replace_whole
from segkit.train.validation_score import Segmenter, Shown

WIDTH, HEIGHT = 1060, 220
"""Of the curves in pixels; the panels below are about as wide together."""
CURVES = (("loss", "validation_loss"), ("validation/cremi_score",))
"""What is drawn, by names of the log: one plot each."""
NAMES = {"validation_loss": "validation loss", "validation/cremi_score": "CREMI score (0 is best)"}


class Pictures:
    """Renews progress.png and validation.h5 in a run's folder, and adds the panels of the picture to TensorBoard."""

    def __init__(self, folder: RunFolder, segmenter: Segmenter | None) -> None:
        self.folder, self.segmenter = folder, segmenter

    def renew(self, trainer: L.Trainer, step: int) -> None:
        """Draw and write what the validation after `step` steps saw. Raises StorageError."""
        shown = self.segmenter.shown if self.segmenter else None
        rows = [Row([Panel("", curves_of(self.folder.journal))], f"after step {step}; losses and score over the steps")]
        if shown is not None:
            panels = panels_of(shown)
            rows.append(panels)
            replace_whole(self.folder.validation, lambda half: write_shown(half, shown, step))
            image = np.asarray(draw_rows([panels]))
            trainer.logger.experiment.add_image("validation", image, step, dataformats="HWC")
        picture = draw_rows(rows)
        replace_whole(self.folder.picture, lambda half: picture.save(half, format="PNG"))


def curves_of(journal: Path) -> np.ndarray:
    """The losses and the score in a log, side by side: uint8 (Y, X, 3)."""
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
    """Raw data, affinities, segmentation and truth of the middle section."""
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
