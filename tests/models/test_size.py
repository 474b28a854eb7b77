"""Networks that no memory holds are refused before they are made."""

import sys

import pytest
import torch

from segkit.benchmark.process import in_fresh_process
from segkit.errors import CheckpointMismatch, InvalidInput
from segkit.models.checkpoint import load_model, save_model
from segkit.models.size import check_size
from segkit.registry import find, load

NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]


@pytest.mark.parametrize(
    ("features", "message"), [(10**5, "takes .* GB, and .* GB are free"), (10**9, "no memory holds")]
)
def test_absurd_parameters(features, message):
    with pytest.raises(InvalidInput, match=rf"model 'unet3d' .*{message}.*; choose smaller parameters"):
        check_size(find("models", "unet3d"), {"channels": 3, "features": features})


def test_random_numbers_are_not_used_up():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    check_size(find("models", "unet3d"), {"channels": 3, "features": 2}, copies=4)
    assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_made_is_let_be():
    check_size(find("models", "unet3d"), {"channels": 3, "holidays": 2})


def test_a_checkpoint_that_states_an_absurd_size(tmp_path, monkeypatch):
    from segkit.models import checkpoint

    module = load("models", "unet3d", channels=3, features=2, pooling=[[1, 2, 2]])
    parameters = {"channels": 3, "features": 2, "pooling": [[1, 2, 2]]}
    path = tmp_path / "model.safetensors"
    save_model(path, module, name="unet3d", parameters=parameters, neighborhood=NEAREST)
    header = checkpoint._header

    def absurd(path, metadata):
        found = header(path, metadata)
        return found | {"parameters": found["parameters"] | {"features": 10**5}}

    monkeypatch.setattr(checkpoint, "_header", absurd)
    with pytest.raises(CheckpointMismatch, match="GB are free"):
        load_model(path)


def test_a_network_without_values_is_made_without_the_compiler_of_torch():
    """It takes seconds to import, and inference asks for the size of each network that it loads."""
    assert in_fresh_process(f"{__name__}:made", {}) == {"compiler": False}


def made():
    """In a process of its own."""
    check_size(find("models", "unet3d"), {"features": 2})
    return {"compiler": "torch._dynamo" in sys.modules}
