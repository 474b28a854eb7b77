import inspect

import pytest

from segkit import errors


@pytest.mark.parametrize(
    ("name", "builtin", "exit_code"),
    [
        ("InvalidInput", ValueError, 2),
        ("InvalidShape", ValueError, 2),
        ("InvalidParameter", ValueError, 2),
        ("UnknownComponent", LookupError, 2),
        ("AmbiguousComponent", LookupError, 2),
        ("BrokenComponent", ImportError, 1),
        ("MissingFile", FileNotFoundError, 2),
        ("MissingDataset", LookupError, 2),
        ("StorageError", OSError, 1),
        ("InUse", BlockingIOError, 1),
        ("CheckpointMismatch", ValueError, 2),
        ("TrainingFailed", RuntimeError, 1),
        ("BlocksFailed", RuntimeError, 1),
        ("ClusterUnavailable", ConnectionError, 1),
    ],
)
def test_each_error_is_a_builtin_too(name, builtin, exit_code):
    error = getattr(errors, name)("what happened")
    assert isinstance(error, errors.SegkitError) and isinstance(error, builtin)
    assert error.exit_code == exit_code and str(error) == "what happened"


def test_no_error_is_forgotten_by_the_table_above():
    table = test_each_error_is_a_builtin_too.pytestmark[0].args[1]
    defined = {
        name for name, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, errors.SegkitError)
    }
    assert defined == {row[0] for row in table} | {"SegkitError"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("x", "must be positive"), "x must be positive"),
        (("x", "must be positive", 0), "x must be positive, not 0"),
        (("x", "must be given", None, "add it"), "x must be given; add it"),
        (("x", "must be positive", -1, "try 1"), "x must be positive, not -1; try 1"),
    ],
)
def test_sentence(arguments, expected):
    assert errors.sentence(*arguments) == expected
