"""Segmentation: a merge tree cut at a threshold, or at many."""

from segkit.segment.cut import renamed, segment, segmentations, segments_at

__all__ = ["renamed", "segment", "segmentations", "segments_at"]
