"""bioimage-cpp as fragmenters and agglomerators of segkit. It is imported when it is used, not before."""

__version__ = "0.1.0"
