"""Report what a step of training costs, part by part: whether the feed of patches keeps up with the network."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from segkit.benchmark.measure import machine

if TYPE_CHECKING:
    from segkit.train import TrainConfig, TrainingVolume

TITLES = {
    "network": "network, forward and backward",
    "optimiser": "+ optimiser",
    "loss": "+ loss",
    "reading": "+ reading patches",
    "augmentation": "+ augmentation",
    "loop": "the loop, with its log",
}


def benchmark_training(
    config: "TrainConfig", volumes: "Sequence[TrainingVolume]", *, repeat: int = 10, progress: Callable[..., None]
) -> dict[str, object]:
    """Measure training by :func:`segkit.benchmark.train_step.measure_training`, and make a report of it.

    Each row is the step with one part more than in the row before it: `seconds` and `cpu_seconds` (of this process, not
    of workers) of the step in the middle of `repeat`, and `over_network`, the ratio of its seconds to the first row.
    `feed` is what all but network and optimiser add, as a share of the first row, with checks of health and checkpoints
    shared out over the steps between them; `steps_per_second` and `megavoxels_per_second` (of the output) are those of
    the whole. `waiting` are the seconds in which a step of the loop waits for its patches, on the average, and
    `waiting_share` is their part of the step.
    """
    from segkit.benchmark.train_step import measure_training

    costs = measure_training(config, volumes, repeat=repeat, report=progress)
    bare = costs.seconds("network")
    rows: list[dict[str, Any]] = [
        {"part": name, "title": title, "seconds": costs.seconds(name), "cpu_seconds": costs.cpu_seconds(name)}
        for name, title in TITLES.items()
    ]
    title = f"+ checks and checkpoints, every {costs.check_every} steps"
    rows.append({"part": "whole", "title": title, "seconds": costs.whole, "cpu_seconds": costs.whole_cpu})
    rows = [row | {"over_network": row["seconds"] / bare} for row in rows]
    report = {"verb": "train", "repeat": repeat, "device": costs.device, "precision": config.precision}
    report |= {"model": config.model, "loss": config.loss, "batch_size": config.batch_size, "voxels": costs.voxels}
    report |= {"workers": config.workers, "threads": config.threads, "rows": rows, "feed": costs.feed}
    report |= {"waiting": costs.waiting, "waiting_share": costs.waiting / costs.seconds("loop")}
    report |= {"steps_per_second": 1 / costs.whole, "megavoxels_per_second": costs.voxels / 1e6 / costs.whole}
    return report | {"check_seconds": costs.check, "utilisation": costs.utilisation, "machine": machine()}
