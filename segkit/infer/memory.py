"""How much memory tiles take while they are computed, counted without computing them."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segkit.infer.overlap import DEPTH

NUMBER = 4
"""Bytes of a number. Counted in float32 on all devices and in all precisions, so that the tile depends on neither."""
BLOCKED = 16
"""Convolutions reorder what they read and write into blocks of so many channels, beside the tensors themselves."""
UNCOUNTABLE = 10
"""Layers as wide as the first that are taken to be alive at once, where a network cannot be counted."""
RESULTS = 3
"""Convolution, normalisation and activation: results of one layer, if all are kept."""


@dataclass(frozen=True)
class TileMemory:
    """Counts what the batches under way take: the pass of the network, raw data read ahead, results that wait."""

    module: nn.Module
    batch_size: int
    enough: int = 0
    """Bytes below which a bound will do: what counts takes a second to import, and small volumes should not wait."""
    found: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Bytes by the shape of the output tile."""

    def __call__(self, tile: Sequence[int]) -> int:
        """Return bytes, beside those of the weights, for an output tile of this shape; or at least a bound of them."""
        layers = sum(each.shape[0] for each in self.module.parameters() if each.ndim > 1)
        bound = (RESULTS * layers + DEPTH + 2) * NUMBER * prod(self._input(tile))
        return bound if bound <= self.enough else self.counted(tuple(tile))

    def counted(self, tile: tuple[int, ...]) -> int:
        """Return the bytes themselves."""
        if tile not in self.found:
            shape = self._input(tile)
            passing, result = bytes_of_pass(self.module, shape)
            self.found[tile] = passing + (DEPTH + 2) * NUMBER * prod(shape) + (DEPTH + 1) * result
        return self.found[tile]

    def _input(self, tile: Sequence[int]) -> tuple[int, ...]:
        sections = self.module.sections if self.module.ndim == 2 else 1
        return (self.batch_size, sections, *self.module.input_shape(tile))


def bytes_of_pass(module: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Count the most bytes that are alive at once while `module` makes affinities of `shape`, and those of the result.

    The forward runs on tensors without memory (torch's device "meta"), which takes milliseconds. A network that cannot
    run there is judged by the features of its first layer.
    """
    tensors = {name: torch.empty_like(each, device="meta") for name, each in _tensors(module)}
    counter = _Counter()
    try:
        with torch.no_grad(), counter:  # inference mode would hide what operations are made of
            raw = torch.empty(tuple(shape), device="meta")
            result = torch.func.functional_call(module, tensors, (raw,)).float().sigmoid()
            return counter.most, NUMBER * result.numel()
    except Exception:  # whatever code of others raises where tensors have no values
        features = next((each.shape[0] for each in module.parameters() if each.ndim > 1), 1)
        layer = NUMBER * prod(shape) * features
        return UNCOUNTABLE * layer, layer


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


class _Counter(TorchDispatchMode):
    """Adds up the bytes of all tensors that are alive, and of the copies that convolutions make."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.most = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: skipping takes an import of torch's compiler, of more than a second."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation, and count what it made."""
        result = function(*args, **(kwargs or {}))
        made = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        for tensor in made:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.alive:
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata)
        copies = sum(map(_blocked, (args[0], *made))) if "convolution" in str(function) else 0
        self.most = max(self.most, sum(self.alive.values()) + copies)
        return result


def _blocked(tensor: torch.Tensor) -> int:
    """Bytes of a tensor (B, C, ...) whose channels fill whole blocks."""
    channels = -(-tensor.shape[1] // BLOCKED) * BLOCKED
    return NUMBER * channels * tensor.numel() // tensor.shape[1]
