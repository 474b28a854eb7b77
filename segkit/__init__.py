"""segkit: neurons from electron microscopy, by affinities, fragments and agglomeration.

The containers and :func:`load` are the whole of the top level; each stage is a package of its own
(:mod:`segkit.fragment`, :mod:`segkit.agglomerate`, ...). Nothing here is imported before it is used, so that
``import segkit`` costs milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "Grid": "segkit.data",
    "Volume": "segkit.data",
    "Labels": "segkit.data",
    "Affinities": "segkit.data",
    "RegionAdjacencyGraph": "segkit.data",
    "MergeTree": "segkit.data",
    "load": "segkit.registry",
}
__all__ = ["Affinities", "Grid", "Labels", "MergeTree", "RegionAdjacencyGraph", "Volume", "__version__", "load"]


if TYPE_CHECKING:
    from segkit.data import Affinities, Grid, Labels, MergeTree, RegionAdjacencyGraph, Volume
    from segkit.registry import load
else:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'segkit' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
