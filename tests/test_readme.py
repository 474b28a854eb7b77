"""The README is one page, names what exists, and its commands run on a real volume; see test_docs.py for all pages."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.registry import components
from segkit.registry.component import OWN

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PLUGINS = {path.name for path in (ROOT / "plugins").iterdir()}


def own_data() -> tuple[list[str], str]:
    """The commands of "Your own data", one a line, and what is added to the first for a try on a CPU."""
    section = re.search(r"^## Your own data\n(.*?)(?=^## )", TEXT, re.M | re.S)[1]
    commands, more = re.findall(r"^```\w+\n(.*?)^```$", section.replace("\\\n", " "), re.M | re.S)
    return commands.splitlines(), more.strip()


def test_it_fits_a_page():
    assert len(TEXT.encode()) <= 8 * 1024


@pytest.mark.parametrize("kind", ["models", "losses", "fragmenters", "agglomerators", "metrics"])
def test_the_table_of_components_is_the_registry(kind):
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| {kind} |"))
    built_in, elsewhere = (set(re.findall(r"`([\w-]+)`", cell)) for cell in row.split("|")[2:4])
    found = components(kind)
    assert built_in == {component.name for component in found if component.distribution == OWN}
    assert elsewhere >= {component.name for component in found if component.distribution in PLUGINS}


def test_its_links_lead_somewhere():
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"\b[A-Z0-9]+_[A-Z0-9_]+\b|@\w+@", re.sub(r"`[^`]*`", "", TEXT))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.browser
def test_eight_commands_segment_a_real_volume(real_data, tmp_path):
    for name in ("sample_A.hdf", "sample_B.hdf", "sample_C.hdf"):
        (tmp_path / name).symlink_to((real_data / "fib25_train.h5").resolve())
    commands, more = own_data()
    assert len(commands) == 8
    for number, command in enumerate(commands):
        added = {0: shlex.split(more.replace("300", "60")), 7: ["--screenshot", "seen.png"]}  # else it stays open
        words = shlex.split(command) + added.get(number, [])
        words = [str(Path(sys.executable).parent / words[0]), *words[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    with Image.open(tmp_path / "seen.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 1000, "there is much to see"
