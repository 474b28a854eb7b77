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
from segkit.blockwise.blocks import Lattice, Slices, Triple
from segkit.blockwise.engine import Stage
from segkit.blockwise.job import BlockTask, WholeTask
from segkit.blockwise.store import file_digest, fingerprint
from segkit.blockwise.work import WHOLE, Work
from segkit.data import Grid, check_aligned
from segkit.data.affinities import as_fractions, as_levels, cut_leaving
from segkit.data.boxes import around, counted_from, within
from segkit.data.resample import ResampledSource
from segkit.data.source import Source
from segkit.errors import InvalidInput, InvalidParameter, SegkitWarning, sentence
from segkit.infer.resampled import Restoring
from segkit.infer.settings import Settings
from segkit.io.address import as_address, bounds_of
from segkit.io.lookup import AnyAddress
from segkit.io.writer import Form, Target
from segkit.models.inputs import found_range, range_problem

if TYPE_CHECKING:
    from segkit.models.checkpoint import TrainedModel

UNLIKE = 1.1
"""Factor from which on voxels are too unlike those that a network was trained on to say nothing."""
DTYPES = ("float32", "uint8")
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
class Wanted:
    """Which affinities are computed, and how they are kept."""

    roi: Slices | None = None
    """The box of the raw data, in voxels, whose affinities are written; None: all. The network sees what lies around
    it; edges that leave it are 0."""
    mask: AnyAddress | None = None
    """Where this volume, aligned with the raw data, is 0, nothing is computed; edges with an end there are 0."""
    dtype: str = "float32"
    """Or uint8, a quarter of the bytes: see :func:`segkit.data.affinities.as_levels`."""


@dataclass(frozen=True)
class Region:
    """Where affinities are wanted in the raw data, and how they are kept."""

    roi: Slices | None
    """A box of the raw data, both ends given; None: all."""
    shape: Triple
    """Size of what is written, (Z, Y, X)."""
    mask: io.RegionSource | None
    dtype: np.dtype

    def box(self, part: Slices) -> Slices:
        """Return the place in the raw data of a part of what is written."""
        return within(self.roi, part) if self.roi else part

    def placed(self, grid: Grid) -> Grid:
        """Return where it lies, from where the raw data do."""
        return grid.crop([along.start for along in self.roi]) if self.roi else grid

    def identity(self) -> dict[str, object]:
        """Return what decides the values, as far as it is not as always."""
        found: dict[str, object] = {"roi": str(self.roi)} if self.roi else {}
        found |= {"mask": self.mask.identity} if self.mask else {}
        return found | ({} if self.dtype == np.float32 else {"dtype": self.dtype.name})

    def kept(self, part: Sequence[slice], affinities: np.ndarray, neighborhood: np.ndarray) -> np.ndarray:
        """Make what is written of the affinities of a part of the box: 0 for edges that leave it, as its dtype."""
        cut_leaving(affinities, neighborhood, tuple(part), self.shape)
        return as_levels(affinities) if self.dtype == np.uint8 else affinities


@dataclass(frozen=True)
class InferWholeTask(WholeTask):
    """Predicts the affinities of a whole volume, and writes them slab by slab."""

    seen: Source
    """What the network sees."""
    trained: "TrainedModel"
    settings: Settings
    result: Restoring
    region: Region
    target: Target
    work: Work

    def run(self, number: int) -> dict:
        """Predict the volume and write it; raw data are read ahead of the network."""
        from segkit.infer import predict_parts

        options: dict[str, Any] = vars(self.settings) | {"progress": partial(self.work.tell, "infer")}
        module, neighborhood, region = self.trained.module, self.trained.neighborhood, self.region
        options |= {"part": region.roi, "mask": region.mask}
        with _ONE, closing(predict_parts(module, self.seen, neighborhood, **options)) as parts:
            restored = self.result.restored(parts)
            kept = ((where, region.kept(where[1:], values, self.result.neighborhood)) for where, values in restored)
            self.target.fill(tuple(slice(0, size) for size in region.shape), kept)
        return {}


@dataclass(frozen=True)
class Predicted:
    """The affinities that a network gives to a volume, computed where they are asked for; it travels to workers.

    It is read as :class:`segkit.io.RegionSource` is.
    """

    raw: io.RegionSource
    model: Path
    version: str
    """Checksum of the file of the model."""
    neighborhood: np.ndarray
    halo: Triple
    """Voxels around a box that a network sees that pads."""
    region: Region
    settings: Settings

    @property
    def shape(self) -> Triple:
        """Return the size of what is wanted, (Z, Y, X)."""
        return self.region.shape

    @property
    def grid(self) -> Grid:
        """Return where it lies."""
        return self.region.placed(self.raw.grid)

    @property
    def identity(self) -> str:
        """Return what differs once the values may be others."""
        return fingerprint(stage="predicted", **self.decided())

    def decided(self) -> dict[str, object]:
        """Return all that decides the values, as plain values."""
        inputs = {"raw": self.raw.identity, "model": self.version, "halo": self.halo}
        return inputs | self.settings.key() | self.region.identity()

    def read(self, part: Slices) -> np.ndarray:
        """Compute the affinities of a box, float32 (C, Z, Y, X): what a reader gives of those that are stored."""
        return as_fractions(self.stored(part))

    def stored(self, part: Slices) -> np.ndarray:
        """Compute the affinities of a box as they are kept."""
        inner, mask = self.region.box(part), self.region.mask
        if mask is not None and not mask.read(inner).any():
            size = [along.stop - along.start for along in inner]
            affinities = np.zeros((len(self.neighborhood), *size), np.float32)
        else:
            with _ONE:
                affinities = self._predicted(inner)
        return self.region.kept(part, affinities, self.neighborhood)

    def _predicted(self, inner: Slices) -> np.ndarray:
        from segkit.infer import predict_parts

        trained, mask = _loaded(self.model, self.version, self.settings.device), self.region.mask
        box = seen(inner, self.halo, trained.module, self.raw.shape)
        window = Window(self.raw, box)
        options: dict[str, Any] = vars(self.settings) | {
            "thickness": max(along.stop - along.start for along in inner),
            "part": window.part(inner),
            "mask": None if mask is None else Window(mask, box),
        }
        with closing(predict_parts(trained.module, window, trained.neighborhood, **options)) as parts:
            ((_, affinities),) = parts
        return affinities


@dataclass(frozen=True)
class InferTask(BlockTask):
    """Predicts the affinities of a block."""

    affinities: Predicted
    lattice: Lattice
    target: Target

    def run(self, number: int) -> dict:
        """Predict the block and write it; raw data around it are read as far as they are needed."""
        part = self.lattice[number].inner
        self.target.write(part, self.affinities.stored(part))
        return {}

    def digest(self, number: int) -> str | None:
        """Compute a checksum of the block in the store."""
        return self.target.digest(self.lattice[number].inner)


class Window:
    """Presents a box of a volume as a volume of its own."""

    def __init__(self, source: Source, box: Slices) -> None:
        self._source, self._box = source, box
        self.shape: Triple = tuple(along.stop - along.start for along in box)
        """Size in voxels, (Z, Y, X)."""
        self.grid: Grid = source.grid.crop([along.start for along in box])
        """Where it lies."""

    def read(self, part: tuple[slice, ...], /) -> np.ndarray:
        """Read the intensities of a box, counted from the window's first voxel."""
        return self._source.read(within(self._box, part))

    def part(self, box: Slices) -> Slices:
        """Translate a box of the source into one of this window."""
        return counted_from(self._box, box)


def infer_files(
    raw: AnyAddress,
    trained: "TrainedModel",
    out: AnyAddress,
    settings: Settings | None = None,
    *,
    voxels: Voxels | None = None,
    wanted: Wanted | None = None,
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
    wanted
        Which affinities are computed, and how they are kept.
    notes
        As of :func:`segkit.io.write`.
    work
        Whole, or by blocks. The halo is for networks that pad; by default a quarter of the block, at most 32.

    Raises
    ------
    InvalidInput
        By blocks or with a region or mask, if the network was trained on resampled voxels; if these two do not fit the
        volume, or the address cannot be written to.
    BlocksFailed
        If a block could not be computed.
    """
    io.check_writable(out)
    settings, voxels, wanted = settings or Settings(), voxels or Voxels(), wanted or Wanted()
    if not work.whole:
        return _by_blocks(predicted(raw, trained, settings, voxels, wanted, work), out, notes, work)
    source, settings = _looked_at(raw, trained, settings, voxels, work)
    shown = ResampledSource(source, voxels.size) if voxels.size else source
    result = Restoring(shown, shown if voxels.keep_grid else source, trained.neighborhood)
    region = _region(wanted, source, result.shape, work)
    if region.roi or region.mask:
        whole = tuple(slice(0, size) for size in region.shape)
        _check(trained, voxels, source, (region.box(whole), source.shape), settings)  # type: ignore[arg-type]
    form = Form("affinities", region.shape, region.placed(result.grid), result.neighborhood, region.dtype)
    with work.output(out) as output:
        target = output.volume(form, notes=notes)
        InferWholeTask(shown, trained, settings, result, region, target, work).run(0)
    return (len(result.neighborhood), *region.shape)


def predicted(
    raw: AnyAddress, trained: "TrainedModel", settings: Settings, voxels: Voxels, wanted: Wanted, work: Work
) -> Predicted:
    """Make affinities that are computed block by block; for the errors see :func:`infer_files`."""
    source, settings = _looked_at(raw, trained, settings, voxels, work)
    region = _region(wanted, source, source.shape, work)
    lattice = work.lattice(region.shape)
    halo = _halo(trained, lattice.block, work.halo)
    _check(trained, voxels, source, (region.box(lattice[0].inner), halo), settings)
    version = file_digest(_file(trained)) or ""
    return Predicted(source, _file(trained), version, trained.neighborhood, halo, region, settings)


def _by_blocks(
    affinities: Predicted, out: AnyAddress, notes: Mapping[str, object] | None, work: Work
) -> tuple[int, ...]:
    lattice, neighborhood = work.lattice(affinities.shape), affinities.neighborhood
    key = fingerprint(stage="infer", block=lattice.block, **affinities.decided())
    form = Form("affinities", affinities.shape, affinities.grid, neighborhood, affinities.region.dtype)
    with work.output(out) as output:
        target = output.volume(form, key=key, notes=notes)
        task = InferTask(affinities, lattice, target)
        work.run(Stage("infer", task, [block.voxels for block in lattice], target.marks, key))
    return (len(neighborhood), *affinities.shape)


def _region(wanted: Wanted, source: io.RegionSource, shape: Triple, work: Work) -> Region:
    """Open the mask, and find the box of a region in the volume. Raises InvalidInput for those that do not fit it."""
    if wanted.dtype not in DTYPES:
        raise InvalidInput(sentence("dtype", f"must be {' or '.join(DTYPES)}", repr(wanted.dtype)))
    mask = None if wanted.mask is None else work.source(wanted.mask, "mask")
    check_aligned(raw=source, mask=mask)
    if wanted.roi is None:
        return Region(None, shape, mask, np.dtype(wanted.dtype))
    roi = bounds_of(wanted.roi, source.shape, "roi")
    z, y, x = (along.stop - along.start for along in roi)
    return Region(roi, (z, y, x), mask, np.dtype(wanted.dtype))


def _looked_at(
    raw: AnyAddress, trained: "TrainedModel", settings: Settings, voxels: Voxels, work: Work
) -> tuple[io.RegionSource, Settings]:
    """The raw data, which a warning is given of if they are unlike those of the training, and all settings."""
    source, settings = work.source(raw, "raw"), _with_range(settings, trained)
    _warn_of(raw, trained, source.grid, settings, voxels)
    return source, settings


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


def seen(inner: Slices, halo: Triple, module: Any, shape: Triple) -> Slices:
    """What a network is shown as its volume: along axes where it pads, a block and its halo; else all there is.

    It begins where the lattice of the network does, so that pooling takes the same voxels together in all blocks.
    """
    first = 3 - module.ndim
    found = []
    for axis, (outer, size) in enumerate(zip(around(inner, shape, halo, halo), shape, strict=True)):
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


def _check(
    trained: "TrainedModel", voxels: Voxels, source: Source, block: tuple[Slices, Triple], settings: Settings
) -> None:
    """Refuse at once what would fail in every block, or of a region; `block` is the box and halo of one."""
    from segkit.infer.plan import make_plan, warn_of_memory

    if voxels.size or trained.extra.get("resampled"):
        rule = "must see the voxels of the data, by blocks and with a mask or roi"
        next_step = "resample RAW first, or infer all of it at once"
        raise InvalidInput(sentence("the network", rule, "resampled ones", next_step))
    window = Window(source, seen(*block, trained.module, source.shape))
    part = window.part(block[0])
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
