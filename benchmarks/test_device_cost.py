"""The count of launches, bytes and memory against sums by hand, and the limits that the loss keeps."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = spec_from_file_location("device_cost", Path(__file__).parent / "device_cost.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_costs_are_those_worked_out_by_hand(script):
    values = torch.empty(1000, device="meta")
    places = torch.empty(10, dtype=torch.int64, device="meta")
    with script.Cost() as cost:
        doubled = values * 2  # reads and writes 4000 bytes, allocates 4000
        first = doubled[:500]  # nothing
        first += 1  # reads and writes 2000
        del first, doubled
        values.index_select(0, places)  # 10 places, 10 sectors, 10 values; allocates 40
        values.int().cumsum(0)  # converts: 8000; again to int64: 4000 + 8000 and 2 x 8000; 4000 + 8000 + 8000 allocated
    assert cost.launches == 1 + 1 + 1 + 1 + 3
    assert cost.bytes == 8000 + 4000 + 10 * (8 + 32 + 4) + 8000 + 12_000 + 16_000
    assert cost.peak == 4000 + 8000 + 8000


@pytest.mark.parametrize(("constrained", "batch"), [(True, 1), (False, 1), (True, 4)])
def test_a_step_takes_under_200_bytes_a_voxel_and_launches_grow_slowly(script, constrained, batch):
    small, large = (script.counted(size, batch, constrained) for size in (42, 84))
    assert large.peak < 200 * batch * 84**3
    assert large.launches < 1.25 * small.launches < 1600
