"""The wheel of segkit holds what `segkit plugins new` fills in, and py.typed."""

import zipfile
from pathlib import Path

import pytest

import segkit as package

ROOT = Path(package.__file__).parent


def test_templates_and_mark_of_types_are_in_the_wheel(lab, tmp_path):
    if not (ROOT.parent / "pyproject.toml").is_file():
        pytest.skip("needs the source tree of segkit")
    done = lab.run(f"python -m hatchling build -t wheel -d {tmp_path}", ROOT.parent)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = [*(ROOT / "scaffold" / "templates").rglob("*.in"), ROOT / "py.typed"]
    assert len(wanted) > 20 and {path.relative_to(ROOT.parent).as_posix() for path in wanted} <= held
