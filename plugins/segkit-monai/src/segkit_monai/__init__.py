"""MONAI's networks and losses as components of segkit. It is imported when it is used, not before."""

__version__ = "0.1.0"
