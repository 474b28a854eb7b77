"""patch=auto: the largest patch that network, data and memory allow."""

import json

import numpy as np
import pytest
import torch

from segkit import Grid, Labels, Volume
from segkit.errors import InvalidParameter, InvalidShape
from segkit.registry import find
from segkit.train import TrainConfig, TrainingVolume, train
from segkit.train.patch import Patch, _hollow, choose_patch, fit_patch, resolve_patch, step_bytes
from tests.train.training_helpers import TINY, tubes

UNET = {"features": 3, "growth": 2, "pooling": [[1, 2, 2]], "normalisation": "none"}


def network(name="unet3d", channels=3, **parameters):
    return find("models", name).create(channels=channels, **parameters)


def volume(*shape):
    return TrainingVolume(Volume(np.zeros(shape, np.uint8), Grid()), Labels.convert(np.ones(shape, int), Grid()))


def chosen(model, *volumes, **settings):
    return choose_patch(TrainConfig(patch="auto", device="cpu", **settings), model, volumes)


def test_the_data_bound_it():
    """Every larger valid patch along y and x, or along z, must exceed the volume; found by trying all of them."""
    model, room = network(**UNET), volume(18, 36, 40)
    patch = chosen(model, room)
    valid = [n for n in range(1, 60) if model.output_shape(model.input_shape((1, n, n)))[1] == n]
    largest = max(n for n in valid if model.input_shape((1, n, n))[1] <= 36)
    deepest = max(n for n in range(1, 19) if model.input_shape((n, 1, 1))[0] <= 18)
    assert patch == fit_patch(model, [deepest, largest, largest])


def test_the_smallest_volume_counts():
    model = network(**UNET)
    assert chosen(model, volume(64, 96, 96), volume(18, 36, 40)) == chosen(model, volume(18, 36, 40))


def test_a_2d_network():
    model = network("unet2d-padded", channels=2)
    patch = chosen(model, volume(3, 70, 90))
    assert patch.output[0] == 1 and patch.output[1] == patch.output[2] <= 70
    assert patch.output[1] + model.stride[0] > 70


def test_a_cpu_takes_the_default_where_it_fits():
    model = network("unet3d", padding="same", features=2, growth=1, pooling=[[2, 2, 2]])
    assert chosen(model, volume(70, 70, 70)) == fit_patch(model, None)


def test_memory_bounds_it(monkeypatch):
    model, room = network("unet3d", **UNET), volume(60, 90, 90)
    hollow = _hollow(model)
    free = chosen(model, room)
    monkeypatch.setattr("segkit.train.patch.available", lambda: step_bytes(hollow, free))  # twice what may be used
    bound = chosen(model, room)
    assert step_bytes(hollow, bound) <= step_bytes(hollow, free) / 2
    bigger = fit_patch(model, [bound.output[0] + 1, bound.output[1], bound.output[2]])
    assert bound.output[0] == free.output[0] or step_bytes(hollow, bigger) > step_bytes(hollow, bound)
    two = chosen(model, room, batch_size=2)
    assert np.prod(two.output) < np.prod(bound.output)
    monkeypatch.setattr("segkit.train.patch.available", lambda: 0)
    assert chosen(model, room) == fit_patch(model, [1, 2, 2])  # the smallest there is


def test_the_estimate_counts_what_autograd_keeps():
    """A convolution keeps its input, ReLU its output, the last convolution that again: counted by hand."""
    model = torch.nn.Sequential(torch.nn.Conv3d(1, 5, 1), torch.nn.ReLU(), torch.nn.Conv3d(5, 3, 1))
    voxels, weights = 4 * 6 * 8, 5 + 5 + 15 + 3
    expected = 16 * weights + 1.5 * 4 * voxels * (1 + 5 + 3) + 128 * 3 * voxels + 32 * voxels
    assert step_bytes(model.to("meta"), Patch((4, 6, 8), (4, 6, 8), 3)) == expected


def test_a_network_that_needs_values_is_named():
    class Peeking(torch.nn.Module):
        def forward(self, raw):
            return raw * raw.max().item()

    with pytest.raises(InvalidParameter, match=r"Peeking.*give its sizes, such as patch="):
        step_bytes(Peeking().to("meta"), Patch((4, 4, 4), (4, 4, 4), 3))


def test_a_volume_that_holds_no_patch_is_named():
    with pytest.raises(InvalidShape, match=r"volume 1 must hold .* smallest patch"):
        chosen(network(**UNET), volume(18, 36, 36), volume(3, 36, 36))


def test_auto_is_what_happens_where_the_default_exceeds_the_data():
    model, small = network(**UNET), [volume(18, 36, 36)]
    auto = resolve_patch(TrainConfig(patch="auto", device="cpu"), model, small)
    assert resolve_patch(TrainConfig(device="cpu"), model, small).patch == auto.patch != "auto"
    large = TrainConfig(device="cpu")
    assert resolve_patch(large, model, [volume(80, 120, 120)]) is large
    given = TrainConfig(device="cpu", patch=[99, 99, 99])
    assert resolve_patch(given, model, small) is given


def test_the_run_holds_the_sizes_and_a_resume_keeps_them(tmp_path, monkeypatch):
    run = tmp_path / "run"
    settings = {**TINY, "patch": "auto"}
    train(TrainConfig(**settings), [tubes()], run)
    patch = json.loads((run / "config.json").read_text())["patch"]
    assert len(patch) == 3 and all(isinstance(size, int) for size in patch)
    monkeypatch.setattr("segkit.train.patch.choose_patch", lambda *_: pytest.fail("chosen anew"))
    again = {**json.loads((run / "config.json").read_text()), "steps": 8}
    assert train(TrainConfig(**again), [tubes()], run, resume=True).steps == 8
    assert json.loads((run / "config.json").read_text())["patch"] == patch
