"""What stands between segkit's conventions and waterz'."""

import contextlib
import ctypes
import io
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from segkit.data import Affinities, Labels, edge_slices
from segkit.errors import InvalidInput, SegkitError, sentence

MOST_QUEUE_BINS = 2**16

_one_at_a_time = threading.Lock()


def to_waterz(affinities: Affinities) -> np.ndarray:
    """Affinities as waterz reads them: float32 (3, Z, Y, X), contiguous; channels z, y, x.

    waterz stores the edge between a voxel and its predecessor along an axis at the voxel, and 1 = same object: this is
    segkit's default neighborhood. Another order of the channels is undone, and an edge to the successor is moved to
    its other end. Raises InvalidInput for offsets that are no unit steps (waterz would ignore all channels after the
    third), and where an axis longer than one voxel has no channel. May share memory with the input: waterz only reads.
    """
    affinities.check()
    channels = _channel_of_axis(affinities)
    if channels == [0, 1, 2] and (affinities.neighborhood == -np.eye(3, dtype=int)).all():
        return np.ascontiguousarray(affinities.array)
    converted = np.zeros((3, *affinities.shape), np.float32)
    for axis, channel in enumerate(channels):
        if channel is not None:
            offset = affinities.neighborhood[channel]
            here, there = edge_slices(affinities.shape, offset)
            converted[axis][here if offset[axis] < 0 else there] = affinities.array[channel][here]
    return converted


def _channel_of_axis(affinities: Affinities) -> list[int | None]:
    """The channel of the nearest neighbours along z, y and x; None for an axis of one voxel that has none."""
    steps = np.abs(affinities.neighborhood).tolist()
    units = np.eye(3, dtype=int).tolist()
    found = [steps.index(unit) if unit in steps else None for unit in units]
    missing = [axis for axis, channel in zip("zyx", found, strict=True) if channel is None]
    needless = [axis for axis, size in zip("zyx", affinities.shape, strict=True) if size == 1]
    if any(step not in units for step in steps) or not set(missing) <= set(needless):
        rule = "must have the nearest neighbours along z, y and x, and no other, for waterz"
        value = affinities.neighborhood.tolist()
        next_step = "keep these channels only, or use the agglomerator 'python', which takes any neighborhood"
        raise InvalidInput(sentence("neighborhood", rule, value, next_step))
    return found


def compacted(fragments: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Number the fragments 1, 2, ... in the order of their ids: the ids, increasing, and a copy of the fragments.

    waterz takes ids for positions in its tables, so a large id would cost memory, and overwrites what it is given.
    Background and outside become 0, which is in no contact. The numbers follow the ids because ties depend on them.
    """
    import fastremap

    objects = np.where(fragments.inside, fragments.array, np.uint64(0))
    ids = fastremap.unique(objects)
    ids = ids[ids > 0]
    if len(ids) and ids[-1] >= objects.size:  # no table of that length
        return ids, np.searchsorted(ids, objects, side="right").astype(np.uint64)
    numbers = np.zeros(objects.size, np.uint64)
    numbers[ids] = np.arange(1, len(ids) + 1)
    return ids, numbers[objects]


def call(affinities: np.ndarray, threshold: float, **options: Any) -> Any:
    """The one result of ``waterz.agglomerate`` for one threshold, without what it prints.

    It is the segmentation, or a tuple that begins with it where `options` ask for more.

    The lock is there because stdout, which is redirected meanwhile, belongs to the process. Raises SegkitError where
    a scoring that waterz does not ship compiled cannot be compiled.
    """
    import waterz

    scoring = options.get("scoring_function", "the default")
    with _one_at_a_time, _silence():
        try:
            generator = waterz.agglomerate(affinities, [threshold], **options)
        except (ValueError, TypeError, MemoryError):
            raise
        except Exception as error:  # witty, Cython, the compiler: each has errors of its own
            raise SegkitError(_cannot_compile(scoring, options.get("discretize_queue", 0))) from error
        (result,) = generator
    return result


def _cannot_compile(scoring: str, queue_bins: int) -> str:
    rule = "is not shipped compiled and could not be compiled"
    next_step = (
        "install a C++ compiler and the boost headers (Debian: apt install g++ libboost-dev), or choose a mean, or a "
        "quantile of 0.1, 0.15, ... 0.95, with queue_bins 0 or 256"
    )
    return sentence(f"waterz' {scoring} with queue_bins={queue_bins}", rule, next_step=next_step)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Send what Python and C++ print to stdout nowhere.

    waterz holds the GIL, so nobody else's output gets lost, unless a scoring has to be compiled first.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            kept = os.dup(1)
        except OSError:  # the process has no stdout
            yield
            return
        _flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            _flush()
            os.dup2(kept, 1)
            os.close(nowhere)
            os.close(kept)


def _flush() -> None:
    """Empty C's buffer of stdout, so that each line goes where it was meant to go."""
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
