"""A fresh virtual environment for plugins, and a lab folder in it: what a new user has."""

import os
import re
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest

import segkit as package
from segkit.registry import components

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "plugins.md"
BUILDERS = ("hatchling", "editables")
"""What pip needs to build and install a plugin, editable too."""


class Lab:
    """An empty folder, and an environment of its own that sees what this one has installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lab"
        self.folder.mkdir()
        self.environment = folder / "environment"
        venv.create(self.environment)
        (site,) = self.environment.glob("lib/python*/site-packages")
        outer = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in outer))
        for name, module in (("segkit", "segkit.cli.main"), ("pip", "pip._internal.cli.main")):
            script = self.environment / "bin" / name
            code = f"import sys\nfrom {module} import main\n\nsys.exit(main())\n"
            script.write_text(f"#!{self.environment}/bin/python\n{code}")
            script.chmod(0o755)

    def variables(self, **more: str) -> dict[str, str]:
        """Of a shell in which the environment is active; pip builds with what is installed."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "VIRTUAL_ENV"))}
        path = os.pathsep.join([f"{self.environment}/bin", str(Path(sys.executable).parent), os.environ["PATH"]])
        build = {"PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # 0 is pip's word for yes here
        source = str(Path(package.__file__).parents[1])
        quick = {"OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": "-m 'not slow'"}
        return kept | build | quick | {"PATH": path, "PYTHONPATH": source} | more

    def run(self, command: str, folder: Path | None = None, **more: str) -> subprocess.CompletedProcess:
        """Run lines of shell, in the folder of the lab if no other is given."""
        options = {"cwd": folder or self.folder, "env": self.variables(**more), "capture_output": True, "text": True}
        return subprocess.run(command, shell=True, **options)

    def __call__(self, command: str, folder: Path | None = None) -> str:
        """What lines of shell print on stdout; they must succeed, without the package index."""
        done = self.run(command, folder, PIP_NO_INDEX="1")
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Lab:
    """The one lab of all tests here; skipped where hatchling can neither be found nor be installed."""
    found = Lab(tmp_path_factory.mktemp("scaffold"))
    if any(find_spec(name) is None for name in BUILDERS):
        done = found.run(f"python -m pip install {' '.join(BUILDERS)}", PIP_NO_BUILD_ISOLATION="1")
        if done.returncode:
            pytest.skip(f"needs {' and '.join(BUILDERS)}, which cannot be installed here")
    return found


@pytest.fixture(scope="session")
def page(lab) -> list[str]:
    """What the commands of the page for authors print, block by block, run in the lab as they are written."""
    text = PAGE.read_text(encoding="utf-8")
    if not any(component.name == "waterz" for component in components("agglomerators")):
        text = text.replace(" --backend waterz", "")
    return [lab(f"set -e\n{block}") for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)]
