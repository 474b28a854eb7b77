"""Numbers that are not finite: seen at once on a CPU, and on accelerators without waiting for them in every step."""

import torch
from torch import Tensor

from segkit.errors import TrainingFailed, sentence
from segkit.train import distributed

ADVICE = "lower learning_rate, set gradient_clip, or add '+0.1*mse' to the loss"


class Collapse(TrainingFailed):
    """Training cannot go on from here: it goes back to where it was healthy, or ends with this error."""

    def __init__(self, what: str, rule: str, step: int) -> None:
        super().__init__(sentence(what, rule, None, ADVICE))
        self.what, self.rule, self.seen, self.step = what, rule, f"{what} {rule}", step

    def __reduce__(self) -> tuple:
        return type(self), (self.what, self.rule, self.step)


class FiniteWatch:
    """Remembers what was not finite since it last looked.

    On a CPU it looks at once, unless `deferred`. On accelerators that would make the host wait for the device in every
    step, so it collects flags there until :meth:`look` is called. So it does in each of several processes, all of
    which must look together: what one has seen is seen by all.
    """

    def __init__(self, deferred: bool = False) -> None:
        self.deferred = deferred
        self.forget()

    def forget(self) -> None:
        """Begin anew: what was seen was of a network that is no more."""
        self.flags: dict[str, Tensor] = {}
        self.since: int | None = None

    def see(self, what: str, values: Tensor, step: int) -> None:
        """Take note of `values` of step `step`, counted from 1."""
        bad = ~torch.isfinite(values.detach()).all()
        self.flags[what] = self.flags[what] | bad if what in self.flags else bad
        self.since = step if self.since is None else self.since
        if values.device.type == "cpu" and not self.deferred and distributed.world_size() == 1:
            self.look(step)

    def suspects(self) -> bool:
        """Whether this process has seen anything since it last looked."""
        return any(map(bool, self.flags.values()))

    def look(self, step: int) -> None:
        """Raise Collapse if anything up to step `step` was not finite; what came first in a step is named."""
        flags, since = distributed.any_over_ranks(self.flags), self.since
        self.forget()
        for what, bad in flags.items():
            if bad:
                raise Collapse(f"{what} {_range(since or step, step)}", "is not finite", step)


def _range(first: int, last: int) -> str:
    """The steps as words.

    >>> _range(3, 3), _range(11, 20)
    ('at step 3', 'in one of the steps 11 to 20')
    """
    return f"at step {first}" if first >= last else f"in one of the steps {first} to {last}"
