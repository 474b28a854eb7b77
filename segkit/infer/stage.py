"""Affinities by blocks, by a network that every process loads once."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from segkit import io
from segkit.blockwise.blocks import BLOCK, Block, Lattice, Slices, Triple
from segkit.blockwise.engine import BlockTask, Executor, Report, Stage, StageReport, run_stage
from segkit.blockwise.store import file_digest, fingerprint
from segkit.data import Grid
from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.io.lookup import AnyAddress
from segkit.io.reader import RegionSource
from segkit.io.zarr_target import Target

if TYPE_CHECKING:
    from segkit.models.checkpoint import TrainedModel

LARGEST_HALO = 32
"""Of a network that pads, unless another is given: a quarter of the block, up to this many voxels."""

_ONE = Lock()
"""A network is used by one thread at a time: while it is, it is in another mode. Workers may have several."""


@dataclass(frozen=True)
class Settings:
    """How a network is used; see :func:`segkit.infer.predict`."""

    tile_shape: tuple[int, ...] | None = None
    device: str = "cpu"
    batch_size: int = 1
    precision: str = "32"
    augment: str = "none"
    compiled: bool = False

    def key(self) -> dict[str, object]:
        """What decides the values, up to rounding: so that other devices and batches may go on with what was begun."""
        return {"tile_shape": self.tile_shape, "precision": self.precision, "augment": self.augment}


@dataclass(frozen=True)
class InferTask(BlockTask):
    """Predicts the affinities of a block."""

    raw: RegionSource
    model: Path
    version: str
    """Checksum of the file of the model."""
    lattice: Lattice
    target: Target
    settings: Settings = field(default_factory=Settings)

    def run(self, number: int) -> dict:
        """Raw data around the block are read as far as they are needed."""
        with _ONE:
            affinities = self._predicted(self.lattice[number])
        self.target.write(self.lattice[number].inner, affinities)
        return {}

    def _predicted(self, block: Block) -> np.ndarray:
        from segkit.infer import predict_parts

        trained = _loaded(self.model, self.version, self.settings.device)
        window = Window(self.raw, seen(block, trained.module, self.raw.shape))
        with closing(
            predict_parts(
                trained.module,
                window,
                trained.neighborhood,
                thickness=max(block.shape),
                part=window.part(block.inner),
                tile_shape=self.settings.tile_shape,
                device=self.settings.device,
                batch_size=self.settings.batch_size,
                precision=self.settings.precision,
                augment=self.settings.augment,
                compiled=self.settings.compiled,
            )
        ) as parts:
            ((_, affinities),) = parts
        return affinities

    def digest(self, number: int) -> str | None:
        """Of the block in the store."""
        return self.target.digest(self.lattice[number].inner)


class Window:
    """A box of a volume as a volume of its own."""

    def __init__(self, source, box: Slices) -> None:
        self._source, self._start = source, [along.start for along in box]
        self.shape: Triple = tuple(along.stop - along.start for along in box)
        """Size in voxels, (Z, Y, X)."""
        self.grid: Grid = source.grid.crop(self._start)
        """Where it lies."""

    def read(self, part: Slices) -> np.ndarray:
        """The intensities of a box of it."""
        moved = [slice(a.start + first, a.stop + first) for a, first in zip(part, self._start, strict=True)]
        return self._source.read(tuple(moved))

    def part(self, box: Slices) -> Slices:
        """A box of the source as one of this."""
        z, y, x = (slice(a.start - first, a.stop - first) for a, first in zip(box, self._start, strict=True))
        return z, y, x


def infer_files(
    raw: AnyAddress,
    model: Path | str,
    out: AnyAddress,
    *,
    block: Sequence[int] = BLOCK,
    halo: Sequence[int] | None = None,
    executor: Executor | None = None,
    report: Report | None = None,
    notes: dict[str, object] | None = None,
    tile_shape: Sequence[int] | None = None,
    device: str = "cpu",
    batch_size: int = 1,
    precision: str = "32",
    augment: str = "none",
    compiled: bool = False,
) -> list[StageReport]:
    """Predict the affinities of `raw` by a trained network, block by block.

    A network without padding gives what :func:`segkit.infer.predict` gives for the whole volume, up to rounding
    (about 1e-6; with a given `tile_shape` of which blocks are multiples, to the last bit), whatever the block: it
    reads what it needs beyond the block, and raw data are reflected only where the volume ends. One that pads sees a
    block and its `halo`, where the volume would end for it; so **its affinities near faces depend on block and halo**,
    the less the wider the halo. A 2-D network always sees all sections that it takes.

    Memory: a worker holds the network, the tiles under way, and the affinities of a block, 4 bytes a voxel and offset.

    Parameters
    ----------
    raw
        Address of the raw data.
    model
        File of the network, as :func:`segkit.models.checkpoint.load_model` reads it.
    out
        A .zarr; its shards are the blocks.
    block, halo
        In voxels, z, y, x. The halo is for networks that pad, and not used along axes where they do not; by default a
        quarter of the block, at most 32, and never less than the longest offset of the neighborhood.
    executor, report
        As of :func:`segkit.blockwise.engine.run_stage`.
    notes
        What is to be said of the affinities, as in :func:`segkit.io.write`.
    tile_shape, device, batch_size, precision, augment, compiled
        As of :func:`segkit.infer.predict`. What was begun may go on with another device, batch or compilation.

    Raises
    ------
    InvalidInput
        If the network was trained on resampled voxels, or the address cannot be written to.
    BlocksFailed
        If a block could not be computed.
    """
    from segkit.models.checkpoint import load_model

    io.check_writable(out)
    path = Path(model).absolute()
    trained = load_model(path)
    source = RegionSource(raw, "raw")
    lattice = Lattice(source.shape, block)  # type: ignore[arg-type]
    lattice = replace(lattice, halo=_halo(trained, lattice.block, halo))
    tile = None if tile_shape is None else tuple(map(int, tile_shape))
    settings = Settings(tile, device, batch_size, precision, augment, compiled)
    _check(trained, source, lattice[0], settings)
    version = file_digest(path) or ""
    inputs = {"raw": source.identity, "model": version, "block": lattice.block, "halo": lattice.halo}
    key = fingerprint(stage="infer", **inputs, **settings.key())
    place = ("affinities", source.shape, source.grid, np.float32, block)
    target = Target.create(out, *place, key=key, neighborhood=trained.neighborhood, notes=notes)
    task = InferTask(source, path, version, lattice, target, settings)
    found = run_stage(Stage("infer", task, [b.voxels for b in lattice], target.marks, key), executor, report)
    target.finish()
    return [found]


def seen(block: Block, module, shape: Triple) -> Slices:
    """What a network is shown as its volume: along axes where it pads, block and halo; else all there is.

    It begins where the lattice of the network does, so that pooling takes the same voxels together in all blocks.
    """
    first = 3 - module.ndim
    found = []
    for axis, (outer, size) in enumerate(zip(block.outer, shape, strict=True)):
        if not padded(module)[axis]:
            found.append(slice(0, size))
            continue
        step = module.stride[axis - first]
        found.append(slice(outer.start // step * step, outer.stop))
    z, y, x = found
    return z, y, x


def padded(module) -> tuple[bool, bool, bool]:
    """Along which axes a network pads; a 2-D one never does along z, where it sees whole sections."""
    along = [False] * (3 - module.ndim) + [not context for context in module.context]
    z, y, x = along
    return z, y, x


@lru_cache(maxsize=1)
def _loaded(path: Path, version: str, device: str) -> "TrainedModel":
    """The network, once a process; `version` has it loaded anew when its file was replaced."""
    from segkit.models.checkpoint import load_model

    return load_model(path, device=device)


def _check(trained: "TrainedModel", source: RegionSource, block: Block, settings: Settings) -> None:
    """Refuse at once what would fail in every block."""
    from segkit.infer.plan import make_plan

    if trained.extra.get("resampled"):
        rule = "must see the voxels of the data, by blocks"
        next_step = "resample RAW first, or infer without blocks"
        raise InvalidInput(sentence("the network", rule, "resampled ones", next_step))
    window = Window(source, seen(block, trained.module, source.shape))
    options: dict[str, Any] = {"tile": settings.tile_shape, "batch_size": 1, "augment": settings.augment}
    make_plan(trained.module, window.shape, window.grid, trained.neighborhood, part=window.part(block.inner), **options)


def _halo(trained: "TrainedModel", block: Sequence[int], halo: Sequence[int] | None) -> Triple:
    """0 along axes where the network does not pad; the lattice refuses what is no halo."""
    given = halo if halo is not None else [min(size // 4, LARGEST_HALO) for size in block]
    reach = np.abs(trained.neighborhood).max(axis=0)
    if len(given) != 3 or min(given) < 0:
        rule = "must be three numbers of voxels, z, y, x, from 0 on"
        raise InvalidParameter(sentence("halo", rule, tuple(given)))
    z, y, x = (
        max(int(size), int(least)) if pads else 0
        for size, least, pads in zip(given, reach, padded(trained.module), strict=True)
    )
    return z, y, x
