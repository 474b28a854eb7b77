"""Files that are whole or not there."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.io.atomic import replacing, storage_errors
from segkit.models.checkpoint import save_model

if TYPE_CHECKING:
    import lightning as L

    from segkit.train.module import TrainingModule


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new file, then move it to `path`, so that no half file ever has that name."""
    with storage_errors("written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as half:
            write(half)


def save_checkpoint(path: Path, trainer: "L.Trainer") -> None:
    """Write what a resume needs. All processes take part, and the first one writes."""
    if trainer.is_global_zero:
        replace_whole(path, trainer.save_checkpoint)
    else:
        trainer.save_checkpoint(path)


def save_network(path: Path, module: "TrainingModule", steps: int, validation: Mapping | None = None) -> None:
    """Write the network, as it is after `steps` steps, in the form that inference reads: the average, if there is one.

    `validation` are its scores on the validation volumes and what they were segmented by.
    """
    config = module.config
    save_model(
        path,
        module.kept_network,
        name=config.model,
        parameters=config.model_parameters,
        neighborhood=module.neighborhood,
        extra={"steps": steps, "loss": config.loss, "patch": list(config.patch or ())}
        | module.voxels.to_infer(config)
        | ({"validation": dict(validation)} if validation else {}),
    )
