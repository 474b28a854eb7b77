"""Segmentation: a merge tree cut at a threshold, or at many."""

from segkit.segment.cut import segment, segmentations

__all__ = ["segment", "segmentations"]
