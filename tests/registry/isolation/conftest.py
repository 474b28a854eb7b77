"""Real distributions, good and bad: wheels written here, installed by pip, and used in processes of their own."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

import segkit

GOOD = '''
    import os

    with open(os.environ.get("IMPORTED", os.devnull), "a") as log:
        log.write(__name__ + "\\n")


    class Thing:
        """Counts the segments (doi:10.1000/182).

        Parameters
        ----------
        factor
            What the count is
            multiplied by.
        """

        def __init__(self, *, factor: float = 1.0) -> None:
            self.factor = factor

        def score(self, segmentation, truth):
            return {NAME: self.factor * len(segmentation.ids())}
'''


@dataclass(frozen=True)
class Plugin:
    """A distribution with one module, that declares one metric unless `declared` says otherwise."""

    name: str
    before: str = ""
    """Code that runs first when the module is imported."""
    swap: tuple[str, str] = ("", "")
    """A replacement in the source."""
    requires: tuple[str, ...] = ()
    declared: str | None = None
    metric: str | None = None
    """The name of the metric, if it is not that of the distribution."""

    @property
    def module(self):
        return self.name.replace("-", "_")

    def write(self, folder: Path) -> Path:
        """A wheel, as a build backend would write it."""
        info = f"{self.module}-1.0.dist-info"
        metric = self.metric or self.name
        declared = self.declared or f"[segkit.metrics]\n{metric} = {self.module}:Thing\n"
        head = ["Metadata-Version: 2.1", f"Name: {self.name}", "Version: 1.0", f"Summary: The plugin {self.name}."]
        head += [f"Requires-Dist: {each}" for each in self.requires]
        files = {
            f"{self.module}.py": self.before + "\n" + dedent(GOOD).replace("NAME", repr(metric)).replace(*self.swap),
            f"{info}/METADATA": "\n".join([*head, "Project-URL: Homepage, https://example.org/" + self.name]) + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": declared,
        }
        path = folder / f"{self.module}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for name, text in files.items():
                wheel.writestr(name, text)
            wheel.writestr(f"{info}/RECORD", "".join(map(_record, files.items())) + f"{info}/RECORD,,\n")
        return path


def _record(file: tuple[str, str]) -> str:
    content = file[1].encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{file[0]},sha256={digest},{len(content)}\n"


PLUGINS = [
    Plugin("good-lab"),
    Plugin("raises-lab", "raise RuntimeError('no GPU')"),
    Plugin("needs-lab", "import no_such_lib", requires=("no-such-lib>=2", "numpy>=1")),
    Plugin("old-numpy-lab", requires=("numpy<1", "never-there; python_version < '3'", "extra-lib; extra == 'fast'")),
    Plugin("stars-lab", swap=("*, factor: float = 1.0", "**factor")),
    Plugin("untyped-lab", swap=("factor: float = 1.0", "factor=1.0")),
    Plugin("methodless-lab", swap=("def score", "def scores")),
    Plugin("arguments-lab", swap=("segmentation, truth", "segmentation")),
    Plugin("renamed-lab", swap=("segmentation, truth", "segmentation, reference")),
    Plugin(
        "abstract-lab",
        "from segkit.protocols import Metric",
        ("class Thing:", "class Thing(Metric):\n    pass\nclass O:"),
    ),
    Plugin("version-lab", swap=("def __init__", "segkit_api = '0'\n\n    def __init__")),
    Plugin("cremi-lab", metric="cremi"),
    Plugin("twin-a", metric="twin"),
    Plugin("twin-b", metric="twin"),
    Plugin("loud-lab", "import os, sys\nprint('hello')\nos.write(1, b'from C')\nprint('oh', file=sys.stderr)"),
    Plugin("warns-lab", "import warnings\nwarnings.warn('mind the gap')"),
    Plugin("exits-lab", "import sys\nsys.exit(0)"),
    Plugin("gone-lab"),
    Plugin("group-lab", declared="[segkit.metric]\ngroup-lab = group_lab:Thing\n"),
    Plugin("target-lab", declared="[segkit.metrics]\ntarget-lab = target_lab.Thing\n"),
    Plugin("damaged-lab"),
    *(
        Plugin(f"many-{number:02}", declared=f"[segkit.losses]\nmany = many_{number:02}:Thing\n")
        for number in range(50)
    ),
]
FATAL = [
    Plugin("hangs-lab", "import time\ntime.sleep(600)"),
    Plugin("ends-lab", "import os\nprint('farewell', flush=True)\nos._exit(0)"),
    Plugin("crashes-lab", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"),
    Plugin(
        "mixed-lab",
        "import sys",
        declared=(
            "[segkit.metrics]\nmixed-bad = ends_lab:Thing\nmixed-good = mixed_lab:Thing\nmixed-worse = ends_lab:Other\n"
        ),
    ),
]


class Installed:
    """A folder into which pip has installed plugins, and processes that have it on their path."""

    def __init__(self, folder: Path, plugins: list[Plugin]) -> None:
        self.folder, self.log = folder / "site", folder / "imported"
        wheels = [str(plugin.write(folder)) for plugin in plugins]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
        command += ["--disable-pip-version-check", "--target", str(self.folder), *wheels]
        subprocess.run(command, check=True, capture_output=True, timeout=300)

    def python(self, code: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
        """Run Python code with the plugins installed."""
        path = os.pathsep.join([str(self.folder), str(Path(segkit.__file__).parents[1])])
        environment |= {"PYTHONPATH": path, "IMPORTED": str(self.log)}
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
        self.log.unlink(missing_ok=True)
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=300)

    def segkit(self, *words: object, **environment: str) -> subprocess.CompletedProcess:
        """Run the command line with the plugins installed."""
        code = "from segkit.cli.main import main; main(prog_name='segkit')"
        return self.python(code, *map(str, words), **environment)

    def json(self, *words: object) -> object:
        """What a command prints with --json; it must succeed."""
        done = self.segkit(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def imported(self) -> list[str]:
        """The plugins that the last process, and its children, have imported; those that got as far as to say so."""
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Installed:
    """All of PLUGINS, after two of them were damaged."""
    site = Installed(tmp_path_factory.mktemp("plugins"), PLUGINS)
    (site.folder / "gone_lab.py").unlink()
    (site.folder / "damaged_lab-1.0.dist-info" / "entry_points.txt").write_text("[segkit.metrics\nthing")
    return site


@pytest.fixture(scope="session")
def fatal(tmp_path_factory) -> Installed:
    """All of FATAL: their import ends the process, or never ends."""
    return Installed(tmp_path_factory.mktemp("fatal"), FATAL)
