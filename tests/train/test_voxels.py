import json

import numpy as np
import pytest
import torch

from segkit import Grid, Labels, Volume
from segkit.errors import CheckpointMismatch, InvalidInput, InvalidShape
from segkit.infer import predict
from segkit.losses.descriptors import ShapeDescriptors
from segkit.models.checkpoint import load_model
from segkit.train import TrainConfig, TrainingVolume, train
from segkit.train.voxels import needs_voxel_size, resampled, voxels_of

TINY = {
    "model_parameters": {"features": 2, "growth": 1, "pooling": [[1, 2, 2]], "padding": "same"},
    "loss": "mse",
    "patch": [4, 8, 8],
    "steps": 2,
    "log_every": 1,
    "checkpoint_every": 2,
    "device": "cpu",
    "threads": 1,
    "health": {"every": 0},
}


def tubes(voxel_size=(40, 4, 4), position=(0, 0, 0)):
    """Bright tubes along z on a dark ground; labels that begin at `position`."""
    labels = np.zeros((10, 32, 32), int)
    labels[:, 1:15, 1:31], labels[:, 17:31, 1:31] = 1, 2
    raw = np.where(labels > 0, 200, 20).astype(np.uint8)
    grid = Grid(voxel_size)
    part = labels[tuple(slice(start, None) for start in position)]
    return TrainingVolume(Volume(raw, grid), Labels.convert(part, grid.crop(position)))


def log(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_volumes_are_resampled_onto_one_lattice():
    volume = tubes(position=(1, 3, 5))
    mask = np.ones(volume.labels.shape, bool)
    mask[0] = False
    volume = TrainingVolume(volume.raw, volume.labels, Volume(mask, volume.labels.grid))
    (found,) = resampled([volume], (16, 8, 8))
    assert found.raw.shape == (25, 16, 16) and found.position == (2, 1, 2)  # 40 / 16, 12 / 8, 20 / 8, centres inside
    assert found.raw.grid.voxel_size == found.labels.grid.voxel_size == (16, 8, 8)
    assert found.mask.shape == found.labels.shape and not found.mask.array[0].any() and found.mask.array[3:].all()
    window = tuple(slice(a, a + n) for a, n in zip(found.position, found.labels.shape, strict=True))
    raw, labels = found.raw.array[window], found.labels.array
    assert (raw[labels > 0] >= 110).all() and (raw[labels == 0] <= 110).all()  # the most frequent is at least half
    assert resampled([volume], None) == [volume]


def test_a_run_on_resampled_voxels_says_so(tmp_path):
    result = train(TrainConfig(**TINY, voxel_size=(20, 8, 8)), [tubes()], tmp_path / "run")
    extra = load_model(result.model).extra
    assert extra["voxel_size"] == [20, 8, 8] and extra["resampled"] is True
    plain = load_model(train(TrainConfig(**TINY), [tubes()], tmp_path / "plain").model).extra
    assert plain["voxel_size"] == [40, 4, 4] and plain["resampled"] is False
    with pytest.raises(CheckpointMismatch, match="voxel_size"):
        train(TrainConfig(**{**TINY, "steps": 4}), [tubes()], tmp_path / "run", resume=True)


def test_the_volumes_tell_the_network_their_voxel_size(tmp_path):
    parameters = {"features": 2, "growth": 1, "pooling": "auto", "levels": 3, "padding": "same"}
    config = TrainConfig(**{**TINY, "model_parameters": parameters})
    model = load_model(train(config, [tubes()], tmp_path / "run").model)
    assert model.parameters["voxel_size"] == [40, 4, 4] and model.module.stride == (1, 4, 4)
    config = TrainConfig(**{**TINY, "model_parameters": parameters, "voxel_size": (8, 8, 8)})
    model = load_model(train(config, [tubes()], tmp_path / "cubes").model)
    assert model.parameters["voxel_size"] == [8, 8, 8] and model.module.stride == (4, 4, 4)
    mixed = [tubes(), tubes((10, 10, 10))]
    with pytest.raises(InvalidInput, match="one voxel size for automatic parameters of model 'unet3d'"):
        train(TrainConfig(**{**TINY, "model_parameters": parameters}), mixed, tmp_path / "mixed")


def test_a_resume_with_automatic_pooling_goes_on(tmp_path):
    parameters = {"features": 2, "growth": 1, "pooling": "auto", "levels": 2, "padding": "same"}
    config = {**TINY, "model_parameters": parameters}
    train(TrainConfig(**config), [tubes()], tmp_path / "run")
    assert train(TrainConfig(**{**config, "steps": 4}), [tubes()], tmp_path / "run", resume=True).steps == 4


@pytest.mark.parametrize("loss", ["mse", "constrained-malis+0.1*bce"])
def test_long_range_neighborhoods_train_and_predict(tmp_path, loss):
    config = {**TINY, "neighborhood": "long-range", "loss": loss, "health": {"every": 2}}
    with pytest.raises(InvalidShape, match=r"patch must be longer than every edge of the neighborhood, \[0, -9, 0\]"):
        train(TrainConfig(**config), [tubes()], tmp_path / "small")
    config = TrainConfig(**{**config, "patch": [6, 28, 28]})
    model = load_model(train(config, [tubes()], tmp_path / "run", validation=[tubes()]).model)
    assert model.neighborhood[:, 0].min() == -4 and model.neighborhood[:, 2].min() == -27
    affinities = predict(model.module, tubes().raw, model.neighborhood)
    affinities.check()
    figures = next(line for line in log(tmp_path / "run") if any(name.startswith("health/") for name in line))
    assert len(affinities.array) == 12 and len([name for name in figures if name.endswith("/variance")]) == 12


@pytest.mark.parametrize(("model", "channels"), [("unet3d", 10), ("fcn", 6)])
def test_descriptors_are_learned_beside_affinities(tmp_path, model, channels):
    flat = {"model": "fcn", "model_parameters": {}, "patch": [8, 8]} if model == "fcn" else {}
    config = TrainConfig(**{**TINY, **flat, "descriptors": {"sigma": 16.0, "weight": 0.5}, "health": {"every": 1}})
    result = train(config, [tubes()], tmp_path / "run", validation=[tubes()])
    first = log(tmp_path / "run")
    values = next(line for line in first if "descriptors" in line)
    assert 0 < values["descriptors"] < 1 and values["loss"] > 0.5 * values["descriptors"]
    trained = load_model(result.model)
    assert trained.auxiliary == channels and len(trained.neighborhood) == (3 if model == "unet3d" else 2)
    predict(trained.module, tubes().raw, trained.neighborhood).check()
    raw = torch.from_numpy(tubes().raw.array.astype(np.float32) * 2 / 255 - 1)
    whole = raw[None, None] if model == "unet3d" else raw[:, None]
    with torch.no_grad():
        logits = trained.module(whole)
    assert logits.shape[1] == len(trained.neighborhood) + channels


def test_the_loss_is_that_of_the_affinities_and_of_the_descriptors(tmp_path):
    """By hand, from the network's own output for the patches of the run."""
    from segkit.train.step import Objective, Trainable
    from segkit.train.voxels import Voxels

    class Constant(torch.nn.Module):
        ndim, sections, stride, context, auxiliary = 3, 1, (1, 1, 1), (0, 0, 0), 10

        def forward(self, raw):
            return torch.zeros(len(raw), 13, *raw.shape[2:]) + 0 * raw.sum()

    labels = torch.from_numpy(tubes().labels.array.astype(np.int64))[None, :4, :8, :8]
    target = torch.rand(1, 3, 4, 8, 8)
    batch = {"raw": torch.zeros(1, 1, 4, 8, 8), "labels": labels, "mask": labels >= 0, "target": target}
    batch["edges"] = torch.ones(1, 3, 4, 8, 8, dtype=torch.bool)
    config = TrainConfig(loss="mse", descriptors={"sigma": 16.0, "weight": 0.25})
    from segkit.losses.combined import parse_loss

    loss, network = parse_loss("mse"), Constant()
    offsets = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    objective = Objective(Trainable(network, loss, config), loss, offsets, config, Voxels((40, 4, 4)))
    wanted = ShapeDescriptors(sigma=16.0, voxel_size=(40, 4, 4))(labels)
    inside = (labels > 0)[:, None].expand_as(wanted)
    error = (wanted[inside] - 0.5).square().mean()
    loss, parts = objective.evaluate(batch, network, 1)
    assert parts["descriptors"].item() == pytest.approx(error.item())
    assert loss.item() == pytest.approx((target - 0.5).square().mean().item() + 0.25 * error.item())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, None),
        ({"voxel_size": (8, 8, 8)}, "resampling"),
        ({"neighborhood": "long-range"}, "long-range"),
        ({"descriptors": {}}, "descriptors"),
        ({"model_parameters": {"pooling": "auto"}}, "automatic"),
        ({"model_parameters": {"pooling": "auto", "voxel_size": [8, 8, 8]}}, None),
    ],
)
def test_what_needs_a_voxel_size(settings, why):
    found = needs_voxel_size(TrainConfig(**settings))
    assert found is None if why is None else why in found


def test_voxels_that_disagree_are_unknown():
    assert voxels_of([tubes(), tubes((10, 10, 10))]).size is None
    with pytest.raises(InvalidInput, match="long-range"):
        TrainConfig(neighborhood="long-range").offsets(3, None)
