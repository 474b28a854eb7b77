"""The component passes the suite of segkit, with the small model that it brings."""

from segkit.testing import AgglomeratorConformance

from segkit_learned.agglomerator import Learned


class TestLearned(AgglomeratorConformance):
    name = "learned"
    parameters = (Learned.segkit_example,)
