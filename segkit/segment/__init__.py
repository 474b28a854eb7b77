"""Segmentation: a merge tree cut at a threshold, or at many."""

from segkit.segment.cut import renamed, segment, segmentations, segments_at
from segkit.segment.uncertainty import UncertainMerge, uncertain

__all__ = ["UncertainMerge", "renamed", "segment", "segmentations", "segments_at", "uncertain"]
