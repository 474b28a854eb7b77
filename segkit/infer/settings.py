"""How a network is used: what all that predict can be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import torch

    from segkit.infer.network import Precision
    from segkit.infer.symmetry import Augment


MEMORY = 2_500_000_000
"""Bytes for the tiles under way where nothing else is said. Why not a share of what is free? Tiles of networks that pad
are blended, so that the affinities would depend on what else the machine does."""


class Options(TypedDict, total=False):
    """Name the keywords of :func:`segkit.infer.predict`, where they are explained, for type checkers.

    It stands beside :class:`Settings` because a signature cannot take its keywords from a dataclass.
    """

    tile_shape: Sequence[int] | None
    memory: int
    margin: Sequence[int] | None
    device: "str | torch.device"
    batch_size: int
    precision: "Precision"
    augment: "Augment"
    compiled: bool
    intensity_range: tuple[float, float] | None
    skip_empty: bool


@dataclass(frozen=True)
class Settings:
    """Hold the options that were given, and the defaults of the rest; another name is a TypeError."""

    tile_shape: Sequence[int] | None = None
    memory: int = MEMORY
    margin: Sequence[int] | None = None
    device: "str | torch.device" = "cpu"
    batch_size: int = 1
    precision: "Precision" = "32"
    augment: "Augment" = "none"
    compiled: bool = False
    intensity_range: tuple[float, float] | None = None
    skip_empty: bool = False

    def key(self) -> dict[str, object]:
        """What decides the values, up to rounding: so that other devices and batches may go on with what was begun."""
        found: dict[str, object] = {"tile_shape": self.tile_shape, "precision": self.precision, "augment": self.augment}
        found |= {"intensity_range": self.intensity_range} if self.intensity_range else {}
        found |= {"skip_empty": True} if self.skip_empty else {}
        found |= {"margins": list(self.margin) if self.margin is not None else "auto"}
        return found | ({"memory": self.memory} if self.memory != MEMORY and not self.tile_shape else {})
