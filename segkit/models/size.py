"""How much memory a network will take, known before it is made."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from segkit.errors import InvalidInput, sentence
from segkit.io.records import check_memory
from segkit.registry.component import Component

TRAINED = 4
"""Numbers a weight takes while it is trained: itself, its gradient, and two of Adam."""


class _Undrawn(TorchFunctionMode):
    """Leaves weights as they are that would be drawn.

    There are no values to draw on the meta device; torch would import its compiler and SymPy to draw none, which takes
    longer than to load the network.
    """

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Return the tensor that a function of torch.nn.init is called with; call any other."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def check_size(component: Component, parameters: Mapping[str, object], copies: int = 1) -> None:
    """Raise InvalidInput if `copies` of all weights of a network do not fit into memory.

    It is made on torch's meta device, which keeps no values; one that cannot be made there is let be.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _Undrawn():
            module = component.create(**parameters)
        needed = sum(each.numel() * each.element_size() for each in [*module.parameters(), *module.buffers()])
    except Exception as error:
        if "overflow" in str(error):  # more numbers than can be counted
            rule, next_step = "has weights that no memory holds", "choose smaller parameters"
            raise InvalidInput(sentence(component.title, rule, None, next_step)) from error
        return  # what else is wrong with it is said when it is made
    check_memory(component.title, copies * needed, "choose smaller parameters")
