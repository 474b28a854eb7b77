import pytest
import torch
from training_helpers import TINY, tubes

from segkit.errors import InvalidInput, TrainingFailed
from segkit.train import TrainConfig
from segkit.train.health import Collapse, FiniteWatch
from segkit.train.run import prepare

GOOD, BAD = torch.ones(3), torch.tensor([0.0, float("nan"), 1.0])


def test_on_a_cpu_it_is_seen_at_once():
    watch = FiniteWatch()
    watch.see("the loss", GOOD, 4)
    with pytest.raises(TrainingFailed, match=r"^the loss at step 5 is not finite; lower learning_rate") as caught:
        watch.see("the loss", BAD, 5)
    assert caught.value.seen == "the loss at step 5 is not finite" and caught.value.step == 5
    watch.look(6)  # it has been said


def test_elsewhere_it_is_seen_when_somebody_looks_and_the_first_thing_is_named():
    watch = FiniteWatch(deferred=True)
    for step, values in ((11, GOOD), (12, BAD), (13, BAD)):
        watch.see("the output of the network", values, step)
        watch.see("the loss", values, step)
    with pytest.raises(Collapse, match="the output of the network in one of the steps 11 to 13 is not finite"):
        watch.look(13)
    watch.see("the loss", GOOD * float("inf"), 14)
    with pytest.raises(Collapse, match="the loss at step 14 is not finite"):
        watch.look(14)


def test_of_several_processes_all_have_seen_the_same_things(monkeypatch):
    """A loss may refuse an output that is NaN; the other processes, where it is none, look at a loss too."""

    def refuse(prediction):
        raise InvalidInput("affinities must not be NaN")

    setup = prepare(TrainConfig(**TINY, health={"every": 0}), [tubes()])
    batch, objective = setup.patches.batch([0]), setup.objective
    monkeypatch.setattr("segkit.train.distributed.world_size", lambda: 2)
    objective.evaluate(batch, objective.module, 1)
    here = list(objective.watch.flags)
    objective.watch.forget()
    next(objective.module.parameters()).data.fill_(float("nan"))
    objective.loss = refuse
    loss, parts = objective.evaluate(batch, objective.module, 1)
    assert list(objective.watch.flags) == here == ["the output of the network", "the loss"]
    assert loss.isnan() and loss.requires_grad and not parts
