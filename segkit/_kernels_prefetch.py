"""Name `prefetch` for the kernels that still look for it here."""

from segkit.kernels.prefetch import prefetch as prefetch
