"""Losses: how far predicted affinities are from the truth, edge by edge or through the segmentation they imply."""
