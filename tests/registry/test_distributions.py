"""Metadata of installed distributions, written as pip leaves it, and compared with what pip installed here."""

import importlib.metadata

import pytest

from segkit.registry.distributions import Environment, Unmet, home_page, stranger, summary


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put metadata of a distribution on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, *lines, version="1.0"):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]
        (info / "METADATA").write_text("\n".join(head) + "\n")
        importlib.invalidate_caches()

    return make


@pytest.mark.parametrize(
    ("requirement", "unmet"),
    [
        ("lib-a", []),
        ("lib_A>=2,<3", []),
        ("lib-a>=3", [Unmet("lib-a>=3", "2.5")]),
        ("lib-a<2", [Unmet("lib-a<2", "2.5")]),
        ("lib-a (>=3)", [Unmet("lib-a>=3", "2.5")]),
        ("lib-b", []),
        ("lib-b>=4.0rc1", []),
        ("lib-b>=4.0", [Unmet("lib-b>=4.0", "4.0rc2")]),
        ("lib-c", [Unmet("lib-c", None)]),
        ("lib-c; python_version < '3'", []),
        ("lib-c; extra == 'fast'", []),
        ("lib-c; python_version >= '3' and extra != 'fast'", [Unmet("lib-c", None)]),
        ("lib-a[fast]>=3", [Unmet("lib-a>=3", "2.5")]),
        ("not a requirement!", []),
    ],
)
def test_requirements(install, requirement, unmet):
    install("lib-a", version="2.5")
    install("lib-b", version="4.0rc2")
    install("lab", f"Requires-Dist: {requirement}")
    assert Environment().unmet("lab") == unmet


def test_an_unmet_requirement_reads_well():
    assert str(Unmet("lib>=3", "2.5")) == "needs lib>=3, and 2.5 is installed"
    assert str(Unmet("lib", None)) == "needs lib, and it is not installed"


def test_another_projects_segkit_is_noticed_and_said(install, segkit):
    install("segkit-em"), install("segkit-waterz"), install("segkit_metrics")
    assert stranger() is None and "Warning" not in segkit("plugins", "list", "metrics").stderr
    install("SegKit", version="0.0.1")
    assert stranger() == "0.0.1"
    shown = segkit("plugins", "list", "metrics").stderr
    assert "the distribution segkit 0.0.1 is another project's (this one is segkit-em)" in shown
    assert "pip uninstall segkit" in shown


def test_what_pip_installed_is_met():
    assert Environment().unmet("pytest") == [] and Environment().unmet("no-such-distribution") == []
    assert Environment().version("numpy") == importlib.metadata.version("numpy")


@pytest.mark.parametrize(
    ("lines", "page"),
    [
        ((), ""),
        (("Home-page: https://old.example",), "https://old.example"),
        (("Home-page: UNKNOWN",), ""),
        (("Project-URL: Source, https://s.example", "Project-URL: Home-Page, https://h.example"), "https://h.example"),
        (("Project-URL: Source, https://s.example", "Home-page: https://old.example"), "https://s.example"),
        (("Project-URL: Chat, https://c.example",), "https://c.example"),
    ],
)
def test_home_pages(install, lines, page):
    install("lab", "Summary: A lab.", *lines)
    assert home_page("lab") == page and summary("lab") == "A lab."


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"Requires-Dist"])
def test_damaged_metadata_stop_nothing(install, tmp_path, content):
    install("lab")
    path = tmp_path / "lab-1.0.dist-info" / "METADATA"
    path.unlink() if content is None else path.write_bytes(content)
    assert Environment().unmet("lab") == [] and home_page("lab") == summary("lab") == ""


def test_what_is_not_installed_says_nothing():
    assert home_page("no-such-distribution") == summary("no-such-distribution") == ""
