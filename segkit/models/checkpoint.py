"""Trained networks on disk: safetensors, which hold weights and text and can execute nothing."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

import segkit
from segkit import registry
from segkit.data.affinities import as_neighborhood
from segkit.errors import CheckpointMismatch, InvalidInput, MissingFile, SegkitError, StorageError, sentence
from segkit.io.atomic import check_folder, storage_errors
from segkit.io.lock import writing
from segkit.models.device import resolve_device
from segkit.models.size import check_size

KIND = "segkit-model"
FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network with its weights, and what is needed to use it."""

    module: nn.Module
    """In evaluation mode."""
    name: str
    """The name under which the registry knows its class."""
    parameters: Mapping[str, object]
    """The parameters of its constructor, without `channels`."""
    neighborhood: np.ndarray
    """Offset of each output channel, int64 (C, 3), z, y, x; see `auxiliary`."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Whatever else was saved with it."""
    file: Path | None = None
    """Where it was read from."""

    @property
    def auxiliary(self) -> int:
        """How many output channels the network has beyond the first C, which are the affinities."""
        return self.module.auxiliary


def save_model(
    path: str | os.PathLike,
    module: nn.Module,
    *,
    name: str,
    parameters: Mapping[str, object],
    neighborhood: ArrayLike,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Write the weights of `module`, and how to build it again, in one step: there is never half a file.

    For the parameters see :func:`model_bytes`. Raises InUse if another process writes the same file for too long,
    StorageError if it cannot be written, and what :func:`model_bytes` raises.
    """
    content = model_bytes(module, name=name, parameters=parameters, neighborhood=neighborhood, extra=extra)
    check_folder(Path(path))
    with storage_errors("written", Path(path)), writing(Path(path)) as temporary:
        temporary.write_bytes(content)


def model_bytes(
    module: nn.Module,
    *,
    name: str,
    parameters: Mapping[str, object],
    neighborhood: ArrayLike,
    extra: Mapping[str, object] | None = None,
) -> bytes:
    """Make the content of the file of a model: the weights of `module`, and how to build it again.

    `name` is that of a registered model whose class `module` has, `parameters` those that its constructor was given
    (`channels` follows from `neighborhood`, and from the attribute `auxiliary` of `module`, if it has one: channels
    beyond the affinities, which it learned beside them); `extra` is kept as it is. Both must be plain values (JSON).
    Raises InvalidInput or UnknownComponent if the file could not be loaded again.
    """
    offsets = as_neighborhood(neighborhood).tolist()
    _check_class(name, module)
    kept = {key: value for key, value in parameters.items() if key != "channels"}
    auxiliary = getattr(module, "auxiliary", 0)
    if parameters.get("channels", len(offsets) + auxiliary) != len(offsets) + auxiliary:
        beyond = f", and {auxiliary} beside them" if auxiliary else ""
        rule = f"must be the number of offsets in the neighborhood, {len(offsets)}{beyond}"
        raise InvalidInput(sentence("parameter 'channels'", rule, parameters["channels"]))
    header = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "segkit_version": segkit.__version__,
        "model": name,
        "parameters": kept,
        "neighborhood": offsets,
        "auxiliary": auxiliary,
        "extra": dict(extra or {}),
    }
    metadata = {key: _to_json(key, value) for key, value in header.items()}
    weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    return save(weights, metadata)


def load_model(path: str | os.PathLike, device: str | torch.device = "cpu") -> TrainedModel:
    """The network in the file at `path`, in evaluation mode, on `device`; nothing from the file is executed.

    Raises MissingFile, StorageError for a damaged file, UnknownComponent if the model comes from a distribution that
    is not installed, CheckpointMismatch if the file holds something else or weights of another network. The random
    state of torch is left alone.
    """
    device = resolve_device(device)
    header, weights = _read(Path(path))
    name, parameters, neighborhood = header["model"], header["parameters"], as_neighborhood(header["neighborhood"])
    auxiliary = header.get("auxiliary", 0)
    with torch.random.fork_rng(devices=[]):
        module = _build(path, name, {**parameters, "channels": len(neighborhood) + auxiliary})
    module.auxiliary = auxiliary
    _check_weights(path, name, module.state_dict(), weights)
    module.load_state_dict(weights)
    return TrainedModel(module.to(device).eval(), name, parameters, neighborhood, header["extra"], Path(path))


def _check_class(name: str, module: nn.Module) -> None:
    expected = registry.find("models", name).load()
    if type(module) is not expected:
        given = type(module).__name__
        next_step = "give the name under which this class is registered"
        raise InvalidInput(sentence("module", f"must be a {expected.__name__}, as {name!r} says", given, next_step))


def _to_json(key: str, value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        next_step = "give plain numbers, texts, lists and dictionaries"
        raise InvalidInput(
            sentence(f"{key!r}", f"must be expressible in JSON ({error})", next_step=next_step)
        ) from None


def _read(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise MissingFile(sentence(f"the checkpoint {path}", "must be a file that exists"))
    with storage_errors("read", path):
        try:
            with safe_open(path, "pt") as file:
                header = _header(path, file.metadata() or {})
                return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            next_step = "copy it again, or name the folder of a training run"
            rule = f"is damaged, cut short or no safetensors file ({error})"
            raise StorageError(sentence(f"the checkpoint {path}", rule, next_step=next_step)) from error


def _header(path: Path, metadata: Mapping[str, str]) -> dict:
    try:
        header = {key: json.loads(text) for key, text in metadata.items()}
        kind, version = header.get("kind"), header.get("format_version")
    except (ValueError, RecursionError):
        kind, version = None, None
    if kind != KIND:
        rule = f"must be a model that segkit saved (kind {KIND!r})"
        next_step = "name the folder of a training run, or its model.safetensors"
        raise CheckpointMismatch(sentence(f"the checkpoint {path}", rule, f"of kind {kind!r}", next_step))
    if version != FORMAT_VERSION:
        rule, next_step = f"must have format version {FORMAT_VERSION}", "upgrade segkit"
        raise CheckpointMismatch(sentence(f"the checkpoint {path}", rule, version, next_step))
    missing = sorted({"model", "parameters", "neighborhood", "extra"} - set(header))
    if missing:
        raise CheckpointMismatch(sentence(f"the checkpoint {path}", f"must say its {', '.join(missing)}"))
    return header


def _build(path: str | os.PathLike, name: str, parameters: Mapping[str, object]) -> nn.Module:
    component = registry.find("models", name)
    try:
        check_size(component, parameters)
        return component.create(**parameters)
    except SegkitError as error:
        rule = f"does not fit the installed {component.title} of {component.distribution} {component.version} ({error})"
        next_step = "install the version that it was made with"
        raise CheckpointMismatch(sentence(f"the checkpoint {path}", rule, next_step=next_step)) from error


def _check_weights(path: str | os.PathLike, name: str, expected: Mapping, found: Mapping) -> None:
    difference = _difference(expected, found)
    if difference:
        rule = f"must hold the weights of model {name!r} with its own parameters"
        raise CheckpointMismatch(sentence(f"the checkpoint {path}", rule, f"of another model ({difference})"))
    for key, tensor in found.items():
        if not tensor.isfinite().all():
            next_step = "take an earlier checkpoint, or train again"
            raise CheckpointMismatch(
                sentence(f"the checkpoint {path}", f"must hold finite weights; {key!r} has others", None, next_step)
            )


def _difference(expected: Mapping, found: Mapping) -> str | None:
    for problem, names in (("lacks", expected.keys() - found.keys()), ("has also", found.keys() - expected.keys())):
        if names:
            return f"it {problem} {min(names)!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    for key, tensor in expected.items():
        if tensor.shape != found[key].shape:
            return f"{key!r} has shape {tuple(found[key].shape)} where {tuple(tensor.shape)} is expected"
    return None
