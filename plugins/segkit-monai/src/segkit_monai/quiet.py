"""Importing MONAI, which takes seconds and may warn about what it does not find."""

import warnings
from importlib import import_module
from typing import Any


def monai(module: str, name: str) -> Any:
    """``monai.<module>.<name>``, imported without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(import_module(f"monai.{module}"), name)
