"""From raw data to fragments and merge tree by blocks, without affinities on disk."""
