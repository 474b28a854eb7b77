"""An agglomerator that learns from truth: see :mod:`segkit_learned.agglomerator`."""
