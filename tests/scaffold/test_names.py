"""Names that a plugin may have."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.errors import InvalidParameter
from segkit.scaffold.names import LONGEST, check_name, class_of, package_of


@pytest.mark.parametrize("name", ["a", "my-loss", "Mean_Affinity2", "gasp-2024", "x" * LONGEST, "waterz2"])
def test_good_names(name):
    check_name(name, "agglomerators")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my loss", "not 'my loss'; choose a name such as 'my-loss'"),
        ("-loss", "such as 'loss'"),
        ("loss-", "such as 'loss'"),
        ("2loss", "such as 'my-component'"),
        ("my.loss", "such as 'my-loss'"),
        ("", "not ''"),
        ("../up", "such as 'up'"),
        ("größe", "such as 'gr-e'"),
        ("loss\n", "NAME must be up to 40 letters"),
        ("x" * (LONGEST + 1), "must be up to 40 letters"),
        ("lambda", "a word of the Python language, not 'lambda'; choose another name, such as 'my-lambda'"),
        ("match", "a word of the Python language"),
        ("Json", "a module of Python's standard library, not 'json'"),
        ("concurrent", "standard library"),
        ("malis", "that of a loss that segkit-em 0.1.0 offers, not 'malis'"),
        ("MALIS", "that of a loss that segkit"),
        ("numpy", r"that of the distribution numpy [\d.]+, which is installed here"),
        ("Scikit_Image", "the distribution Scikit_Image"),
        ("skimage", "the package skimage, which is installed here"),
        ("segkit", "the package segkit, which is installed here"),
        ("segkit-em", "segkit-em .*, which is installed here"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(InvalidParameter, match=message) as caught:
        check_name(name, "losses")
    assert caught.value.exit_code == 2


def test_another_kind_may_have_a_component_of_that_name():
    check_name("malis", "metrics")


@given(st.from_regex(r"[A-Za-z]([A-Za-z0-9_-]{0,20}[A-Za-z0-9])?", fullmatch=True))
def test_packages_and_classes_are_identifiers(name):
    assert package_of(name).isidentifier() and class_of(name, ()).isidentifier()
    assert re.sub("_", "", package_of(name)) == re.sub("[-_]", "", name).lower()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("rag-2-cut", "Rag2Cut"), ("labels", "MyLabels"), ("none", "MyNone"), ("Value-Error", "MyValueError")],
)
def test_classes_take_no_name_that_is_in_use(name, expected):
    assert class_of(name, {"Labels"}) == expected


def test_looking_up_a_name_imports_no_package():
    code = "import sys; from segkit.scaffold.names import _installed; print(_installed('q', 'tensorboard'))"
    done = subprocess.run([sys.executable, "-c", f"{code}; assert 'tensorboard' not in sys.modules"], check=False)
    assert done.returncode == 0
