"""What tests, demos and plugin authors share: synthetic volumes, strategies, and suites to subclass.

A plugin's whole test file::

    from segkit.testing import AgglomeratorConformance

    class TestMine(AgglomeratorConformance):
        name = "my-agglomerator"

Nothing is imported before it is used: :mod:`segkit.testing.phantoms` needs no pytest.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AgglomeratorConformance": "segkit.testing.conformance.agglomerators",
    "FragmenterConformance": "segkit.testing.conformance.fragmenters",
    "LossConformance": "segkit.testing.conformance.losses",
    "MetricConformance": "segkit.testing.conformance.metrics",
    "ModelConformance": "segkit.testing.conformance.models",
    "Phantom": "segkit.testing.phantoms",
    "neurites": "segkit.testing.phantoms",
}
__all__ = [
    "AgglomeratorConformance",
    "FragmenterConformance",
    "LossConformance",
    "MetricConformance",
    "ModelConformance",
    "Phantom",
    "neurites",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segkit.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
