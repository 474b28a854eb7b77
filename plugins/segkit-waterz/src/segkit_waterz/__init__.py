"""waterz as a fragmenter and an agglomerator of segkit. It is imported when it is used, not before."""

__version__ = "0.1.0"
