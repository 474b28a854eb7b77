"""Names of devices, and the precision and the order in memory that suit each."""

import platform

import torch
from torch import nn

from segkit.errors import InvalidInput, sentence

LAYOUT = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of axes, the order in memory that convolutions are fastest with; it changes results by rounding."""


def resolve_device(text: str | torch.device = "auto") -> torch.device:
    """The device that `text` names: "auto" (the best there is), "cpu", "cuda", "cuda:1" or "mps".

    A torch.device is checked alike. Raises InvalidInput if there is no such device here.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if text == "auto":
        return torch.device(_best())
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise InvalidInput(sentence("device", "must be auto, cpu, cuda, cuda:N or mps", repr(str(text))))
    if (device.index or 0) >= _count(device.type):
        present = ", ".join(f"{kind}:{i}" for kind in ("cuda", "mps") for i in range(_count(kind))) or "none"
        next_step = f"accelerators that this PyTorch sees: {present}; choose 'cpu' or 'auto'"
        if device.type == "cuda" and torch.version.cuda is None and torch.version.hip is None:
            next_step += ", or install a build of PyTorch for your GPU: this one is for CPUs"
        raise InvalidInput(sentence("device", "must be present", repr(str(text)), next_step))
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """Replace "auto" by "bf16" where `device` has instructions for bfloat16, and by "32" elsewhere.

    Other names pass. Without such instructions torch computes bfloat16 step by step: on a CPU with AVX2 alone, a 3-D
    convolution takes some twenty times as long as in float32.
    """
    if precision != "auto":
        return precision
    return "bf16" if computes_bf16(device) else "32"


def put_channels_last(module: nn.Module) -> None:
    """Put the weights of a network in the order of :data:`LAYOUT`, those of 2-D layers in a 3-D network too.

    `module.to(memory_format=...)` takes one order for all weights, and fails where layers differ.
    """
    for parameter in module.parameters():
        if parameter.ndim in LAYOUT:
            parameter.data = parameter.data.contiguous(memory_format=LAYOUT[parameter.ndim])


def computes_bf16(device: torch.device) -> bool:
    """Say whether `device` has instructions for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    on_x86 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if on_x86 is not None and platform.machine().lower() in ("x86_64", "amd64"):
        return on_x86()
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _count(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return 1 if kind == "cpu" else int(torch.backends.mps.is_available())


def _best() -> str:
    return next((kind for kind in ("cuda", "mps") if _count(kind)), "cpu")
