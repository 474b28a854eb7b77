"""The demonstration: synthetic volumes, and a picture of what became of one."""

from segkit.picture import Panel, Row, colours, save_picture

__all__ = ["Panel", "Row", "colours", "save_picture"]
