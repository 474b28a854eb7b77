"""New plugins: a complete small distribution around a working component, for its author to change."""

from segkit.scaffold.plugin import KINDS, Plugin
from segkit.scaffold.write import create, files, next_commands

__all__ = ["KINDS", "Plugin", "create", "files", "next_commands"]
