"""Memory that is used again once nobody else holds it."""

import weakref
from collections.abc import Callable

import numpy as np

from segkit.segment._kernels_store import LINE


class Storage:
    """Room for so many uint64, which begins a line of the cache; lent to one array after another."""

    def __init__(self, size: int) -> None:
        room = np.empty(8 * size + LINE, np.uint8)
        skip = -room.ctypes.data % LINE
        self._bytes = room.data[skip : skip + 8 * size]
        self._lent: Callable[[], np.ndarray | None] = _nothing

    @property
    def free(self) -> bool:
        """Whether the array that was lent last is gone, with all its views.

        All views hold that array: NumPy passes a view on to what it views, but not beyond an array whose memory
        belongs to something that is no array.
        """
        return self._lent() is None

    def lend(self) -> np.ndarray:
        """A flat uint64 array, of any content. Whoever calls this makes sure that the storage is free."""
        array = np.frombuffer(self._bytes, np.uint64)
        self._lent = weakref.ref(array)
        return array


def _nothing() -> None:
    """What a reference to something that is gone gives."""
