import pytest
import torch
from torch import nn

from segkit.errors import InvalidInput
from segkit.models import resolve_device
from segkit.models.device import put_channels_last


def test_cpu_is_always_there():
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(("cuda", "mps", "best"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_the_best(monkeypatch, cuda, mps, best):
    _pretend(monkeypatch, cuda, mps)
    assert resolve_device("auto").type == best


def test_present_accelerators_are_accepted_by_index(monkeypatch):
    _pretend(monkeypatch, cuda=True)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InvalidInput, match="cuda:0, cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_ones_are_refused(monkeypatch, name):
    _pretend(monkeypatch)
    with pytest.raises(InvalidInput, match="present"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:x"])
def test_unknown_names_are_refused(name):
    with pytest.raises(InvalidInput, match="must be auto"):
        resolve_device(name)


def test_channels_are_last_in_layers_of_any_kind():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(3, 4))
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    put_channels_last(network)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(weights, before[name]) for name, weights in network.state_dict().items())


def _pretend(monkeypatch, cuda=False, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if cuda else 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
