"""What no program can go below: the bytes and operations that a stage must move, at the rates of this machine.

The bytes of a stage are those of its input, read once, and of its output, written once; the operations are those of the
convolutions of a network. Its floor is what the slower of both takes, if everything else cost nothing and lay in cache.
The rates are measured: `bandwidth` by a triad, a = b + 3 c on arrays larger than any cache (12 bytes an element, as
STREAM counts: what the cache line of `a` costs to be fetched is left out), and operations by a product of matrices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from statistics import median

from segkit.benchmark.measure import time_in_turn

AFFINITIES, LABEL, RAW = 12, 8, 1
"""Bytes a voxel: three float32, uint64, uint8."""
LEAF = 8 + 16 + 8
"""Bytes of a merge tree for each fragment: its id, two parents (its own, and that of one merge), one altitude."""


@dataclass(frozen=True)
class Work:
    """What a stage must move at least."""

    bytes: int
    flops: int = 0
    """Additions and multiplications of floats."""

    def seconds(self, rates: Mapping[str, float]) -> float:
        """The floor, in seconds; `rates` are of :func:`rates`.

        >>> Work(bytes=8, flops=6).seconds({"bandwidth": 4.0, "float32": 2.0})
        3.0
        """
        return max(self.bytes / rates["bandwidth"], self.flops / rates["float32"])

    def bound(self, rates: Mapping[str, float]) -> str:
        """Name what the floor is made of, "bytes" or "operations"."""
        return "bytes" if self.bytes / rates["bandwidth"] >= self.flops / rates["float32"] else "operations"


def work(function: str, options: Mapping, inputs: Mapping) -> Work | None:
    """What an entrant of entrants.py must move, on inputs of a `shape` with so many `fragments` of each kind.

    None for one that is no stage of segkit. `inputs["stored"]` are the bytes of the affinities on disk.
    """
    formula = FORMULAS.get(function)
    return formula(options, inputs) if formula else None


def _voxels(inputs: Mapping) -> int:
    return prod(inputs["shape"])


def _tree(options: Mapping, inputs: Mapping) -> int:
    """Affinities and fragments in, tree out."""
    return (AFFINITIES + LABEL) * _voxels(inputs) + LEAF * inputs["fragments"][options["fragments"]]


def _cut(inputs: Mapping, thresholds: int = 1) -> int:
    """Fragments in once, a segmentation for each threshold out."""
    return LABEL * (1 + thresholds) * _voxels(inputs)


FORMULAS: dict[str, Callable[[Mapping, Mapping], Work]] = {
    # Affinities as they are stored, and as an array.
    "segkit_read": lambda _, inputs: Work(inputs["stored"] + AFFINITIES * _voxels(inputs)),
    "segkit_write": lambda _, inputs: Work(inputs["stored"] + AFFINITIES * _voxels(inputs)),
    # Raw data in, affinities out; the convolutions of the volume as one tile.
    "segkit_infer": lambda _, inputs: Work((RAW + AFFINITIES) * _voxels(inputs), small_network(tuple(inputs["shape"]))),
    # Affinities in, fragments out.
    "segkit_fragment": lambda _, inputs: Work((AFFINITIES + LABEL) * _voxels(inputs)),
    "segkit_tree": lambda options, inputs: Work(_tree(options, inputs)),
    # The tree, and the segmentations at nine thresholds; the fragments are read once for all of it.
    "segkit_agglomerate": lambda options, inputs: Work(
        _tree(options, inputs) + _cut(inputs, 9) - LABEL * _voxels(inputs)
    ),
    "segkit_segment": lambda _, inputs: Work(_cut(inputs) + LEAF * inputs["fragments"]["xy"]),
    # Segmentation and truth in.
    "segkit_scores": lambda _, inputs: Work(2 * LABEL * _voxels(inputs)),
    # Fragments, truth and tree in.
    "segkit_sweep": lambda _, inputs: Work(2 * LABEL * _voxels(inputs) + LEAF * inputs["fragments"]["xy"]),
    # Logits and labels in, the gradient out.
    "segkit_malis": lambda _, inputs: Work((2 * AFFINITIES + LABEL) * _voxels(inputs)),
}


@cache
def small_network(shape: tuple[int, int, int]) -> int:
    """Operations of the network that entrants.py infers with, on a volume of `shape`."""
    from entrants import NETWORK

    from segkit.models.unet3d import UNet3D

    return operations(lambda: UNet3D(**NETWORK), shape)


def operations(network: Callable, shape: tuple[int, ...]) -> int:
    """Count the operations of the convolutions of `network()` on one channel of `shape`: two for each product.

    A convolution of F features of size k to G, with N voxels out, has 2 F G k N. Nothing is computed.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network()(torch.empty(1, 1, *shape))
    return counter.get_total_flops()


def rates(*, threads: int, elements: int = 2**26, size: int = 2048, repeat: int = 7) -> dict[str, float]:
    """Measure `bandwidth`, bytes/s, and `float32` and `bfloat16`, operations/s, by `threads` threads.

    The triad has arrays of `elements` float32; the matrices are `size` by `size`.
    """
    import torch

    torch.set_num_threads(threads)
    a, b, c = torch.zeros(elements), torch.ones(elements), torch.ones(elements)
    single = torch.ones(size, size)
    half = single.bfloat16()
    calls = {
        "bandwidth": lambda: torch.add(b, c, alpha=3, out=a),
        "float32": lambda: single @ single,
        "bfloat16": lambda: half @ half,
    }
    moved = {"bandwidth": 12 * elements, "float32": 2 * size**3, "bfloat16": 2 * size**3}
    return {name: moved[name] / median(seconds) for name, seconds in time_in_turn(calls, repeat).items()}
