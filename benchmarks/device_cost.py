"""What MALIS on the device asks of a GPU: python benchmarks/device_cost.py [--size 84 --size 128] [--batch 1].

Needs no GPU: a step, from affinities to their gradient, is run on PyTorch's meta device, which computes shapes only,
and its operations are counted: kernel launches, bytes read and written, and the most memory allocated at a time (beside
the affinities, labels and edges themselves). The estimate beside them allows 4 us for a launch and 3.35 TB/s (an H100).
A value that is looked up or written at a random place counts as a sector of 32 bytes, as if there were no cache;
contention for one place is not counted. With --device cuda the step is measured, replayed from a CUDA graph too.
"""

import argparse
from collections.abc import Callable
from math import log2
from statistics import median

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segkit.benchmark.measure import time_in_turn
from segkit.losses.malis_device import pair_terms
from segkit.testing.phantoms import neurites

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
SECTOR = 32
LAUNCH_SECONDS = 4e-6
BYTES_A_SECOND = 3.35e12
FREE = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "detach", "_unsafe_view"}
COPY_FIRST = {"index_add", "scatter_add", "masked_fill"}
"""Two launches each: a copy, and the change to it."""


class Cost(TorchDispatchMode):
    """Counts what is run inside: `launches`, `bytes` and, of the memory allocated, `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.bytes = self.peak = 0
        self.by_name: dict[str, list[int]] = {}
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        known = {value.untyped_storage()._cdata for value in given}
        results = func(*args, **(kwargs or {}))
        made = [value for value in tree_leaves(results) if isinstance(value, torch.Tensor)]
        name = func.overloadpacket.__name__
        extra = 0
        if name not in FREE and not func.is_view:
            launches, traffic, extra = cost(name, given, made)
            self.launches += launches
            self.bytes += traffic
            entry = self.by_name.setdefault(name, [0, 0])
            entry[0] += launches
            entry[1] += traffic
        self._remember([value for value in made if value.untyped_storage()._cdata not in known], extra)
        return results

    def _remember(self, made: list[torch.Tensor], extra: int) -> None:
        self._alive = {storage: size for storage, size in self._alive.items() if not storage.expired()}
        for value in made:
            self._alive[StorageWeakRef(value.untyped_storage())] = value.numel() * value.element_size()
        self.peak = max(self.peak, sum(self._alive.values()) + extra)


def cost(name: str, given: list[torch.Tensor], made: list[torch.Tensor]) -> tuple[int, int, int]:
    """Launches, bytes read and written, and bytes allocated for the time of one operation."""
    name = name.removesuffix("_")
    plain = sum(value.numel() * value.element_size() for value in {id(t): t for t in given}.values())
    plain += sum(value.numel() * value.element_size() for value in made)
    if name == "sort":  # by radix, 8 bits a pass
        number, key = made[0].numel(), made[0].element_size()
        return key + 4, number * (key + 8 + 2 * key * (key + 8)), number * (8 + key + 8)
    if name in ("index_select", "gather"):
        index = given[1]
        return 1, index.numel() * (index.element_size() + SECTOR + made[0].element_size()), 0
    if name in ("scatter", "scatter_add", "scatter_reduce", "index_add"):
        index, values = given[1], given[-1]
        copied = 0 if any(made[0] is value for value in given) else 2 * made[0].numel() * made[0].element_size()
        return 1 + bool(copied), copied + index.numel() * (index.element_size() + values.element_size() + 2 * SECTOR), 0
    if name == "searchsorted":
        places, queries = given[0], given[1]
        return 1, int(queries.numel() * (8 + 8 + SECTOR * max(log2(places.numel() + 1), 1))), 0
    if name == "cumsum":  # two launches; one more and a copy where the numbers change their type
        number, size = made[0].numel(), made[0].element_size()
        return (2, plain, 0) if given[0].dtype == made[0].dtype else (3, plain + 2 * number * size, number * size)
    return 2 if name in COPY_FIRST else 1, plain, 0


def inputs(size: int, batch: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Affinities, labels and edges; on the meta device without values."""
    shape = (batch, len(NEAREST), size, size, size)
    if device == "meta":
        labels = torch.empty((batch, *shape[2:]), dtype=torch.int64, device=device)
    else:
        truth = neurites(shape[2:], count=max(size**3 // 20_000, 4), seed=1).truth.array.astype("int64")
        labels = torch.from_numpy(truth).to(device).expand(batch, -1, -1, -1).contiguous()
    affinities = torch.rand(shape, device=device).requires_grad_()
    edges = torch.ones(shape, dtype=torch.bool, device=device)
    for axis in range(len(NEAREST)):
        edges[:, axis].select(axis + 1, 0).fill_(False)
    return affinities, labels, edges


def step(affinities: torch.Tensor, labels: torch.Tensor, edges: torch.Tensor, constrained: bool) -> torch.Tensor:
    """From affinities to their gradient."""
    terms = pair_terms(affinities, labels, edges, NEAREST, constrained=constrained, balanced=True)
    return torch.autograd.grad(terms.sum(), affinities)[0]


def counted(size: int, batch: int, constrained: bool) -> Cost:
    """The cost of a step."""
    given = inputs(size, batch, "meta")
    with Cost() as cost:
        step(*given, constrained)
    return cost


def measured(size: int, batch: int, constrained: bool) -> tuple[float, float, int]:
    """Median seconds of a step, the same replayed from a CUDA graph, and peak bytes, on a CUDA device."""
    given = inputs(size, batch, "cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(*given, constrained)
        stream.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        eager = _seconds(lambda: step(*given, constrained))
        peak = torch.cuda.max_memory_allocated() - before
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(*given, constrained)
    return eager, _seconds(graph.replay), peak


def _seconds(run: Callable[[], object]) -> float:
    return median(time_in_turn({"step": run}, 15, wait=torch.cuda.synchronize)["step"])


def main() -> None:
    """Print a line for each size and definition."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, action="append", help="edge of the cube, voxels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", choices=["meta", "cuda"], default="meta")
    parser.add_argument("--operations", action="store_true", help="list the operations too")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU, and torch sees none; leave it out to count instead")
    for size in arguments.size or [84, 128]:
        voxels = arguments.batch * size**3
        for constrained in (True, False):
            title = f"{size}^3 x {arguments.batch} {'constrained-malis' if constrained else 'malis'}"
            if arguments.device == "cuda":
                eager, graph, peak = measured(size, arguments.batch, constrained)
                figures = f"{eager * 1e3:.2f} ms, {graph * 1e3:.2f} ms from a CUDA graph"
                print(f"{title}: {figures}, {peak / voxels:.0f} bytes a voxel")
                continue
            cost = counted(size, arguments.batch, constrained)
            launching, moving = cost.launches * LAUNCH_SECONDS * 1e3, cost.bytes / BYTES_A_SECOND * 1e3
            print(
                f"{title}: {cost.launches} launches ({launching:.2f} ms), {cost.bytes / voxels:.0f} bytes moved a voxel"
                f" ({moving:.2f} ms), {cost.peak / voxels:.0f} bytes of memory a voxel"
            )
            if arguments.operations:
                for name, (launches, moved) in sorted(cost.by_name.items(), key=lambda item: -item[1][1]):
                    print(f"    {name}: {launches} launches, {moved / voxels:.0f} bytes moved a voxel")


if __name__ == "__main__":
    main()
