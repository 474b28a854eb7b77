"""Affinities that pass by: computed block by block, and never on disk."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from segkit.blockwise.blocks import Slices, Triple
from segkit.data import Grid


class PassingAffinities(ABC):
    """Stands for affinities in a file, where stages by blocks take a source; it travels to workers.

    What the region graph needs of a block is taken when its fragments are made, for then the affinities are at hand.
    """

    neighborhood: np.ndarray
    """Offsets of the channels, (C, 3)."""

    @property
    @abstractmethod
    def shape(self) -> Triple:
        """Return the size in voxels, (Z, Y, X)."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """Return where the voxels lie."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Return what differs once the values may be others."""

    @abstractmethod
    def read(self, part: Slices, /) -> np.ndarray:
        """Compute the affinities of a box, float32 (C, Z, Y, X)."""

    @abstractmethod
    def keep(self, number: int, affinities: np.ndarray, labels: Any) -> None:
        """Keep what the region graph needs of the affinities that begin in a block, float32 (C, z, y, x).

        `labels` are those of the block (:class:`segkit.fragment.block_labels.BlockLabels`), which have no ids yet.
        """

    @abstractmethod
    def piece(self, number: int, fragments: Any, linkage: Any) -> Any:
        """Make the graph (:class:`segkit.agglomerate.pieces.Piece`) of the affinities that begin in a block.

        `fragments` is the source of the fragments with their ids, `linkage` says which statistics are wanted.
        """
