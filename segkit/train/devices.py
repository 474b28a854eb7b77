"""Whether the devices that the settings name can train together, and what each has of the CPU."""

import torch

from segkit.errors import InvalidInput, InvalidParameter, sentence
from segkit.models.device import resolve_device
from segkit.train.config import TrainConfig


def check_devices(config: TrainConfig) -> None:
    """Raise InvalidInput if a device is absent, and InvalidParameter if it cannot do what the settings want of it."""
    device = resolve_device(config.device)
    if config.precision == "fp16" and device.type == "cpu":
        next_step = "set precision=bf16 or 32, or train on a GPU"
        raise InvalidParameter(sentence("precision", "must be 32 or bf16 on a CPU", repr("fp16"), next_step))
    if config.devices == 1:
        return
    if config.batch_size % config.devices:
        rule, value = f"must be a multiple of devices, {config.devices}", config.batch_size
        raise InvalidParameter(sentence("batch_size", rule, value, f"set batch_size={config.devices}, say"))
    present = torch.cuda.device_count() if device.type == "cuda" else 1 if device.type == "mps" else config.devices
    if device.index is not None or config.devices > present:
        rule = f"must be at most {present} and device without a number" if present > 1 else "must be 1 here"
        raise InvalidInput(sentence("devices", rule, f"{config.devices} of {config.device!r}"))


def share_of_threads(config: TrainConfig) -> int | None:
    """CPU threads of each process; None leaves torch's own choice."""
    if config.devices == 1 or config.threads is not None:
        return config.threads
    return max(torch.get_num_threads() // config.devices, 1)
