"""Volumes of any size, block by block, by as many processes as there are.

Every stage has a function that takes addresses instead of containers: :func:`infer_blockwise`,
:func:`fragment_blockwise`, :func:`agglomerate_blockwise`, :func:`segment_blockwise`, :func:`evaluate_blockwise`,
:func:`sweep_blockwise`. :func:`open_executor` says who computes.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "ComponentSpec": "component",
    "agglomerate_blockwise": "agglomerate",
    "duration": "engine",
    "evaluate_blockwise": "evaluate",
    "fragment_blockwise": "fragment",
    "infer_blockwise": "infer",
    "open_executor": "cluster",
    "rows": "report",
    "segment_blockwise": "segment",
    "sweep_blockwise": "evaluate",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    """Import the module of a name when it is asked for: torch is not needed to count voxels."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
