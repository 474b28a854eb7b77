"""Between segkit's files and those of other tools: axis orders, formats, and conventions of affinities."""

from segkit.convert.conventions import PRESETS, Convention, Preset, convention
from segkit.convert.files import convert
from segkit.convert.kinds import KINDS

__all__ = ["KINDS", "PRESETS", "Convention", "Preset", "convention", "convert"]
