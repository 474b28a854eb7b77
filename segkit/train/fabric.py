"""Lightning Fabric as training uses it: devices, precision, averaged gradients. Slow to import: import it when needed.

What is used of it: `setup`, `backward`, `autocast`, `clip_gradients`, `no_backward_sync`, `to_device`. Not its
launcher: the processes are there already (:mod:`segkit.train.distributed`).
"""

import logging

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import ClusterEnvironment
from lightning_fabric.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from segkit.models.device import resolve_device
from segkit.train import distributed
from segkit.train.config import TrainConfig

PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our names of precisions -> Fabric's."""

logging.getLogger("lightning_fabric").setLevel(logging.ERROR)


def make_fabric(config: TrainConfig) -> Fabric:
    """Make what places training on the device of `config`, or on that of this process among several."""
    device, devices = resolve_device(config.device), config.devices
    cards = list(range(devices)) if devices > 1 else [device.index or 0]
    fabric = Fabric(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=cards if device.type == "cuda" else devices,
        strategy=_strategy(device),
        precision=PRECISION[config.precision],
    )
    fabric.launch()
    return fabric


def _strategy(device: torch.device) -> Strategy:
    if distributed.world_size() > 1:
        return _DDP(cluster_environment=_Processes())
    return SingleDeviceStrategy(torch.device("cuda", device.index or 0) if device.type == "cuda" else device)


class _DDP(DDPStrategy):
    """DistributedDataParallel among processes that need no launcher."""

    def _configure_launcher(self) -> None:
        """Leave it at none."""


class _Processes(ClusterEnvironment):
    """The processes as Fabric sees them: there already, and on one machine."""

    main_address, main_port = "localhost", 0
    creates_processes_externally = True

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return distributed.world_size()

    def global_rank(self) -> int:
        return distributed.rank()

    def local_rank(self) -> int:
        return distributed.rank()

    def node_rank(self) -> int:
        return 0

    def set_world_size(self, size: int) -> None:
        """Known already."""

    def set_global_rank(self, rank: int) -> None:
        """Known already."""
