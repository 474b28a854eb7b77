"""From raw to affinities: by a network, tile by tile, or by an oracle that knows the truth."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Restoring": "segkit.infer.resampled",
    "predict": "segkit.infer.tiling",
    "predict_parts": "segkit.infer.tiling",
    "oracle_affinities": "segkit.infer.oracle",
}
__all__ = ["Restoring", "oracle_affinities", "predict", "predict_parts"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segkit.infer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
