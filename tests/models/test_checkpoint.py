import json
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import segkit
from segkit.errors import CheckpointMismatch, InUse, InvalidInput, MissingFile, StorageError, UnknownComponent
from segkit.io import lock
from segkit.models import load_model, save_model

NEIGHBORHOOD = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
PARAMETERS = {"features": 2, "growth": 2, "pooling": [[1, 2, 2]], "normalisation": "batch"}


def _model(**changes):
    torch.manual_seed(3)
    return segkit.load("models", "unet3d", **{"channels": 3, **PARAMETERS, **changes})


def _saved(path, **changes):
    model = _model(**changes)
    save_model(path, model, name="unet3d", parameters={**PARAMETERS, **changes}, neighborhood=NEIGHBORHOOD)
    return model


def test_round_trip(tmp_path):
    model = _model()
    model(torch.randn(2, 1, 13, 20, 20))  # moves the running statistics
    path = tmp_path / "model.safetensors"
    extra = {"voxel_size": [10, 10, 10], "step": 7}
    save_model(path, model, name="unet3d", parameters=PARAMETERS, neighborhood=NEIGHBORHOOD, extra=extra)
    state = torch.get_rng_state()
    trained = load_model(path)
    assert torch.equal(state, torch.get_rng_state())
    assert (trained.name, trained.extra) == ("unet3d", extra)
    assert trained.parameters["pooling"] == [[1, 2, 2]] and "channels" not in trained.parameters
    np.testing.assert_array_equal(trained.neighborhood, NEIGHBORHOOD)
    assert not trained.module.training and model.training
    raw = torch.randn(1, 1, 13, 20, 20)
    assert torch.equal(trained.module(raw), model.eval()(raw))
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_can_be_read_by_anyone(tmp_path):
    from safetensors import safe_open

    _saved(tmp_path / "m")
    with safe_open(tmp_path / "m", "np") as file:
        metadata = {key: json.loads(text) for key, text in file.metadata().items()}
    assert metadata["kind"] == "segkit-model" and metadata["format_version"] == 1
    assert metadata["model"] == "unet3d" and metadata["neighborhood"] == [list(o) for o in NEIGHBORHOOD]


def test_missing(tmp_path):
    with pytest.raises(MissingFile, match="nowhere"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("keep", [0, 5, 100, -4])
def test_truncated(tmp_path, keep):
    _saved(tmp_path / "m")
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:keep])
    with pytest.raises(StorageError, match="damaged"):
        load_model(tmp_path / "m")


def test_a_pickle_is_refused(tmp_path):
    torch.save(_model(), tmp_path / "m")
    with pytest.raises(StorageError, match="no safetensors"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": '"cake"'}, "segkit saved"),
        ({"kind": "cake"}, "segkit saved"),
        ({"format_version": "99"}, "upgrade"),
        ({"model": '"unet2d"'}, "'pooling'"),
        ({"parameters": '{"features": 3, "growth": 2, "pooling": [[1, 2, 2]], "normalisation": "batch"}'}, "shape"),
        ({"parameters": '{"features": 2, "growth": 2, "pooling": [[1, 2, 2]]}'}, "it lacks .* and 5 more"),
        ({"parameters": '{"features": 2, "growth": 2, "pooling": []}'}, "another model"),
        ({"neighborhood": "[[-1, 0, 0]]"}, "'output.* has shape"),
        ({"neighborhood": None}, "say its neighborhood"),
    ],
)
def test_another_model(tmp_path, changes, message):
    _saved(tmp_path / "m")
    _rewrite(tmp_path / "m", changes)
    with pytest.raises(CheckpointMismatch, match=message):
        load_model(tmp_path / "m")


def test_missing_and_superfluous_weights_are_named(tmp_path):
    _saved(tmp_path / "m")
    _rewrite(tmp_path / "m", {}, rename=("output.bias", None))
    with pytest.raises(CheckpointMismatch, match=r"lacks 'output\.bias'"):
        load_model(tmp_path / "m")
    _saved(tmp_path / "m")
    _rewrite(tmp_path / "m", {}, rename=(None, "surplus"))
    with pytest.raises(CheckpointMismatch, match="has also 'surplus'"):
        load_model(tmp_path / "m")


def test_model_of_an_absent_distribution(tmp_path):
    _saved(tmp_path / "m")
    _rewrite(tmp_path / "m", {"model": '"unet4d"'})
    with pytest.raises(UnknownComponent, match="unet3d"):
        load_model(tmp_path / "m")


def test_only_what_can_be_loaded_is_saved(tmp_path):
    model, options = _model(), {"parameters": PARAMETERS, "neighborhood": NEIGHBORHOOD}
    with pytest.raises(UnknownComponent):
        save_model(tmp_path / "m", model, name="mine", **options)
    with pytest.raises(InvalidInput, match="UNet2D"):
        save_model(tmp_path / "m", model, name="unet2d", **options)
    with pytest.raises(InvalidInput, match="channels"):
        save_model(tmp_path / "m", model, name="unet3d", parameters={"channels": 2}, neighborhood=NEIGHBORHOOD)
    with pytest.raises(InvalidInput, match="JSON"):
        save_model(tmp_path / "m", model, name="unet3d", extra={"a": {1, 2}}, **options)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    _saved(tmp_path / "m")
    before = (tmp_path / "m").read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        _saved(tmp_path / "m", features=3)
    assert (tmp_path / "m").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_absent_folder(tmp_path):
    with pytest.raises(MissingFile, match="folder"):
        _saved(tmp_path / "no" / "m")


def _rewrite(path, changes, rename=(None, None)):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **changes}
    dropped, added = rename
    weights = {key: value for key, value in load_file(path).items() if key != dropped}
    if added:
        weights[added] = torch.zeros(1)
    save_file(weights, path, {key: value for key, value in metadata.items() if value is not None})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    model = _model()
    next(model.parameters()).data.flatten()[0] = value
    save_model(tmp_path / "m.safetensors", model, name="unet3d", parameters=PARAMETERS, neighborhood=NEIGHBORHOOD)
    with pytest.raises(CheckpointMismatch, match="must hold finite weights"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("size", [[0, 1, 1], [1, -1, 1], [float("nan")] * 3, [1, 1, float("inf")]])
def test_a_voxel_size_is_above_0_and_finite(size):
    with pytest.raises(InvalidInput, match="must be three positive lengths"):
        segkit.load("models", "unet3d", pooling="auto", voxel_size=size)


def test_one_process_at_a_time_writes_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    path = tmp_path / "m.safetensors"
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock.locked(lock.lock_of(path), str(path)):
            held.set()
            done.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(60)
    try:
        with pytest.raises(InUse, match=r"m\.safetensors is in use by process"):
            _saved(path)
    finally:
        done.set()
        other.join()
    _saved(path)
    assert [item.name for item in tmp_path.iterdir()] == ["m.safetensors"]
