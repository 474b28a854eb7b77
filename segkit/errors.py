"""Every exception and warning of segkit. Each is also the builtin that a caller would think of first.

A message is one sentence: the argument, the rule it breaks, the value received, and the next step. :func:`sentence`
puts them together, so that all messages read alike. The command line turns :class:`SegkitError` into that sentence
and an exit code: 2 where the call is wrong, 1 where the work failed.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segkit.blockwise.progress import BlockFailure


class SegkitError(Exception):
    """Base of all errors that segkit raises on purpose."""

    exit_code = 1


class InvalidInput(SegkitError, ValueError):
    """A value, a shape, a dtype or a file's content breaks a rule."""

    exit_code = 2


class InvalidShape(InvalidInput):
    """A size that a model or a stage cannot take; the message names the nearest that it can."""


class InvalidParameter(InvalidInput):
    """A parameter of a component is unknown, or its value does not fit its type."""


class UnknownComponent(SegkitError, LookupError):
    """No installed distribution offers a component of that name."""

    exit_code = 2


class AmbiguousComponent(SegkitError, LookupError):
    """Two distributions offer a component of the same name."""

    exit_code = 2


class BrokenComponent(SegkitError, ImportError):
    """A component is declared but cannot be imported, or does not keep its contract."""


class MissingFile(SegkitError, FileNotFoundError):
    """A file that should be read does not exist."""

    exit_code = 2


class MissingDataset(SegkitError, LookupError):
    """A file has no dataset of that name."""

    exit_code = 2


class StorageError(SegkitError, OSError):
    """Reading or writing failed: a full disk, a damaged file, no permission."""


class InUse(SegkitError, BlockingIOError):
    """Another process works on that run, or writes that file, and nothing was done."""


class CheckpointMismatch(SegkitError, ValueError):
    """A checkpoint belongs to another model, or to other parameters of it."""

    exit_code = 2


class TrainingFailed(SegkitError, RuntimeError):
    """Training cannot go on: the loss is not finite, say."""


class BlocksFailed(SegkitError, RuntimeError):
    """Some blocks of a volume could not be computed; what was computed is kept."""

    failures: "tuple[BlockFailure, ...]" = ()
    """The failed blocks."""


class ClusterUnavailable(SegkitError, ConnectionError):
    """No scheduler answers, or no worker comes."""


class SegkitWarning(UserWarning):
    """Something works, but not as one might think."""


def interrupt_in(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interrupt that an error came of, if any: one inside a call of a kernel arrives as a SystemError."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__
    return cause


def out_of_memory(error: BaseException) -> bool:
    """Tell whether Python or torch, which need not be imported here, ran out of memory, on a GPU or on the CPU."""
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or of_torch


def sentence(argument: str, rule: str, value: object = None, next_step: str | None = None) -> str:
    """The one form of all messages.

    >>> sentence("threshold", "must lie in 0..1", 1.5, "choose a value such as 0.5")
    'threshold must lie in 0..1, not 1.5; choose a value such as 0.5'
    """
    text = f"{argument} {rule}"
    if value is not None:
        text += f", not {value}"
    if next_step:
        text += f"; {next_step}"
    return text
