"""What a network might have predicted: inputs for losses."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from segkit.data import NEAREST, Affinities, Grid, Labels, edge_mask
from segkit.protocols import Prediction
from segkit.testing import strategies


def predicted(
    logits: ArrayLike, labels: Sequence[np.ndarray], masks: Sequence[np.ndarray], neighborhood: ArrayLike = NEAREST
) -> Prediction:
    """The prediction of a batch: `logits` (B, C, Z, Y, X), `labels` and `masks` one (Z, Y, X) an item."""
    objects = [np.where(mask, item, 0) for item, mask in zip(labels, masks, strict=True)]
    targets = [Affinities.from_labels(Labels.convert(item, Grid()), neighborhood).array for item in objects]
    edges = [edge_mask(mask.shape, neighborhood, mask) for mask in masks]
    return Prediction(
        logits=torch.as_tensor(np.asarray(logits, np.float32)),
        target=torch.as_tensor(np.stack(targets)),
        labels=torch.as_tensor(np.stack(labels).astype(np.int64)),
        mask=torch.as_tensor(np.stack(masks)),
        edges=torch.as_tensor(np.stack(edges)),
        neighborhood=np.array(neighborhood),
    )


def random_prediction(
    seed: int = 0,
    batch: int = 2,
    shape: Sequence[int] = (3, 6, 5),
    neighborhood: Sequence[Sequence[int]] = NEAREST,
    masked: bool = True,
) -> Prediction:
    """Logits from -3 to 3 that are equally spaced in each item, so that none tie; a few objects; some background.

    All items have the same edges: those of one mask.
    """
    rng = np.random.default_rng(seed)
    size = (len(neighborhood), *shape)
    spaced = np.linspace(-3, 3, int(np.prod(size)))
    logits = np.stack([rng.permutation(spaced).reshape(size) for _ in range(batch)])
    mask = rng.random(shape) < 0.9 if masked else np.ones(shape, bool)
    labels = [rng.integers(0, 4, [-(-side // 2) for side in shape]) for _ in range(batch)]
    labels = [np.kron(each, np.ones((2, 2, 2), int))[tuple(map(slice, shape))] for each in labels]
    return predicted(logits, labels, [mask] * batch, neighborhood)


def item_of(prediction: Prediction, item: int) -> Prediction:
    """One item of a batch, as a batch of one."""
    names = ("logits", "target", "labels", "mask", "edges")
    return replace(prediction, **{name: getattr(prediction, name)[item : item + 1] for name in names})


@st.composite
def predictions(draw: st.DrawFn, neighborhood: strategies.AnyNeighborhood = NEAREST, batch: int = 2) -> Prediction:
    """Batches of one to `batch` items, with all-background items and items without any edge among them."""
    shape = draw(strategies.shapes(4))
    number = draw(st.integers(1, batch))
    offsets = draw(neighborhood) if isinstance(neighborhood, st.SearchStrategy) else neighborhood
    found = [draw(strategies.labels(shape, Grid(), outside=False, large=False)).array for _ in range(number)]
    masks = [draw(strategies.masks(shape, Grid())).array for _ in range(number)]
    steps = [draw(strategies.affinities(shape, offsets, Grid(), levels=255)).array for _ in range(number)]
    return predicted(12 * np.stack(steps) - 6, found, masks, offsets)
