"""waterz as a fragmenter and an agglomerator of segkit, imported when it is used; its order of merges without it."""

__version__ = "0.1.0"
