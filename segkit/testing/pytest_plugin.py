"""A pytest plugin that makes the markers of segkit's suites known, so that ``--strict-markers`` takes them.

It does nothing else, and imports nothing.
"""

MARKERS = (
    "gpu: needs a GPU; skipped, with the reason shown, where there is none",
    "data: needs the real volumes in the folder that SEGKIT_DATA names; skipped where there are none",
)


def pytest_configure(config) -> None:
    """Register the markers."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
