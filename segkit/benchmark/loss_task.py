"""What is timed of a loss, and what it leaves for the comparison. Runs in the worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segkit import io
from segkit.benchmark.job import Job
from segkit.errors import BrokenComponent, sentence
from segkit.registry import find


def loss_calls(job: Job) -> tuple[Callable[[], object], Callable[[Any, Path], dict]]:
    """Forward and backward, to be timed, and what writes its result for :func:`segkit.benchmark.loss.compare`.

    `job.options` holds `batch`, `device` and `trace`, the file for a profiler trace or None.
    """
    from segkit.losses.trial import Trial
    from segkit.models.device import resolve_device

    loss = find("losses", job.contender.component).create(**job.contender.parameters)
    affinities = io.read_affinities(job.inputs["affinities"], neighborhood=job.neighborhood)
    truth, device = io.read_labels(job.inputs["truth"], role="truth"), resolve_device(job.options["device"])
    trial = Trial.of(loss, affinities, truth, batch=job.options["batch"], device=device)

    def finish(result: tuple, folder: Path) -> dict:
        value, gradient = (tensor.float().cpu().numpy() for tensor in result)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            rule = "must be finite, with a finite gradient"
            raise BrokenComponent(sentence(f"what {job.contender.component!r} returns", rule, f"a loss of {value}"))
        columns = {"device": trial.device_name, "loss_value": float(value), "device_peak_bytes": trial.device_peak()}
        if job.options["trace"]:
            columns["bytes_to_host"] = trial.trace(Path(job.options["trace"]))
        counts = trial.pair_counts()
        named: dict[str, Any] = {} if counts is None else {"positive": counts[0], "negative": counts[1]}
        np.savez(folder / "result.npz", loss=value, gradient=gradient, **named)
        return columns

    return trial.step, finish
