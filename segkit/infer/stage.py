"""Predict affinities of a volume in a file (`segkit infer`), whole or by blocks; a process loads a network once."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np

from segkit import io
from segkit.blockwise.blocks import Block, Lattice, Slices, Triple
from segkit.blockwise.engine import Stage
from segkit.blockwise.job import BlockTask
from segkit.blockwise.store import file_digest, fingerprint
from segkit.blockwise.work import WHOLE, Work
from segkit.data import Grid
from segkit.data.resample import ResampledSource
from segkit.data.source import Source
from segkit.errors import InvalidInput, InvalidParameter, SegkitWarning, sentence
from segkit.infer.resampled import Restoring
from segkit.infer.settings import Settings
from segkit.io.address import as_address
from segkit.io.lookup import AnyAddress
from segkit.io.writer import Form, Target
from segkit.models.inputs import found_range, range_problem

if TYPE_CHECKING:
    from segkit.models.checkpoint import TrainedModel

UNLIKE = 1.1
"""Factor from which on voxels are too unlike those that a network was trained on to say nothing."""
LARGEST_HALO = 32
"""Of a network that pads, unless another is given: a quarter of the block, up to this many voxels."""

_ONE = Lock()
"""A network is used by one thread at a time: while it is, it is in another mode. Workers may have several."""


@dataclass(frozen=True)
class Voxels:
    """The voxels that a network sees, and those of its affinities, of a whole volume."""

    size: tuple[float, float, float] | None = None
    """Raw data are resampled to voxels of this size in nm; None: as they are."""
    keep_grid: bool = False
    """Leave the affinities on these voxels; else they are brought back to those of the raw data."""


@dataclass(frozen=True)
class WholeTask(BlockTask):
    """Predicts the affinities of a whole volume, and writes them slab by slab."""

    seen: Source
    """What the network sees."""
    trained: "TrainedModel"
    settings: Settings
    result: Restoring
    target: Target
    work: Work

    def run(self, number: int) -> dict:
        """Predict the volume and write it; raw data are read ahead of the network."""
        from segkit.infer import predict_parts

        options: dict[str, Any] = vars(self.settings) | {"progress": partial(self.work.tell, "infer")}
        module, neighborhood = self.trained.module, self.trained.neighborhood
        with _ONE, closing(predict_parts(module, self.seen, neighborhood, **options)) as parts:
            self.target.fill(tuple(slice(0, size) for size in self.result.shape), self.result.restored(parts))
        return {}

    def digest(self, number: int) -> str | None:
        """Return None: nothing is kept of a volume that is not done."""
        return None


@dataclass(frozen=True)
class InferTask(BlockTask):
    """Predicts the affinities of a block."""

    raw: io.RegionSource
    model: Path
    version: str
    """Checksum of the file of the model."""
    lattice: Lattice
    target: Target
    settings: Settings

    def run(self, number: int) -> dict:
        """Predict the block and write it; raw data around it are read as far as they are needed."""
        with _ONE:
            affinities = self._predicted(self.lattice[number])
        self.target.write(self.lattice[number].inner, affinities)
        return {}

    def _predicted(self, block: Block) -> np.ndarray:
        from segkit.infer import predict_parts

        trained = _loaded(self.model, self.version, self.settings.device)
        window = Window(self.raw, seen(block, trained.module, self.raw.shape))
        options: dict[str, Any] = vars(self.settings) | {
            "thickness": max(block.shape),
            "part": window.part(block.inner),
        }
        with closing(predict_parts(trained.module, window, trained.neighborhood, **options)) as parts:
            ((_, affinities),) = parts
        return affinities

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the block in the store."""
        return self.target.digest(self.lattice[number].inner)


class Window:
    """Presents a box of a volume as a volume of its own."""

    def __init__(self, source: Source, box: Slices) -> None:
        self._source, self._start = source, [along.start for along in box]
        self.shape: Triple = tuple(along.stop - along.start for along in box)
        """Size in voxels, (Z, Y, X)."""
        self.grid: Grid = source.grid.crop(self._start)
        """Where it lies."""

    def read(self, part: tuple[slice, ...], /) -> np.ndarray:
        """Read the intensities of a box, counted from the window's first voxel."""
        moved = [slice(a.start + first, a.stop + first) for a, first in zip(part, self._start, strict=True)]
        return self._source.read(tuple(moved))

    def part(self, box: Slices) -> Slices:
        """Translate a box of the source into one of this window."""
        z, y, x = (slice(a.start - first, a.stop - first) for a, first in zip(box, self._start, strict=True))
        return z, y, x


def infer_files(
    raw: AnyAddress,
    trained: "TrainedModel",
    out: AnyAddress,
    settings: Settings | None = None,
    *,
    voxels: Voxels | None = None,
    notes: Mapping[str, object] | None = None,
    work: Work = WHOLE,
) -> tuple[int, ...]:
    """Predict the affinities of `raw` by a trained network; their shape (C, Z, Y, X).

    By blocks, a network without padding gives what :func:`segkit.infer.predict` gives for the whole volume, up to
    rounding (about 1e-6; with a given `tile_shape` of which blocks are multiples, to the last bit): it reads what it
    needs beyond the block. One that pads sees a block and its halo, where the volume would end for it; so **its
    affinities near faces depend on block and halo**. A 2-D network always sees all sections that it takes.

    Memory: the network, tiles (`settings.memory`), and the affinities that these touch, 4 bytes a voxel and offset.

    Parameters
    ----------
    raw, trained
        Raw data, and the network as :func:`segkit.models.load_model` gives it. By blocks each process loads its file.
    out
        A file; by blocks a .zarr.
    settings, voxels
        How it is used, and which voxels it sees of a whole volume. Device, batch and compilation may change meanwhile.
    notes
        As of :func:`segkit.io.write`.
    work
        Whole, or by blocks. The halo is for networks that pad; by default a quarter of the block, at most 32.

    Raises
    ------
    InvalidInput
        By blocks, if the network was trained on resampled voxels, or if the address cannot be written to.
    BlocksFailed
        If a block could not be computed.
    """
    io.check_writable(out)
    voxels, source = voxels or Voxels(), work.source(raw, "raw")
    settings = _with_range(settings or Settings(), trained)
    _warn_of(raw, trained, source.grid, settings, voxels)
    shown = ResampledSource(source, voxels.size) if voxels.size else source
    result = Restoring(shown, shown if voxels.keep_grid else source, trained.neighborhood)
    lattice, version, key = work.lattice(source.shape), "", ""
    if not work.whole:
        lattice = replace(lattice, halo=_halo(trained, lattice.block, work.halo))
        _check(trained, voxels, source, lattice[0], settings)
        version = file_digest(_file(trained)) or ""
        inputs = {"raw": source.identity, "model": version, "block": lattice.block, "halo": lattice.halo}
        key = fingerprint(stage="infer", **inputs, **settings.key())
    form = Form("affinities", result.shape, result.grid, result.neighborhood)
    with work.output(out) as output:
        target = output.volume(form, key=key, notes=notes)
        task: BlockTask = WholeTask(shown, trained, settings, result, target, work)
        if not work.whole:
            task = InferTask(source, _file(trained), version, lattice, target, settings)
        work.run(Stage("infer", task, [block.voxels for block in lattice], target.marks, key))
    return (len(result.neighborhood), *result.shape)


def _with_range(settings: Settings, trained: "TrainedModel") -> Settings:
    """The settings with the values that are black and white: those given, else those of the training."""
    given: Any = settings.intensity_range or trained.extra.get("intensity_range")
    return replace(settings, intensity_range=given and (float(given[0]), float(given[1])))


def _warn_of(raw: AnyAddress, trained: "TrainedModel", grid: Grid, settings: Settings, voxels: Voxels) -> None:
    """Warn of data whose voxels or values are unlike those that the network was trained on.

    Values are judged for all that is stored, so that a crop or a block of it is judged alike.
    """
    size: Any = trained.extra.get("voxel_size")
    known = size and voxels.size is None and set(size) != {1} and io.states_voxel_size(raw, "raw")
    if known and max(max(a / b, b / a) for a, b in zip(size, grid.voxel_size, strict=True)) > UNLIKE:
        lengths, own = (",".join(f"{length:g}" for length in each) for each in (size, grid.voxel_size))
        rule = f"has voxels of {own} nm, and the network was trained on {lengths}"
        warn(SegkitWarning(sentence(str(raw), rule, next_step=f"--voxel-size {lengths} resamples it")), stacklevel=3)
    share: Any = trained.extra.get("brightest")
    with io.open_volume(replace(as_address(raw), crop=None)) as whole:
        found, dtype = found_range(whole)
    if problem := range_problem(found, dtype, settings.intensity_range, share):
        warn(SegkitWarning(f"{raw}: {problem}"), stacklevel=3)


def _file(trained: "TrainedModel") -> Path:
    """The file that other processes load the network from."""
    if trained.file is None:
        rule, next_step = "must be of a file, by blocks", "save it by save_model, and load it"
        raise InvalidInput(sentence("the network", rule, "one in memory", next_step))
    return trained.file.absolute()


def seen(block: Block, module: Any, shape: Triple) -> Slices:
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


def padded(module: Any) -> tuple[bool, bool, bool]:
    """Along which axes a network pads; a 2-D one never does along z, where it sees whole sections."""
    along = [False] * (3 - module.ndim) + [not context for context in module.context]
    z, y, x = along
    return z, y, x


@lru_cache(maxsize=1)
def _loaded(path: Path, version: str, device: str) -> "TrainedModel":
    """The network, once a process; `version` has it loaded anew when its file was replaced."""
    from segkit.models.checkpoint import load_model

    return load_model(path, device=device)


def _check(trained: "TrainedModel", voxels: Voxels, source: Source, block: Block, settings: Settings) -> None:
    """Refuse at once what would fail in every block."""
    from segkit.infer.plan import make_plan, warn_of_memory

    if voxels.size or trained.extra.get("resampled"):
        rule = "must see the voxels of the data, by blocks"
        next_step = "resample RAW first, or infer without blocks"
        raise InvalidInput(sentence("the network", rule, "resampled ones", next_step))
    window = Window(source, seen(block, trained.module, source.shape))
    part = window.part(block.inner)
    plan = make_plan(trained.module, window.shape, window.grid, trained.neighborhood, settings, part)
    warn_of_memory(plan, settings)


def _halo(trained: "TrainedModel", block: Sequence[int], halo: Sequence[int] | None) -> Triple:
    """0 along axes where the network does not pad, elsewhere never less than the longest offset."""
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
