import pytest
import torch

from segkit.errors import InvalidInput
from segkit.models import resolve_device


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


def _pretend(monkeypatch, cuda=False, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if cuda else 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
