"""Raw data, labels and masks of one dtype as those of another, without the loss of a value."""

import numpy as np

from segkit.convert.source import Box, Source
from segkit.errors import InvalidInput, sentence


def read_values(source: Source, box: Box, kind: str, dtype: np.dtype) -> np.ndarray:
    """The values in a box, (Z, Y, X), in `dtype`. Raises InvalidInput rather than change one."""
    values = source.read(box)
    if kind == "mask":
        return (values != 0).astype(dtype)
    if kind == "labels" and values.dtype.kind == "i" and values.min() < 0:
        next_step = "cast them to an unsigned dtype if -1 stands for outside"
        raise InvalidInput(sentence("labels", "must not be negative", values.min(), next_step))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        wrong = values[~np.isfinite(values)][0]
        raise InvalidInput(sentence(kind, "must be finite", wrong, "write a number in its place, np.nan_to_num say"))
    with np.errstate(invalid="ignore", over="ignore"):
        result = values.astype(dtype, copy=False)
    if values.dtype != result.dtype and not _equal(values, result):
        rule = f"must fit into {dtype}"
        next_step = "choose a larger --dtype" if kind == "raw" else "choose uint64, or number the objects anew"
        raise InvalidInput(sentence(kind, rule, f"{values.min()}..{values.max()}", next_step))
    return result


def check_kind_of_values(source: Source, kind: str) -> None:
    """Raise InvalidInput unless the dtype can be that of the kind."""
    allowed = {"labels": "bui", "mask": "bui"}.get(kind, "buif")
    if source.dtype.kind not in allowed:
        rule = "must be integers" if kind != "raw" else "must be real numbers"
        raise InvalidInput(sentence(f"{source.place}: {kind}", rule, source.dtype, "state another --kind"))


def target_dtype(source: Source, kind: str, given: str | None, format_name: str) -> np.dtype:
    """The dtype to write: as given, else uint64 for labels, booleans for a mask, and that of the source for raw."""
    plain = format_name in ("tiff", "precomputed")
    usual = {"labels": np.dtype(np.uint64), "mask": np.dtype(np.uint8 if plain else bool)}.get(kind, source.dtype)
    dtype = np.dtype(given) if given else usual
    if kind == "labels" and dtype.kind != "u":
        raise InvalidInput(sentence("the dtype of labels", "must be unsigned integers", dtype, "choose uint64"))
    if kind == "mask" and dtype not in (np.dtype(bool), np.dtype(np.uint8)):
        raise InvalidInput(sentence("the dtype of a mask", "must be bool or uint8", dtype))
    return np.dtype(np.uint8) if plain and dtype.kind == "b" else dtype


def _equal(values: np.ndarray, result: np.ndarray) -> bool:
    """Whether a cast changed nothing: there and back, and no sign was lost."""
    back = result.astype(values.dtype)
    same = (back == values) | ((back != back) & (values != values))
    if values.dtype.kind in "iu" and result.dtype.kind in "iu":
        same &= (values < 0) == (result < 0)
    return bool(same.all())
