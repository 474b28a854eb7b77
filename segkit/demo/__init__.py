"""The demonstration: synthetic volumes, and a picture of what became of one."""

from segkit.demo.picture import Panel, colours, save_picture

__all__ = ["Panel", "colours", "save_picture"]
