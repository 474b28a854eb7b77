"""Going back to where training was healthy, and going on differently."""

import json
from dataclasses import asdict

import torch

from segkit.errors import TrainingFailed, sentence
from segkit.io.atomic import storage_errors
from segkit.losses.combined import Sum, parse_terms
from segkit.protocols import Loss
from segkit.registry import find
from segkit.train.averaging import adapt
from segkit.train.config import HealthConfig
from segkit.train.finite import ADVICE, Collapse
from segkit.train.module import TrainingModule, set_learning_rate
from segkit.train.progress import Progress, Recovery, RunFolder
from segkit.train.resume import read_checkpoint, trim_journal
from segkit.train.save import replace_whole, save_network


def recover(folder: RunFolder, module: TrainingModule, collapse: Collapse) -> Progress:
    """Go back to the last healthy checkpoint, and say from where to go on.

    The sampler goes on behind the patches that led into the collapse, so that they are not seen again in the same
    order; two equal runs still go on alike. Raises TrainingFailed if no recovery is left, and `collapse` if none is
    wanted; the last healthy checkpoint and its network are then those of the run all the same.
    """
    health, before = module.config.health, module.recovery
    if not health.every or not folder.healthy.exists():
        raise collapse
    ended = health.on_collapse == "stop" or before.tries >= health.retries
    recovery = before if ended else before.next(collapse.step, health)
    patches = module.patches + module.config.batch_size
    step = _go_back(folder, module, recovery, patches)
    trim_journal(folder.journal, step)
    if ended:
        raise _end(collapse, before, step, module.config.learning_rate) from collapse
    _write_event(folder, step, recovery, collapse)
    return Progress(step, patches, folder.checkpoint, recovery)


def describe(collapse: Collapse, now: Progress, health: HealthConfig) -> str:
    """What was seen, and what is done about it, in one sentence."""
    if health.on_collapse == "lower-learning-rate":
        change = f"with {now.recovery.factor:.3g} times the learning rate"
    else:
        change = f"with {now.recovery.elementwise:.3g}*mse more in the loss"
    return f"training collapsed: {collapse.seen}; it goes on from step {now.step}, the last healthy one, {change}"


def with_elementwise(loss: Loss, spec: str, weight: float) -> Loss:
    """`loss`, which `spec` describes, plus `weight` times mse."""
    if not weight:
        return loss
    terms = list(loss.terms) if isinstance(loss, Sum) else [(next(iter(parse_terms(spec))), 1.0, loss)]
    names = [name for name, _, _ in terms]
    if "mse" in names:
        name, before, mse = terms[names.index("mse")]
        terms[names.index("mse")] = (name, before + weight, mse)
    else:
        terms.append(("mse", weight, find("losses", "mse").create()))
    return Sum(terms=terms)


def _go_back(folder: RunFolder, module: TrainingModule, recovery: Recovery, patches: int) -> int:
    """Make the healthy checkpoint, with `recovery` and the sampler at `patches`, that of the run; its step."""
    checkpoint = read_checkpoint(folder.healthy)
    set_learning_rate(checkpoint, module.config, recovery.factor)
    adapt(checkpoint["state_dict"], module.average is not None)
    checkpoint |= {"recovery": asdict(recovery), "patches": patches}
    replace_whole(folder.checkpoint, lambda half: torch.save(checkpoint, half))
    module.load_state_dict(checkpoint["state_dict"])
    step = checkpoint["global_step"]
    if step:
        save_network(folder.model, module, step)
    else:  # nothing was healthy but the untrained network
        folder.model.unlink(missing_ok=True)
    return step


def _end(collapse: Collapse, before: Recovery, step: int, learning_rate: float) -> TrainingFailed:
    times = f"collapsed again after {before.tries} recoveries" if before.tries else "collapsed"
    rule = f"{times}, at a learning rate of {learning_rate * before.factor:.3g}: {collapse.seen}"
    kept = f"; the network of step {step}, the last healthy one, is kept" if step else ""
    return TrainingFailed(sentence("training", rule, None, ADVICE) + kept)


def _write_event(folder: RunFolder, step: int, recovery: Recovery, collapse: Collapse) -> None:
    """Add a line about a recovery to the log."""
    seen = {"health/collapsed_at": collapse.step, "health/seen": collapse.seen}
    changed = {"health/learning_rate_factor": recovery.factor, "health/elementwise": recovery.elementwise}
    line = {"step": step, "health/recovery": recovery.count, **seen, **changed}
    with storage_errors("written", folder.journal), folder.journal.open("a") as file:
        file.write(json.dumps(line) + "\n")
