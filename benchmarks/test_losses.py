"""MALIS by its backends, forward and backward: pytest benchmarks/test_losses.py --benchmark-enable.

Groups are sizes, so that the factors beside the times are to the fastest of the same run. Without --benchmark-enable
the smallest size runs once, as a test.
"""

import pytest

from segkit import threads
from segkit.infer.oracle import oracle_affinities
from segkit.registry import load

torch = pytest.importorskip("torch")
loss_step = pytest.importorskip("segkit.benchmark.loss_step")

TESTED = 32
SIZES = (TESTED, 56, 84, 128)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def made(volume, benchmark):
    """A callable(size, batch=1, **parameters) -> a step of constrained MALIS, or of the loss `name`."""

    def make(size: int, name: str = "constrained-malis", batch: int = 1, device: str = "cpu", **parameters):
        if size > TESTED and not benchmark.enabled:
            pytest.skip("only measured, with --benchmark-enable")
        truth, _, _ = volume(size)
        affinities = oracle_affinities(truth, noise=0.2, seed=2)
        return loss_step.LossStep.of(load("losses", name, **parameters), affinities, truth, batch=batch, device=device)

    return make


@pytest.fixture
def limited(monkeypatch):
    """A callable(threads) that holds for this test."""
    monkeypatch.setattr(threads, "_limit", [])
    of_torch = torch.get_num_threads()

    def limit(count: int) -> None:
        threads.set_thread_limit(count)
        torch.set_num_threads(count)

    yield limit
    torch.set_num_threads(of_torch)


def run(benchmark, made) -> None:
    made.run()  # compiles
    value, gradient = benchmark(made.run)
    assert 0 <= value <= 1 and gradient.abs().max() > 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", ["cpu", "higra"])
def test_on_one_thread(benchmark, made, limited, backend, size):
    limited(1)
    benchmark.group = f"constrained-malis, {size}^3, one thread"
    run(benchmark, made(size, backend=backend))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 2])
def test_batch_of_two(benchmark, made, limited, threads, size):
    limited(threads)
    benchmark.group = f"constrained-malis, batch of two, {size}^3"
    run(benchmark, made(size, batch=2, backend="cpu"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["malis", "mse"])
def test_other_losses(benchmark, made, limited, name, size):
    limited(1)
    benchmark.group = f"other losses, {size}^3, one thread"
    run(benchmark, made(size, name))


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", ["gpu", "cpu"])
def test_on_the_device(benchmark, made, backend, size):
    benchmark.group = f"constrained-malis, {size}^3, logits on the device"
    run(benchmark, made(size, backend=backend, device=DEVICE))
