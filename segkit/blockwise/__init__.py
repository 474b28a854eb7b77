"""What computes a volume block by block: the blocks, who computes them, and the marks of those that are done.

:class:`Work` is how a stage goes about a volume; :func:`open_executor` says who computes; :class:`ComponentSpec` is
how a component travels to other processes.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "WHOLE": "work",
    "ComponentSpec": "component",
    "Work": "work",
    "duration": "engine",
    "open_executor": "cluster",
    "rows": "progress",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    """Import the module of a name when it is asked for: Dask is not needed to know a duration."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
