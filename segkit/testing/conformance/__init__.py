"""Suites of tests, one a plug point, that a component passes if it keeps its contract: see :mod:`segkit.protocols`.

The first line of each test's docstring is the promise that it checks; ``segkit plugins check`` prints it.
"""
