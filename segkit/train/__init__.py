"""Training: raw data and objects in, a network out. Imports torch when something of it is first used."""

from importlib import import_module
from typing import Any

_HOMES = {
    "TrainConfig": "segkit.train.config",
    "TrainResult": "segkit.train.run",
    "TrainingVolume": "segkit.train.data",
    "train": "segkit.train.run",
}
__all__ = ["TrainConfig", "TrainResult", "TrainingVolume", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segkit.train' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
