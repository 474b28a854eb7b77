"""Numba building blocks that kernels of several packages share: each once, each tested, each saying why it is not the
textbook's. Kernels of one package alone are its ``_kernels_*.py``."""
