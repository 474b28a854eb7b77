"""Segmentation: a merge tree cut at a threshold."""

from segkit.segment.cut import segment

__all__ = ["segment"]
