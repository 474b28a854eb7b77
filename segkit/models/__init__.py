"""Networks that predict affinities, and what training and inference share: input scaling, devices, checkpoints."""

from importlib import import_module
from typing import Any

_HOMES = {
    "TrainedModel": "segkit.models.checkpoint",
    "load_model": "segkit.models.checkpoint",
    "save_model": "segkit.models.checkpoint",
    "check_intensity": "segkit.models.inputs",
    "scale_intensity": "segkit.models.inputs",
    "resolve_device": "segkit.models.device",
}
__all__ = ["TrainedModel", "check_intensity", "load_model", "resolve_device", "save_model", "scale_intensity"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segkit.models' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
