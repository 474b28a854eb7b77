"""What the tests of health and of recovery share: a volume, and settings of a run that is watched."""

from segkit.testing.phantoms import neurites
from segkit.train import TrainConfig, TrainingVolume

TINY = {
    "model_parameters": {"features": 2, "growth": 2, "pooling": [[1, 2, 2]], "padding": "same"},
    "loss": "mse",
    "patch": [2, 16, 16],
    "steps": 6,
    "checkpoint_every": 2,
    "log_every": 1,
    "health": {"every": 3},
    "device": "cpu",
    "threads": 1,
}


def neurons():
    phantom = neurites((24, 48, 48), count=12, seed=0)
    return TrainingVolume(phantom.raw, phantom.truth)


def config(base=TINY, **changes):
    return TrainConfig(**{**base, **changes, "health": {**base["health"], **changes.get("health", {})}})
