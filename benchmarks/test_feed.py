"""What surrounds the network, beside the bare network: pytest benchmarks/test_feed.py --benchmark-enable.

Steps of training with more and more parts, and inference from the bare forward to files, of the network of the recipe
`fib25-small`; and patches of sparse labels beside those of dense ones. Without --benchmark-enable a tiny one runs once,
as a test. `segkit benchmark train` and `infer` measure the same of any network and data.
"""

from contextlib import closing

import numpy as np
import pytest

from segkit import Grid, Labels, Volume, io
from segkit.run.recipe import load_recipe

torch = pytest.importorskip("torch")

from segkit.benchmark.infer import BareNetwork  # noqa: E402
from segkit.benchmark.train_step import Parts  # noqa: E402
from segkit.data.source import Held  # noqa: E402
from segkit.infer import predict, predict_parts  # noqa: E402
from segkit.infer.settings import Settings  # noqa: E402
from segkit.models.device import resolve_precision  # noqa: E402
from segkit.models.unet3d import UNet3D  # noqa: E402
from segkit.train import TrainConfig, TrainingVolume  # noqa: E402
from segkit.train.data import PatchDataset  # noqa: E402
from segkit.train.patch import Patch  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NEAREST = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
PARTS = ("network", "optimiser", "loss", "reading", "augmentation")
WAYS = ("network", "memory", "hdf5", "zarr")


@pytest.fixture
def settings(benchmark, tmp_path):
    """Settings of training: the recipe's, or of a tiny network."""
    changes = {"data": {"file": "none"}}
    (stage,) = (s for s in load_recipe("fib25-small", tmp_path, changes).stages if s.verb == "train")
    given = dict(stage.options["set"])
    named = {f"{name}_parameters": given.pop(name) for name in ("model", "loss") if name in given}
    given |= {"model": stage.options["model"], "loss": stage.options["loss"], "device": DEVICE, **named}
    if not benchmark.enabled:
        given |= {"patch": [8, 8, 8], "model_parameters": {"features": 2, "growth": 2, "pooling": [[2, 2, 2]]}}
    return TrainConfig(**given)


@pytest.fixture
def raw(volume, benchmark):
    """Raw data, and the truth of them."""
    truth, affinities, _ = volume(128 if benchmark.enabled else 32)
    return Volume((255 * affinities.array.mean(axis=0)).astype("uint8"), truth.grid), truth


@pytest.mark.parametrize("part", PARTS)
def test_a_step_of_training(benchmark, settings, raw, part):
    benchmark.group = "a step of training, each part with those before it"
    parts = Parts(settings, [TrainingVolume(*raw)], torch.device(DEVICE))

    def step() -> None:
        parts.steps[part]()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    before = [weights.clone() for weights in parts.module.network.parameters()]
    benchmark.pedantic(step, rounds=10 if benchmark.enabled else 1, warmup_rounds=2)
    after = parts.module.network.parameters()
    same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert same == (part == "network")


@pytest.mark.parametrize("labelled", ["everywhere", "in a cube"])
def test_patches_of_sparse_labels(benchmark, labelled):
    benchmark.group = "ten patches of 16 voxels an axis, of a volume of 128"
    labels, edge = np.zeros((128, 128, 128), np.uint64), 16 if labelled == "in a cube" else 128
    labels[:edge, :edge, :edge] = 1
    volume = TrainingVolume(Volume(np.zeros(labels.shape, np.uint8), Grid()), Labels(labels, Grid()))
    config = TrainConfig(min_labelled=0.5)
    patches = PatchDataset(config, [volume], Patch((16, 16, 16), (16, 16, 16), 3), np.array(NEAREST))
    numbers = iter(range(10**9))
    benchmark(lambda: patches.batch([next(numbers) for _ in range(10)]))


@pytest.mark.parametrize("way", WAYS)
def test_inference(benchmark, settings, raw, way, tmp_path):
    benchmark.group = "inference"
    torch.manual_seed(0)
    module = UNet3D(**settings.model_parameters).eval()
    precision = resolve_precision(settings.precision, torch.device(DEVICE))
    options = {"device": DEVICE, "precision": precision}
    io.write(tmp_path / "raw.h5", raw[0])

    def from_file_to_file(out) -> None:
        with (
            io.open_volume(tmp_path / "raw.h5") as source,
            closing(predict_parts(module, source, NEAREST, **options)) as parts,
        ):
            io.write_affinities(out, parts, source.shape, NEAREST, source.grid)

    calls = {
        "network": BareNetwork(module, Held(raw[0]), NEAREST, Settings(**options)),
        "memory": lambda: predict(module, raw[0], NEAREST, **options),
        "hdf5": lambda: from_file_to_file(tmp_path / "a.h5"),
        "zarr": lambda: from_file_to_file(tmp_path / "a.zarr"),
    }
    benchmark.pedantic(calls[way], rounds=5 if benchmark.enabled else 1, warmup_rounds=1)
    for found in tmp_path.glob("a.*"):
        assert io.read_affinities(found).shape == raw[0].shape
