"""Affinities of one convention as those of another, box by box."""

import numpy as np

from segkit.convert.conventions import Convention
from segkit.convert.source import Box, Source
from segkit.data import edge_slices
from segkit.errors import InvalidInput, sentence


class Conversion:
    """Reads from a source of one convention what another wants to see.

    Moving a value from one end of its edge to the other negates the offset of the channel: the target's channel t takes
    from the source's channel with the same offset, or with the opposite one, then from the voxel at the other end.
    """

    def __init__(self, source: Source, before: Convention, after: Convention, dtype: np.dtype) -> None:
        before.check_dtype(source.dtype)
        after.check_dtype(dtype)
        self._source, self._before, self._after, self._dtype = source, before, after, np.dtype(dtype)
        channels = source.channels or 1
        if len(before.neighborhood) != channels:
            rule = f"must have one offset a channel, {channels}"
            raise InvalidInput(sentence("the neighborhood", rule, len(before.neighborhood)))
        self._origins = [_origin(before.offsets, offset) for offset in after.offsets]
        same = (before.scale, before.polarity) == (after.scale, after.polarity)
        self._as_they_are = same and source.dtype == self._dtype
        self.low, self.high = np.inf, -np.inf

    def read(self, box: Box) -> np.ndarray:
        """The target's values in a box, (C, Z, Y, X). Edges that leave the volume are those between two objects."""
        begin, shape = [part.start for part in box], self._source.shape
        halo = [(min(0, *along), max(0, *along)) for along in np.array([move for _, move in self._origins]).T.tolist()]
        wide = tuple(
            slice(max(part.start + low, 0), min(part.stop + high, size))
            for part, (low, high), size in zip(box, halo, shape, strict=True)
        )
        values = self._source.read(wide)  # type: ignore[arg-type]
        values = self._transcoded(values if self._source.channels is not None else values[None])
        result = np.empty((len(self._origins), *(part.stop - part.start for part in box)), self._dtype)
        result[...] = self._after.encode(np.zeros(1), self._dtype)
        for channel, (origin, move), offset in zip(result, self._origins, self._after.offsets, strict=True):
            inside = _overlap(box, edge_slices(shape, offset)[0])
            if inside is None:
                continue
            here = tuple(slice(part.start - b, part.stop - b) for part, b in zip(inside, begin, strict=True))
            moved = zip(inside, move, wide, strict=True)
            there = tuple(slice(part.start + m - w.start, part.stop + m - w.start) for part, m, w in moved)
            channel[here] = values[origin][there]
        return result

    def _transcoded(self, values: np.ndarray) -> np.ndarray:
        low, high = self._before.check_range(values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        return values if self._as_they_are else self._after.encode(self._before.decode(values), self._dtype)

    def check_range(self) -> None:
        """To be called when all was read: raise InvalidInput if the values contradict the scale that was claimed."""
        scale, integers = self._before.scale, self._source.dtype.kind == "u"
        span = f"{self.low:g}..{self.high:g}"
        if scale == "plain" and integers and self.high == 1:
            rule, other = f"of {self._source.dtype} and scale 'plain' must reach beyond 1", "binary"
        elif scale == "signed" and self.low >= 0 and self.high > 0:
            rule, other = "of scale 'signed' must have values below 0", "plain"
        elif scale == "logits" and self.low >= 0 and self.high <= 1 and self.high > self.low:
            rule, other = "that are logits must leave 0..1", "plain"
        else:
            return
        next_step = f"give --from-scale {other}, or --no-checks if they are right"
        raise InvalidInput(sentence("affinities", rule, span, next_step))


def _origin(offsets: np.ndarray, wanted: np.ndarray) -> tuple[int, list[int]]:
    """The source's channel that holds the edge `wanted`, and the way to the voxel where its value stands."""
    for channel, offset in enumerate(offsets):
        if (offset == wanted).all():
            return channel, [0, 0, 0]
        if (offset == -wanted).all():
            return channel, [int(step) for step in wanted]
    rule = f"has no channel for the edge {wanted.tolist()}"
    raise InvalidInput(sentence("the source", rule, next_step=f"it has {offsets.tolist()}"))


def _overlap(box: Box, other: tuple[slice, ...]) -> Box | None:
    parts = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, other, strict=True)]
    return None if any(part.stop <= part.start for part in parts) else tuple(parts)  # type: ignore[return-value]
