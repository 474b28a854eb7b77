"""Going back to where training was healthy, and going on differently."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from segkit.errors import TrainingFailed, sentence
from segkit.losses.combined import Sum, terms_of
from segkit.protocols import Loss
from segkit.registry import find
from segkit.train.checkpoint import (
    Recovery,
    RunFolder,
    TrainingProgress,
    load_weights,
    read_checkpoint,
    save_network,
    trim_journal,
    write_checkpoint,
)
from segkit.train.config import HealthConfig
from segkit.train.health import ADVICE, Collapse
from segkit.train.journal import append_line

if TYPE_CHECKING:
    from segkit.train.step import Objective


def recover(
    folder: RunFolder, objective: "Objective", reached: TrainingProgress, collapse: Collapse
) -> TrainingProgress:
    """Go back to the last healthy checkpoint, and say from where to go on; `reached` is where training collapsed.

    The sampler goes on behind the patches that led into the collapse, so that they are not seen again in the same
    order; two equal runs still go on alike. Raises TrainingFailed if no recovery is left, and `collapse` if none is
    wanted; the last healthy checkpoint and its network are then those of the run all the same.
    """
    config, before = objective.config, reached.recovery
    health = config.health
    if not health.every or not folder.healthy.exists():
        raise collapse
    ended = health.on_collapse == "stop" or before.tries >= health.retries
    recovery = before if ended else before.next(collapse.step, health)
    patches = reached.patches + config.batch_size
    step = _go_back(folder, objective, recovery, patches)
    trim_journal(folder.journal, step)
    if ended:
        raise _end(collapse, before, step, config.learning_rate) from collapse
    seen: dict[str, float | str] = {"health/collapsed_at": collapse.step, "health/seen": collapse.seen}
    changed = {"health/learning_rate_factor": recovery.factor, "health/elementwise": recovery.elementwise}
    append_line(folder.journal, step, {"health/recovery": recovery.count, **seen, **changed})
    return TrainingProgress(step, patches, folder.checkpoint, recovery)


def describe(collapse: Collapse, now: TrainingProgress, health: HealthConfig) -> str:
    """Say what was seen, and what is done about it, in one sentence."""
    if health.on_collapse == "lower-learning-rate":
        change = f"with {now.recovery.factor:.3g} times the learning rate"
    else:
        change = f"with {now.recovery.elementwise:.3g}*mse more in the loss"
    return f"training collapsed: {collapse.seen}; it goes on from step {now.step}, the last healthy one, {change}"


def with_elementwise(loss: Loss, spec: str, weight: float) -> Loss:
    """Add `weight` times mse to `loss`, which `spec` describes."""
    if not weight:
        return loss
    terms = list(terms_of(loss, spec))
    names = [name for name, _, _ in terms]
    if "mse" in names:
        name, before, mse = terms[names.index("mse")]
        terms[names.index("mse")] = (name, before + weight, mse)
    else:
        terms.append(("mse", weight, find("losses", "mse").create()))
    return Sum(terms=terms)


def _go_back(folder: RunFolder, objective: "Objective", recovery: Recovery, patches: int) -> int:
    """Make the healthy checkpoint, with `recovery` and the sampler at `patches`, that of the run; its step."""
    changes = {"recovery": asdict(recovery), "patches": patches, "learning_rate": objective.config.learning_rate}
    changes["journal"] = None  # it may go on with another loss
    checkpoint = read_checkpoint(folder.healthy) | changes
    write_checkpoint(folder.checkpoint, checkpoint)
    load_weights(objective.module, checkpoint["state_dict"])
    step: int = checkpoint["global_step"]
    if step:
        save_network(folder.model, objective, step)
    else:  # nothing was healthy but the untrained network
        folder.model.unlink(missing_ok=True)
    return step


def _end(collapse: Collapse, before: Recovery, step: int, learning_rate: float) -> TrainingFailed:
    times = f"collapsed again after {before.tries} recoveries" if before.tries else "collapsed"
    rule = f"{times}, at a learning rate of {learning_rate * before.factor:.3g}: {collapse.seen}"
    kept = f"; the network of step {step}, the last healthy one, is kept" if step else ""
    return TrainingFailed(sentence("training", rule, None, ADVICE) + kept)
