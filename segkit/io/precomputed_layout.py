"""How a precomputed volume is laid out where segkit writes it: its scales, chunks, encodings and shards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segkit.errors import InvalidInput, sentence
from segkit.io.pyramid import Level, Triple, levels
from segkit.io.records import Layout

CHUNK = 64
"""Longest side of a chunk, in voxels."""
SHARD = 2**27
"""Bytes of a shard at most, before compression: one is written at once, and held in memory."""
TOGETHER = 6
"""Bits of the numbers of the chunks of a minishard, which a viewer reads the index of at once."""


@dataclass(frozen=True)
class Scales:
    """The scales of a volume, and what TensorStore is told of them."""

    levels: list[Level]
    """The scales as levels of a pyramid."""
    volume: dict[str, Any]
    """`multiscale_metadata`."""
    scales: list[dict[str, Any]]
    """`scale_metadata` of each."""
    blocks: list[Triple]
    """Sides, z, y, x, of what is written at once of each: a shard, where there are some."""


def laid_out(shape: Sequence[int], dtype: np.dtype, attributes: Mapping[str, Any], layout: Layout) -> Scales:
    """The scales of an array, [channel,] z, y, x. Raises InvalidInput unless its offset is of whole voxels.

    Voxels of the smaller scales lie at multiples of their size, so that they begin where that of a larger one does.
    """
    voxel, offset = attributes["resolution"], attributes["offset"]
    start = [a / b for a, b in zip(offset, voxel, strict=True)]
    if any(abs(at - round(at)) > 1e-6 for at in start):
        rule = "must be whole voxels in a precomputed volume"
        raise InvalidInput(sentence("the offset", rule, f"{start[::-1]} (x, y, z)", "give another by --offset"))
    first = Level(_triple(shape[-3:]), start=_triple(round(at) for at in start))
    found = levels(first.shape, voxel, first.start) if layout.pyramid else [first]
    channels = shape[0] if len(shape) == 4 else 1
    segmentation = attributes.get("kind") == "labels"
    volume = {"type": "segmentation" if segmentation else "image", "data_type": dtype.name, "num_channels": channels}
    scales, blocks = [], []
    for level in found:
        scale = _scale(level, voxel) | _encoding(segmentation, dtype)
        block = _triple([2 * CHUNK] * 3)
        if layout.sharding:
            block, scale["sharding"] = shards(level.shape, channels * dtype.itemsize)
        scales.append(scale)
        blocks.append(block)
    return Scales(found, volume, scales, blocks)


def shards(shape: Sequence[int], size: int) -> tuple[Triple, dict[str, Any]]:
    """The sides in voxels of a shard, z, y, x, and the `sharding` of a scale with voxels of `size` bytes.

    Chunks are numbered by a compressed Morton code, and a shard takes as many that follow each other as fit into 128
    MiB, which are a box. 64 of them at most are a minishard.

    >>> sides, sharding = shards((300, 4000, 4000), 1)
    >>> sides, [sharding[name] for name in ("preshift_bits", "minishard_bits", "shard_bits")]
    ((512, 512, 512), [6, 3, 6])
    """
    grid = [-(-side // CHUNK) for side in shape[::-1]]  # x, y, z
    along = [axis for bit in range(max(grid).bit_length()) for axis in range(3) if 1 << bit < grid[axis]]
    inside = min(len(along), int(math.log2(max(SHARD / (CHUNK**3 * size), 1))))
    x, y, z = (CHUNK << along[:inside].count(axis) for axis in range(3))
    preshift = min(inside, TOGETHER)
    sharding = {
        "@type": "neuroglancer_uint64_sharded_v1",
        "hash": "identity",
        "preshift_bits": preshift,
        "minishard_bits": inside - preshift,
        "shard_bits": len(along) - inside,
        "data_encoding": "gzip",
        "minishard_index_encoding": "gzip",
    }
    return (z, y, x), sharding


def _scale(level: Level, voxel: Sequence[float]) -> dict[str, Any]:
    return {
        "size": list(level.shape[::-1]),
        "resolution": [length * by for length, by in zip(voxel, level.factor, strict=True)][::-1],
        "voxel_offset": list(level.start[::-1]),
        "chunk_size": [CHUNK] * 3,
    }


def _encoding(segmentation: bool, dtype: np.dtype) -> dict[str, Any]:
    if segmentation and dtype.name in ("uint32", "uint64"):
        return {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
    return {"encoding": "raw"}


def _triple(numbers: Any) -> Triple:
    z, y, x = map(int, numbers)
    return z, y, x
