"""Which verbs keep the memory that their networks free."""

import click
import pytest

from segkit.cli import common
from segkit.cli.main import VERBS, verb_named


@pytest.mark.parametrize("network", [True, False])
def test_memory_is_kept_for_a_network_and_returned(monkeypatch, network):
    said = []
    monkeypatch.setattr(common, "keep_freed", lambda: said.append("kept"))
    monkeypatch.setattr(common, "give_back", lambda: said.append("returned"))
    verb = common.Verb("something", callback=lambda: said.append("work"), network=network)
    verb.main([], standalone_mode=False)
    assert said == (["kept", "work", "returned"] if network else ["work"])


def test_verbs_with_a_network_say_so():
    """Those that can be told where it computes."""
    verbs = [(name, verb_named(name)) for name in VERBS]
    verbs += [(f"{name} {each.name}", each) for name, verb in verbs for each in getattr(verb, "commands", {}).values()]
    found = {name for name, verb in verbs if getattr(verb, "network", False)}
    told = {name for name, verb in verbs if any(param.name == "device" for param in verb.params)}
    assert isinstance(verb_named("benchmark"), click.Group) and {"infer", "fuse", "train", "benchmark infer"} <= found
    assert found <= told
