"""Seeing things: volumes, runs and results of recipes in neuroglancer, with the threshold live.

Needs neuroglancer (``pip install 'segkit-em[view]'``), which :class:`Session` imports.
"""

from typing import Any

from segkit.errors import BrokenComponent, sentence
from segkit.view.things import Thing, things

__all__ = ["Session", "Thing", "things"]


def __getattr__(name: str) -> Any:
    if name != "Session":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from segkit.view.session import Session
    except ModuleNotFoundError as error:
        if error.name != "neuroglancer":
            raise
        rule, next_step = "needs neuroglancer, which is not installed", "pip install 'segkit-em[view]'"
        raise BrokenComponent(sentence("the view", rule, None, next_step)) from error
    return Session
