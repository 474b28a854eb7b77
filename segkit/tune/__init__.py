"""Choose fragmenter, agglomerator, their parameters and the threshold by volumes with a truth (`segkit tune`).

:mod:`segkit.tune.space` says what is tried, :mod:`segkit.tune.search` scores it, :mod:`segkit.tune.choose` decides.
"""

from segkit.tune.choose import Goal, Row, left_out, ranked, wins
from segkit.tune.search import Scene, read_scene, search
from segkit.tune.space import Choices, Combination, Space, default_space, read_space

__all__ = [
    "Choices",
    "Combination",
    "Goal",
    "Row",
    "Scene",
    "Space",
    "default_space",
    "left_out",
    "ranked",
    "read_scene",
    "read_space",
    "search",
    "wins",
]
