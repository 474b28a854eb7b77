"""Results and inputs of any kind as named arrays: to compare, to copy, to lay out in memory otherwise."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

LAYOUTS = ("fortran", "strided", "reversed")


def arrays_of(value: Any, name: str = "it") -> Iterator[tuple[str, np.ndarray]]:
    """All arrays in containers, tensors, mappings and sequences, by name; numbers are arrays without an axis."""
    if isinstance(value, np.ndarray | np.generic | float | int):
        yield name, np.asarray(value)
    elif hasattr(value, "detach"):
        yield name, value.detach().cpu().numpy()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from arrays_of(inner, str(key))
    elif isinstance(value, tuple | list):
        for position, inner in enumerate(value):
            yield from arrays_of(inner, f"{name}[{position}]")
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays_of(getattr(value, field.name), field.name)


def snapshot(value: Any) -> list[tuple[str, np.ndarray]]:
    """Copies of all arrays."""
    return [(name, array.copy()) for name, array in arrays_of(value)]


def difference(one: Any, other: Any, tolerance: float = 0.0) -> str | None:
    """What distinguishes two results, in words; None if nothing does. NaN equals NaN."""
    first, second = (value if _is_snapshot(value) else list(arrays_of(value)) for value in (one, other))
    if [name for name, _ in first] != [name for name, _ in second]:
        return f"{[name for name, _ in first]} became {[name for name, _ in second]}"
    for (name, a), (_, b) in zip(first, second, strict=True):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{name} was {a.dtype} {a.shape} and is {b.dtype} {b.shape}"
        if not _equal(a, b, tolerance):
            where = tuple(int(i) for i in np.argwhere(~_equal_each(a, b, tolerance))[0])
            return f"{name}{list(where) if where else ''} was {a[where]} and is {b[where]}"
    return None


def assert_same(one: Any, other: Any, what: str, tolerance: float = 0.0) -> None:
    """Fail, saying `what` differs and where."""
    found = difference(one, other, tolerance)
    assert found is None, f"{what}: {found}"


def assert_apart(result: Any, other: Any, what: str) -> None:
    """Fail if any two arrays share memory."""
    for name, array in arrays_of(result):
        for other_name, second in arrays_of(other):
            assert not np.shares_memory(array, second), f"{name} shares memory with {other_name} of {what}"


def laid_out(value: Any, layout: str) -> Any:
    """The same values in another memory layout: containers and arrays, the latter read-only."""
    if isinstance(value, tuple):
        return tuple(laid_out(inner, layout) for inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, array=laid_out(value.array, layout))  # type: ignore[attr-defined]  # a container
    return value if value is None else _laid_out(value, layout)


def _laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "reversed":
        return np.flip(np.flip(array).copy())
    larger = np.zeros([2 * size for size in array.shape], array.dtype)
    part = larger[tuple(slice(1, None, 2) for _ in array.shape)]
    part[...] = array
    return part


def _is_snapshot(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(pair, tuple) and isinstance(pair[0], str) for pair in value)


def _equal(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return bool(_equal_each(a, b, tolerance).all())


def _equal_each(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    if tolerance:
        return np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    equal = a == b
    return equal | ((a != a) & (b != b)) if a.dtype.kind == "f" else np.asarray(equal)
