"""What writers write that are killed, here and in a bucket: imported by the processes that die of it."""

from contextlib import ExitStack

import numpy as np

from segkit import io
from segkit.data import Grid, Labels
from segkit.io.shard_target import ShardOutput

SHAPE, SHARD = (4, 6, 8), (4, 6, 4)
OLD, NEW = (Labels(np.full(SHAPE, value, np.uint64), Grid()) for value in (7, 9))
ATTRIBUTES = {"kind": "labels", "format_version": 1, "resolution": [1.0] * 3, "offset": [0.0] * 3, "unit": "nm"}


def shards(key, value, finish=True):
    """Who makes fragments in a store in a folder, block by block."""

    def make(folder):
        with ExitStack() as locks:
            output = ShardOutput(folder / "a.zarr", SHARD, locks)
            target = output.volume(io.Form("fragments", SHAPE, Grid()), key=key)
            for start in (0, 4):
                box = slice(0, 4), slice(0, 6), slice(start, start + 4)
                if target.digest(box) is None:
                    target.write(box, value.array[box])
            if finish:
                output.finish()

    return make


def both(*steps):
    """Who does all of these."""
    return lambda folder: [step(folder) for step in steps]
