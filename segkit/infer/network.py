"""A network at work: on its device, in its precision, one batch after the other without waiting for the results."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from torch import nn

from segkit.errors import InvalidInput, sentence
from segkit.models.device import put_channels_last
from segkit.models.inputs import FULL_SCALE, scale_intensity
from segkit.registry import calls
from segkit.timing import phase

Precision = Literal["32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

T = TypeVar("T")


def check_precision(precision: str, device: torch.device) -> None:
    """Raise InvalidInput for a name that is none, and for float16 where no unit computes in it."""
    if precision not in PRECISIONS:
        raise InvalidInput(sentence("precision", f"must be {', '.join(PRECISIONS)}", repr(precision)))
    if precision == "fp16" and device.type == "cpu":
        raise InvalidInput(sentence("precision", "must be 32 or bf16 on a CPU", repr(precision)))


def autocasting(device: torch.device, precision: str) -> AbstractContextManager:
    """Computes in `precision` on `device` while it lasts."""
    return torch.autocast(device.type, AUTOCAST[precision]) if precision in AUTOCAST else nullcontext()


@contextmanager
def evaluating(module: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """The module on `device` in evaluation mode, for a while; then every part gets its own tensors and mode back."""
    modes = {part: part.training for part in module.modules()}
    parameters = [(parameter, parameter.data) for parameter in module.parameters()]
    buffers = [(part, name, buffer) for part in modes for name, buffer in part.named_buffers(recurse=False)]
    try:
        module.eval().to(device)
        if precision != "32" or device.type == "cpu":  # on a GPU it makes no difference in float32
            put_channels_last(module)
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for part, name, buffer in buffers:
            setattr(part, name, buffer)
        for part, training in modes.items():
            part.training = training


def answers(
    module: nn.Module,
    batches: Iterable[tuple[T, np.ndarray]],
    device: torch.device,
    precision: str,
    *,
    compiled: bool = False,
) -> Iterator[tuple[T, Callable[[], np.ndarray]]]:
    """For each batch (what it is, raw data) what it is, and a function that waits for its affinities (B, C, ...).

    Channels that the network learned beside them, `auxiliary` of them, are left out. On a graphics card the next batch
    is begun before the results of the last are there.
    """
    call = _compiled(module) if compiled else module
    kept = slice(-getattr(module, "auxiliary", 0) or None)
    with closing(batches), torch.inference_mode(), autocasting(device, precision):  # type: ignore[type-var]
        for what, raw in batches:
            with phase("network"):
                logits = calls.logits(module, to_device(raw, device), call)
                found = _fetching(logits[:, kept].float().sigmoid())
            yield what, found


def _compiled(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    made = torch.compile(module, dynamic=False)

    def call(raw: torch.Tensor) -> torch.Tensor:
        from torch._dynamo.exc import BackendCompilerFailed  # slow to import, and only here of use

        try:
            return made(raw)
        except BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().partition("\n")[0]
            next_step = "install a C++ compiler (on a graphics card Triton too), or leave it out"
            raise InvalidInput(
                sentence("compile", f"needs code that torch could not make ({reason})", None, next_step)
            ) from error

    return call


def to_device(raw: np.ndarray, device: torch.device) -> torch.Tensor:
    """Intensities in -1..1, float32, as :func:`segkit.models.inputs.scale_intensity` makes them, on the device.

    Integers go there as they are, a quarter of the bytes, and are scaled there.
    """
    if device.type != "cuda":
        return torch.from_numpy(scale_intensity(raw)).to(device)
    if raw.dtype not in FULL_SCALE:
        return torch.from_numpy(scale_intensity(raw)).pin_memory().to(device, non_blocking=True)
    moved = torch.from_numpy(np.ascontiguousarray(raw)).pin_memory().to(device, non_blocking=True)
    return scaled(moved, FULL_SCALE[raw.dtype])


def scaled(raw: torch.Tensor, full_scale: int) -> torch.Tensor:
    """The same two roundings as those of :func:`segkit.models.inputs.scale_intensity`, by torch."""
    return raw.float().mul_(2 / full_scale).sub_(1)


def _fetching(result: torch.Tensor) -> Callable[[], np.ndarray]:
    if result.device.type != "cuda":
        host = result.cpu()
        return host.numpy
    host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
    host.copy_(result, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(result.device))

    def wait() -> np.ndarray:
        copied.synchronize()
        return host.numpy()

    return wait
