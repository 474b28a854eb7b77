"""Search a space that is too large to try all of it: Optuna proposes combinations, and learns from those before."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from segkit.errors import BrokenComponent, sentence
from segkit.tune.choose import Goal, overall, plateaus
from segkit.tune.space import Choices, Combination, Space

BATCH = 8
"""Combinations that are proposed before the scores of the first are known, whatever the number of threads."""
BAD = 1e9
"""What Optuna is told of a combination that failed."""
Records = list[dict[str, Any]]


def check_optuna() -> None:
    """Raise BrokenComponent where Optuna is not installed."""
    _optuna()


def search_some(
    space: Space, number: int, goal: Goal, seed: int, score: Callable[[Sequence[Combination]], Records]
) -> Records:
    """Score at most `number` combinations of a space, proposed by the tree-structured Parzen estimator.

    J. Bergstra et al. 2011, https://proceedings.neurips.cc/paper/2011/hash/86e8f7ab32cfd12577bc2619bc635690-Abstract.html.
    Each is proposed from the scores of all batches before its own, so that equal seeds give equal proposals, whatever
    was scored before. `score` gives the records of combinations, those of one fragmentation one after the other.
    Returns a record for each combination of the space, an empty one for those that were not tried.
    """
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(number // 4, 2))
    study = optuna.create_study(direction="minimize", sampler=sampler)
    numbers = {each.position: k for k, each in enumerate(space.combinations)}
    records: Records = [{} for _ in numbers]
    for start in range(0, number, BATCH):
        trials = [study.ask() for _ in range(min(BATCH, number - start))]
        proposed = [numbers[_proposed(space, trial)] for trial in trials]
        new = sorted({k for k in proposed if not records[k]})
        for k, record in zip(new, score([space.combinations[k] for k in new]) if new else [], strict=True):
            records[k] = record
        for trial, k in zip(trials, proposed, strict=True):
            study.tell(trial, _cost(records[k], goal))
    return records


def _cost(record: Mapping[str, Any], goal: Goal) -> float:
    if "volumes" not in record:
        return BAD
    return float(plateaus(overall(np.array([goal.costs(each["curves"]) for each in record["volumes"]]))).min())


def _proposed(space: Space, trial: Any) -> tuple[int, tuple[int, ...], int, tuple[int, ...]]:
    """The position of the combination that a trial is about."""
    a, at = _chosen(trial, "fragmenter", space.fragmenters)
    b, place = _chosen(trial, "agglomerator", space.agglomerators)
    return a, at, b, place


def _chosen(trial: Any, what: str, choices: Sequence[Choices]) -> tuple[int, tuple[int, ...]]:
    number = trial.suggest_categorical(what, range(len(choices)))
    axes = choices[number].values.items()
    return number, tuple(trial.suggest_int(f"{what} {number} {name}", 0, len(tried) - 1) for name, tried in axes)


def _optuna() -> Any:
    try:
        return import_module("optuna")
    except ImportError as error:
        next_step = "pip install 'segkit-em[tune]', or try all combinations"
        raise BrokenComponent(sentence("--trials", "needs the package optuna", next_step=next_step)) from error
