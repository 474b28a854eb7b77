"""What the border of a volume says about a convention: where edges leave it, most tools write "split"."""

import numpy as np

from segkit.convert.conventions import Convention
from segkit.convert.source import Box, Source
from segkit.errors import InvalidInput, sentence

WIDTH = 1024
"""Faces are looked at up to this many voxels along each axis."""
NEARLY = 1e-6
Face = tuple[int, int]
"""An axis, and on which side of the volume (-1 = at voxel 0)."""
FACES = [(axis, step) for axis in range(3) for step in (-1, 1)]
"""All six."""


def check_borders(source: Source, claimed: Convention) -> None:
    """Raise InvalidInput if the faces of the volume contradict the convention that is claimed.

    Where an edge leaves the volume there is nothing to be known, and a channel of nearest neighbours that was made from
    labels is uniform on that face. If a channel is so on one face alone, and on another one than claimed, then the
    claim is wrong. Predictions, which have values everywhere, prove nothing; nor do faces where all channels are 0.
    """
    if min(source.shape) < 3:
        return
    faces = [claimed.decode(_with_channels(source, source.read(_face(source.shape, *face)))) for face in FACES]
    everywhere = {face for face, same in zip(FACES, faces, strict=True) if len(same) > 1 and (same <= NEARLY).all()}
    for channel, offset in enumerate(claimed.offsets):
        if np.abs(offset).sum() != 1:
            continue
        leaving = (int(np.flatnonzero(offset)[0]), int(offset.sum()))
        values = {face: same[channel] for face, same in zip(FACES, faces, strict=True) if face not in everywhere}
        split = [face for face, same in values.items() if (same <= NEARLY).all()]
        united = [face for face, same in values.items() if (same >= 1 - NEARLY).all()]
        problem = _problem(leaving, split, united)
        if problem:
            rule = f"cannot hold the edge {claimed.neighborhood[channel].tolist()} as claimed"
            next_step = f"{problem[0]}; give {problem[1]}, or --no-checks if it is right"
            raise InvalidInput(sentence(f"channel {channel} of the affinities", rule, next_step=next_step))


def _problem(leaving: Face, split: list[Face], united: list[Face]) -> tuple[str, str] | None:
    """What the faces of a channel suggest, and the option that would say so."""
    if leaving in split:
        return None
    if united == [leaving]:
        found = "it is uniform where the edge leaves the volume, but as 1 and not as 0"
        return found, "the other --from-polarity" + (" or --from-edges-at" if split else "")
    if len(split or united) != 1:
        return None
    ((axis, side),) = split or united
    found = f"it is {'empty' if split else '1'} on the {'first' if side < 0 else 'last'} face along {'zyx'[axis]} alone"
    polarity = "" if split else "the other --from-polarity and "
    if axis == leaving[0]:
        return f"{found}, so that it looks stored at the other end", f"{polarity}the other --from-edges-at"
    order = "--from-neighborhood in that order, or other --axes"
    return f"{found}, so that it looks like an edge along {'zyx'[axis]}", f"{polarity}{order}"


def _with_channels(source: Source, values: np.ndarray) -> np.ndarray:
    return values if source.channels is not None else values[None]


def _face(shape: tuple[int, int, int], axis: int, side: int) -> Box:
    """The middle of a face, one voxel thick."""
    parts = [slice(max(0, (size - WIDTH) // 2), min(size, (size + WIDTH) // 2)) for size in shape]
    parts[axis] = slice(0, 1) if side < 0 else slice(shape[axis] - 1, shape[axis])
    # The rims, on which two faces meet, belong to neither.
    for other in set(range(3)) - {axis}:
        parts[other] = slice(max(parts[other].start, 1), min(parts[other].stop, shape[other] - 1))
    return tuple(parts)  # type: ignore[return-value]
