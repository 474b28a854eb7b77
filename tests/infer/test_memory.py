"""The memory that tiles take: counted by hand, kept below the budget, and measured in a process of its own."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from segkit import Grid, Volume
from segkit.benchmark.process import Limits, in_fresh_process
from segkit.data.source import Held
from segkit.errors import InvalidInput, SegkitWarning
from segkit.infer import predict, predict_parts
from segkit.infer.memory import TileMemory, bytes_of_pass
from segkit.infer.plan import make_plan
from segkit.infer.settings import MEMORY, Settings
from segkit.memory import forget_peak, peak, resident
from segkit.models.fcn import FCN
from segkit.models.unet2d import UNet2D
from segkit.models.unet2d_padded import UNet2D3Sections
from segkit.models.unet3d import UNet3D

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
ISOTROPIC = ((2, 2, 2), (2, 2, 2))
NETWORKS = {
    "valid": lambda: UNet3D(features=8, growth=2, pooling=ISOTROPIC),
    "same": lambda: UNet3D(features=8, growth=2, pooling=ISOTROPIC, padding="same", normalisation="group"),
    "context": UNet3D,
    "2d": lambda: UNet2D(channels=3),
    "3 sections": lambda: UNet2D3Sections(channels=3),
    "fcn": lambda: FCN(channels=3),
}


def _on_meta(name):
    with torch.device("meta"):
        return NETWORKS[name]()


def _raw(*shape):
    return Volume(np.random.default_rng(5).integers(0, 256, shape, np.uint8), Grid())


def test_the_count_is_what_one_counts_by_hand():
    """Of 100 numbers a channel: 1 channel to 16 by a convolution, which copies both, the input in a block of 16."""
    network = nn.Sequential(nn.Conv2d(1, 16, 1), nn.ReLU(inplace=True), nn.Conv2d(16, 1, 1))
    most, result = bytes_of_pass(network, (1, 1, 10, 10))
    assert result == 4 * 100
    assert most == 4 * 100 * (1 + 16 + 16 + 1 + 16)  # in the last: raw data, its input, its output, and copies


def test_counting_leaves_the_network_as_it_was():
    network = UNet3D(features=2, growth=2, pooling=ISOTROPIC, normalisation="batch").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    bytes_of_pass(network, (1, 1, *network.input_shape((8, 8, 8))))
    assert network.training and all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_networks_that_go_by_values_are_judged_by_their_first_layer():
    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 6, 1)

        def forward(self, raw):
            return self.layer(raw) if raw.max().item() > 0 else self.layer(-raw)

    most, _ = bytes_of_pass(Asking(), (1, 1, 10, 10))
    assert most >= 4 * 100 * (1 + 6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("shape", "batch_size", "memory"), [((200, 600, 800), 1, MEMORY), ((64, 300, 400), 3, 1_500_000_000)]
)
def test_the_chosen_tile_is_within_the_budget(name, shape, batch_size, memory):
    module = _on_meta(name)
    use = Settings(batch_size=batch_size, memory=memory, augment="flips")
    neighborhood = np.array(NEAREST if module.ndim == 3 else [*NEAREST[1:], (0, -2, 0)])
    plan = make_plan(module, shape, Grid(), neighborhood, use)
    assert TileMemory(module, batch_size)(plan.tile) <= memory


@pytest.mark.parametrize("how", [{}, {"stride": 1}, {"padding": 1}, {"ceil_mode": True}])
@pytest.mark.parametrize("kind", [nn.MaxPool2d, nn.MaxPool3d])
def test_pooling_is_as_torch_does_it(kind, how):
    raw = torch.zeros(1, 2, *(9, 10, 11)[: 2 if kind is nn.MaxPool2d else 3])
    layer = kind(2, **how)
    assert bytes_of_pass(layer, raw.shape)[1] == 4 * layer(raw).numel()


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_are_as_large_as_torch_makes_them(transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    how = {"stride": (2, 3), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    layer = kind(4, 6, (3, 5), **how, **({"output_padding": (1, 0)} if transposed else {}))
    joined = nn.Sequential(layer, _Doubled())
    for size in (11, 20, 31):
        raw = torch.zeros(2, 4, size, size + 4)
        assert bytes_of_pass(joined, raw.shape)[1] == 4 * joined(raw).numel()


class _Doubled(nn.Module):
    def forward(self, raw):
        return torch.cat([raw, raw], -2)


def test_counting_does_not_import_the_compiler_of_torch():
    """It takes more than a second, which small volumes should not wait for."""
    found = in_fresh_process(f"{__name__}:imported", {})
    assert found == {"compiler": False, "sympy": False}


def imported():
    """In a process of its own."""
    for name in ("valid", "same", "2d"):
        module = NETWORKS[name]()
        TileMemory(module, 1)(module.output_shape(module.input_shape((20,) * module.ndim)))
    return {"compiler": "torch._dynamo" in sys.modules, "sympy": "sympy" in sys.modules}


def test_a_small_budget_gives_small_tiles_and_the_same_affinities():
    torch.manual_seed(0)
    network, raw = UNet3D(features=2, growth=2, pooling=((1, 2, 2),)), _raw(20, 40, 48)
    seen = []
    options = {"memory": 3_000_000, "progress": lambda done, total: seen.append(total)}
    found = predict(network, raw, NEAREST, **options).array
    assert seen[0] > 4
    np.testing.assert_allclose(found, predict(network, raw, NEAREST).array, atol=2e-6)


def test_a_tile_that_is_asked_for_is_taken_with_a_warning():
    network, raw = UNet3D(features=2, growth=2, pooling=((1, 2, 2),)), _raw(8, 12, 12)
    with pytest.warns(SegkitWarning, match=r"memory must be at least .* MB for tiles of \(8, 12, 12\) voxels, 2 at"):
        found = predict(network, raw, NEAREST, tile_shape=(8, 12, 12), memory=1000, batch_size=2)
    np.testing.assert_array_equal(found.array, predict(network, raw, NEAREST, tile_shape=(8, 12, 12)).array)


def test_what_is_not_free_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("segkit.infer.plan.available", lambda: 2_000_000)
    network, raw = UNet3D(features=2, growth=2, pooling=((1, 2, 2),)), _raw(8, 64, 64)
    source = Held(raw)
    source.read = lambda box: pytest.fail("it was read")
    with pytest.raises(InvalidInput, match=r"inference takes .* MB for tiles .* for affinities, and 2.0 MB are free"):
        predict_parts(network, source, NEAREST)
    monkeypatch.setattr("segkit.infer.plan.available", lambda: None)  # nobody knows
    predict_parts(network, source, NEAREST).close()


def test_no_memory_at_all_is_refused():
    with pytest.raises(InvalidInput, match="memory must be at least 1, not 0"):
        predict(UNet3D(features=2, growth=2, pooling=((1, 2, 2),)), _raw(8, 12, 12), NEAREST, memory=0)


def peak_of(size: int, memory: int, name: str) -> dict[str, int]:
    """In a process of its own: the memory that is taken beside what there was, slab by slab."""
    torch.manual_seed(0)
    network, raw = NETWORKS[name](), _raw(size, size, size)
    neighborhood = NEAREST[3 - network.ndim :] if network.ndim == 3 else [*NEAREST[1:], (0, -2, 0)]
    for _ in predict_parts(network, Held(_raw(40, 40, 40)), neighborhood):
        pass  # what is imported and kept from then on
    before, _ = resident(), forget_peak()
    for _ in predict_parts(network, Held(raw), neighborhood, memory=memory, thickness=16):
        pass
    return {"taken": peak() - before}


@pytest.mark.slow
@pytest.mark.skipif(resident() is None, reason="needs a system that says how much memory a process takes")
@pytest.mark.parametrize("name", ["valid", "same"])
def test_memory_is_bounded_in_fact(name):
    """With a tile that grows with the volume, the larger one would take more than 1 GB."""
    memory = 400_000_000
    asked = [{"size": size, "memory": memory, "name": name} for size in (96, 160)]
    found = [in_fresh_process(f"{__name__}:peak_of", each, Limits(threads=1)) for each in asked]
    assert all(each["taken"] < 1.25 * memory for each in found), found
