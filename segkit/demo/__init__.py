"""The demonstration: synthetic volumes, and a picture of what became of one."""

from segkit.picture import Panel, Row, affinity_colours, colours, matched_colours, overlay, save_picture

__all__ = ["Panel", "Row", "affinity_colours", "colours", "matched_colours", "overlay", "save_picture"]
