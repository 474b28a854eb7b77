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


@dataclass(frozen=True)
class TileMemory:
    """Counts what the batches under way take: the pass of the network, raw data read ahead, results that wait."""

    module: nn.Module
    batch_size: int
    found: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Bytes by the shape of the output tile."""

    def __call__(self, tile: Sequence[int]) -> int:
        """Return bytes, beside those of the weights, for an output tile of this shape."""
        tile = tuple(tile)
        if tile not in self.found:
            sections = self.module.sections if self.module.ndim == 2 else 1
            shape = (self.batch_size, sections, *self.module.input_shape(tile))
            passing, result = bytes_of_pass(self.module, shape)
            self.found[tile] = passing + (DEPTH + 2) * NUMBER * prod(shape) + (DEPTH + 1) * result
        return self.found[tile]


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
            logits = torch.func.functional_call(module, tensors, (raw,))
            affinities = logits.new_empty(logits.shape, dtype=torch.float32)  # by the sigmoid, beside the logits
            return counter.most, affinities.nbytes
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
        result = QUICK.get(function, function)(*args, **(kwargs or {}))
        made = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        for tensor in made:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.alive:
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata)
        copies = sum(map(_blocked, (args[0], *made))) if function is CONVOLUTION else 0
        self.most = max(self.most, sum(self.alive.values()) + copies)
        return result


def _convolved(raw: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *how: Any) -> torch.Tensor:
    stride, padding, dilation, transposed, added, groups = how
    reach = [step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=True)]
    along = zip(raw.shape[2:], reach, stride, padding, added, strict=True)
    if transposed:
        sizes = [(size - 1) * step - 2 * pad + r + more + 1 for size, r, step, pad, more in along]
    else:
        sizes = [(size + 2 * pad - r - 1) // step + 1 for size, r, step, pad, _ in along]
    return raw.new_empty((raw.shape[0], groups * weight.shape[1] if transposed else weight.shape[0], *sizes))


def _joined(tensors: Sequence[torch.Tensor], axis: int = 0) -> torch.Tensor:
    first = tensors[0]
    axis %= first.ndim
    total = sum(each.shape[axis] for each in tensors)
    return first.new_empty((*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _normalised(raw: torch.Tensor, *how: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return raw.new_empty(raw.shape), raw.new_empty(0), raw.new_empty(0)  # means and variances are small


def _pooled(raw: torch.Tensor, kernel: Sequence[int], stride: Sequence[int] = (), *how: Any) -> Any:
    if how or list(stride) not in ([], list(kernel)):
        pool = ATEN.max_pool2d_with_indices if len(kernel) == 2 else ATEN.max_pool3d_with_indices
        return pool.default(raw, kernel, stride, *how)
    sizes = [size // factor for size, factor in zip(raw.shape[-len(kernel) :], kernel, strict=True)]
    found = raw.new_empty((*raw.shape[: -len(kernel)], *sizes))
    return found, raw.new_empty(found.shape, dtype=torch.int64)


def _resized(raw: torch.Tensor, sizes: Sequence[int], *how: Any) -> torch.Tensor:
    return raw.new_empty((*raw.shape[:2], *sizes))


def _repeated(tensor: torch.Tensor, times: Sequence[int]) -> torch.Tensor:
    sizes = (1,) * (len(times) - tensor.ndim) + tuple(tensor.shape)
    return tensor.new_empty([size * each for size, each in zip(sizes, times, strict=True)])


ATEN = torch.ops.aten
CONVOLUTION = ATEN.convolution.default
QUICK: dict[Any, Any] = {
    CONVOLUTION: _convolved,
    ATEN.cat.default: _joined,
    ATEN.native_batch_norm.default: _normalised,
    ATEN.native_group_norm.default: _normalised,
    ATEN.max_pool2d_with_indices.default: _pooled,
    ATEN.max_pool3d_with_indices.default: _pooled,
    ATEN.upsample_bilinear2d.default: _resized,
    ATEN.repeat.default: _repeated,
}
"""What torch does on the device "meta" as well, but there it imports its compiler for it, which takes over a second."""


def _blocked(tensor: torch.Tensor) -> int:
    """Bytes of a tensor (B, C, ...) whose channels fill whole blocks."""
    channels = -(-tensor.shape[1] // BLOCKED) * BLOCKED
    return NUMBER * channels * tensor.numel() // tensor.shape[1]
