"""TensorStore: how it reaches a folder, here, in a bucket or on a web server."""

import os
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segkit.errors import BrokenComponent, sentence
from segkit.io.remote import LONGEST_PAUSE, RETRIES, Remote, credentials_of, emulator, endpoint, region_of

REQUESTS = 32
"""So many requests to a server are on their way at a time."""
SILENCE = {
    "TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS": "10",
    "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "10",
    "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
}
"""Variables of the environment that end a request of which nothing is heard for so many seconds: it is repeated."""
_used_by: int | None = None
"""The process that has used TensorStore."""


def forked() -> bool:
    """Whether this process was forked from one that had used TensorStore, whose threads a fork does not survive."""
    return _used_by not in (None, os.getpid())


def tensorstore(what: str = "what lies there", extra: str = "precomputed") -> ModuleType:
    """The package. Raises BrokenComponent where it is not installed, or cannot be used any more: see `forked`."""
    global _used_by
    if forked():
        rule = "cannot be used in a process that was forked from one that had used it"
        next_step = 'start processes anew: multiprocessing.get_context("spawn")'
        raise BrokenComponent(sentence("TensorStore", rule, next_step=next_step))
    for name, value in SILENCE.items():
        os.environ.setdefault(name, value)
    try:
        import tensorstore as package
    except ImportError as error:
        rule, next_step = "needs the package tensorstore", f"pip install 'segkit-em[{extra}]'"
        raise BrokenComponent(sentence(what, rule, next_step=next_step)) from error
    _used_by = os.getpid()
    return package


def kvstore_of(path: Path | Remote) -> dict[str, Any]:
    """The specification of a folder as a store of keys."""
    if isinstance(path, Path):
        return {"driver": "file", "path": f"{path.absolute()}/"}
    bucket = path.root.split("://", 1)[1]
    if path.scheme == "http":
        return {"driver": "http", "base_url": path.root, "path": f"/{path.key}/"}
    if path.scheme == "gs":
        if emulator():
            os.environ["TENSORSTORE_GCS_HTTP_URL"] = str(emulator())
        return {"driver": "gcs", "bucket": bucket, "path": f"{path.key}/"}
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": f"{path.key}/", "aws_region": region_of(bucket)}
    spec |= {"endpoint": endpoint()} if endpoint() else {}
    return spec | {"aws_credentials": {"type": credentials_of("s3")}}


def open_array(driver: str, path: Path | Remote, **more: Any) -> Any:
    """The array in a folder, for reading, by one of TensorStore's drivers; `more` are members of its specification."""
    spec = {"driver": driver, "kvstore": kvstore_of(path)} | more
    return tensorstore().open(spec, read=True, context=own_context()).result()


def values_of(array: Any, part: tuple[slice | int, ...]) -> np.ndarray:
    """The values of a part of an array of TensorStore."""
    tensorstore()  # which says what to do after a fork: TensorStore would end the process
    return np.asarray(array[part].read().result())


def own_context() -> Any:
    """What an array is opened with: what all share, and metadata of its own, for others may lie there meanwhile."""
    return tensorstore().Context({"cache_pool": {}}, _context(os.getpid()))


@lru_cache(maxsize=1)
def _context(process: int) -> Any:
    """What all arrays of a process share: how often requests are repeated, and how many there are at a time."""
    tries = {"max_retries": RETRIES, "initial_delay": "200ms", "max_delay": f"{LONGEST_PAUSE:.0f}s"}
    spec: dict[str, Any] = {}
    for name in ("s3", "gcs", "http"):
        spec |= {f"{name}_request_retries": tries, f"{name}_request_concurrency": {"limit": REQUESTS}}
    return tensorstore().Context(spec)
