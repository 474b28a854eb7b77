"""MALIS inside what trainers wrap around a step: autocast, and data-parallel processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from segkit.data import edge_mask
from segkit.losses.malis import ConstrainedMalis, Malis
from segkit.protocols import Prediction

NEIGHBORHOOD = np.array([(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
SHAPE = (3, 6, 7)
BACKENDS = ("cpu", "gpu")


def patches(seed, items):
    """(raw, labels): noise, and boxes of a few objects with some background."""
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(0, 4, (items, 1, 2, 2)), np.ones((1, 3, 3, 4), int))[..., :7]
    return torch.from_numpy(random.random((items, 1, *SHAPE), np.float32)), torch.from_numpy(labels)


def network():
    torch.manual_seed(0)
    return nn.Conv3d(1, 3, 3, padding=1)


def loss_of(loss, logits, labels):
    edges = torch.from_numpy(edge_mask(SHAPE, NEIGHBORHOOD)).expand(len(labels), -1, -1, -1, -1)
    return loss(Prediction(logits, edges.float(), labels, labels >= 0, edges, NEIGHBORHOOD))[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [Malis, ConstrainedMalis])
def test_under_autocast_the_loss_is_that_of_the_rounded_logits(kind, backend):
    net, (raw, labels) = network(), patches(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(raw)
        logits.retain_grad()
        loss = loss_of(kind(backend=backend), logits, labels)
    loss.backward()
    exact = logits.detach().float().requires_grad_()
    expected = loss_of(kind(backend=backend), exact, labels)
    expected.backward()
    assert logits.dtype == torch.bfloat16 and loss.dtype == torch.float32 and loss == expected
    torch.testing.assert_close(logits.grad, exact.grad.bfloat16(), rtol=0, atol=0)
    assert net.weight.grad.isfinite().all() and net.weight.grad.abs().sum() > 0


def gradient_of_rank(rank, folder):
    """A data-parallel step on one item of the batch with each backend; rank 0 leaves the gradients in the folder."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    raw, labels = patches(2, 2)
    for backend in BACKENDS:
        net = nn.parallel.DistributedDataParallel(network())
        loss_of(ConstrainedMalis(backend=backend), net(raw[rank : rank + 1]), labels[rank : rank + 1]).backward()
        if rank == 0:
            torch.save([weights.grad for weights in net.parameters()], f"{folder}/{backend}")
    torch.distributed.barrier()
    os._exit(0)  # to take gloo apart may hang: its thread wants Python's lock, and who waits for that thread has it


@pytest.mark.slow
def test_two_processes_with_an_item_each_have_the_gradient_of_the_batch(tmp_path):
    commands = [[sys.executable, __file__, str(rank), str(tmp_path)] for rank in range(2)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    raw, labels = patches(2, 2)
    for backend in BACKENDS:
        net = network()
        loss_of(ConstrainedMalis(backend=backend), net(raw), labels).backward()
        for found, weights in zip(torch.load(tmp_path / backend), net.parameters(), strict=True):
            torch.testing.assert_close(found, weights.grad, rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    gradient_of_rank(int(sys.argv[1]), sys.argv[2])
