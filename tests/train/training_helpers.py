"""What several tests of training share: a volume, settings, and a way to stop."""

import json

import numpy as np
import torch

from segkit import Grid, Labels, Volume
from segkit.models.checkpoint import load_model
from segkit.train import TrainingVolume

TINY = {
    "model_parameters": {"features": 3, "growth": 2, "pooling": [[1, 2, 2]], "normalisation": "none"},
    "loss": "mse",
    "patch": [2, 8, 8],
    "steps": 6,
    "learning_rate": 1e-2,
    "checkpoint_every": 3,
    "log_every": 2,
    "device": "cpu",
    "threads": 1,
    "validation": {"segmentation": False},
}


class Interrupted(Exception):
    pass


def tubes():
    """Bright tubes along z on a dark ground, with noise."""
    rng = np.random.default_rng(0)
    labels = np.zeros((18, 36, 36), int)
    labels[:, 2:16, 2:16], labels[:, 18:34, 2:16], labels[:, 2:34, 19:34] = 1, 2, 3
    raw = np.where(labels > 0, 180, 20) + rng.integers(0, 60, labels.shape)
    return TrainingVolume(Volume(raw.astype(np.uint8), Grid()), Labels.convert(labels, Grid()))


def weights_in(path):
    return load_model(path).module.state_dict()


def weights(result):
    return weights_in(result.model)


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def lines(run, key="loss"):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if key in line]


def stop_after(last):
    def on_step(step, *_):
        if step == last:
            raise Interrupted

    return on_step
