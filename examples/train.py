"""Train a small network on a synthetic volume, predict another one, segment it and score it: all from Python."""

from pathlib import Path
from tempfile import TemporaryDirectory

from segkit import load
from segkit.evaluate import sweep
from segkit.infer import predict
from segkit.models import load_model
from segkit.testing import neurites
from segkit.train import TrainConfig, TrainingVolume, train

run = TemporaryDirectory()  # of the run; give a path of your own, new or empty, to keep it

known, unseen = (neurites((32, 64, 64), count=10, seed=seed) for seed in (1, 2))

# Settings are those of `segkit train --set NAME=VALUE`; an unknown name is refused.
config = TrainConfig(
    model="unet3d",
    model_parameters={"features": 6, "pooling": [[2, 2, 2]], "padding": "same", "normalisation": "instance"},
    loss="bce",  # learns something within seconds; a run of hours would take constrained-malis+0.1*mse
    patch=[16, 16, 16],
    learning_rate=1e-2,
    steps=60,
    threads=1,  # for so small a network, more would wait for each other
    health={"every": 0},  # so short a run need not be watched
)
result = train(config, [TrainingVolume(known.raw, known.truth)], Path(run.name))
print(f"loss {result.first_loss:.2f} -> {result.last_loss:.2f} in {result.steps} steps")

# A file holds all that is needed to build the network again, with the neighborhood that it was trained for.
trained = load_model(result.model)
affinities = predict(trained.module, unseen.raw, trained.neighborhood)
print(f"affinities {affinities.array.shape}, channels {affinities.neighborhood.tolist()}")

fragments = load("fragmenters", "watershed", seed_distance=5).fragment(affinities)
tree = load("agglomerators", "python", score="mean").agglomerate(affinities, fragments)
best = sweep(tree, fragments, unseen.truth).best("cremi_score")
print(f"{len(fragments.ids())} fragments; CREMI score {best['cremi_score']:.3f} at threshold {best['threshold']:g}")
