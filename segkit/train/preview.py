"""Draws patches as a network will see them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from segkit.picture import Panel, Row, colours
from segkit.train.augment.finish import collate, finish
from segkit.train.config import TrainConfig
from segkit.train.data import PatchDataset, TrainingVolume
from segkit.train.patch import Patch
from segkit.train.run import patches_of

FRAME = (255, 140, 0)
"""Colour of the frame around what the network is to predict."""
CHANNELS = 6
"""Most affinities that are drawn."""
WIDTH = 160
"""Pixels that a panel is enlarged to, about."""


def preview(config: TrainConfig, volumes: Sequence[TrainingVolume], samples: int) -> list[Row]:
    """Draw the first `samples` patches of the run that `config` describes, one row each.

    A row holds the raw data (a frame around what is predicted), the objects in colours, the affinities of the
    target (white = same object, grey = no edge) and the mask (white = inside), in the middle section; of 3-D networks
    raw data and objects seen from the side (x to the right, z down) as well, and of 2-D networks every section.
    """
    patches = patches_of(config, volumes)
    return [_row(patches, k) for k in range(samples)]


def enlargement(rows: Sequence[Row]) -> int:
    """Choose how many pixels a voxel takes in a picture that one can look at."""
    return max(1, WIDTH // max(panel.image.shape[1] for row in rows for panel in row.panels))


def _row(patches: PatchDataset, k: int) -> Row:
    cut = patches[k]
    made = finish(collate([cut]), patches.neighborhood, components=patches.config.components)
    item = {name: values[0].numpy() for name, values in made.items() if isinstance(values, Tensor)}
    z = patches.patch.output[0] // 2
    panels = [*_raw_panels(item["raw"], patches.patch, z), Panel("objects", colours(item["labels"][z]))]
    if patches.patch.ndim == 3:
        stretch = _stretch(patches)
        y = patches.patch.output[1] // 2
        side = _framed(item["raw"][0][:, y + patches.patch.before[1]], patches.patch, (0, 2))
        panels += [
            Panel("raw, x z", np.repeat(side, stretch, axis=0)),
            Panel("objects, x z", np.repeat(colours(item["labels"][:, y]), stretch, axis=0)),
        ]
    for c, offset in list(enumerate(patches.neighborhood.tolist()))[:CHANNELS]:
        seen = np.where(item["edges"][c, z], item["target"][c, z] * 255, 128)
        panels.append(Panel(",".join(map(str, offset)), seen.astype(np.uint8)))
    panels.append(Panel("mask", item["mask"][z].astype(np.uint8) * 255))
    return Row(panels, f"patch {k}: {cut.plan.words()}")


def _raw_panels(raw: np.ndarray, patch: Patch, z: int) -> list[Panel]:
    if patch.ndim == 3:
        return [Panel("raw", _framed(raw[0][patch.before[0] + z], patch, (1, 2)))]
    middle = patch.before[0]
    return [
        Panel(f"raw {s - middle:+d}" if s != middle else "raw", _framed(raw[s], patch, (1, 2))) for s in range(len(raw))
    ]


def _framed(raw: np.ndarray, patch: Patch, axes: tuple[int, int]) -> np.ndarray:
    """Draw the grey values of a plane spanned by two axes, uint8 (rows, columns, 3), with a frame around the output."""
    grey = ((raw + 1) * 127.5).clip(0, 255).astype(np.uint8)
    image = np.stack([grey] * 3, axis=-1)
    low = [patch.before[axis] for axis in axes]
    high = [patch.before[axis] + patch.output[axis] for axis in axes]
    if all(low):
        rows, columns = (slice(a - 1, b + 1) for a, b in zip(low, high, strict=True))
        image[[low[0] - 1, high[0]], columns] = FRAME
        image[rows, [low[1] - 1, high[1]]] = FRAME
    return image


def _stretch(patches: PatchDataset) -> int:
    """Compute how often sections are repeated in a view from the side, so that it has the proportions of the world."""
    z, _, x = patches.volumes[0].labels.grid.voxel_size
    return max(1, round(z / x))
