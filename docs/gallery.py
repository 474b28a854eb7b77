"""Make the pictures of docs/gallery.md by the commands that stand there: python docs/gallery.py DEMO [VOLUME].

DEMO is the folder of a finished `segkit demo`. With VOLUME, a file of real tissue with labels (FIB-25, say), the
commands of the page that name `fib25.h5` are run too; their pictures go to the folder `gallery-output`, since data of
others stay where they are.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from segkit.view.browser import photograph

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "pictures"
OTHERS = ROOT / "gallery-output"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)


def main(demo: Path, volume: Path | None) -> None:
    """Run the commands in a folder that holds the demo and the volume, and keep the pictures."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "demo-output").symlink_to(demo.absolute())
        if volume is not None:
            (folder / "fib25.h5").symlink_to(volume.absolute())
        for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
            if "fib25.h5" in block and volume is None:
                continue
            for command in block.replace("\\\n", " ").splitlines():
                print(command)
                words = [str(Path(sys.executable).with_name("segkit")), *shlex.split(command)[1:]]
                subprocess.run(words, cwd=folder, check=True)
        shutil.copy(demo / "demo.png", PICTURES / "demo.png")
        if (report := demo / "report.html").exists():
            photograph(report.as_uri(), folder / "gallery-report.png", (1000, 2600))
        for picture in sorted(folder.glob("*.png")):
            place = OTHERS if picture.stem.endswith("fib25") else PICTURES
            place.mkdir(exist_ok=True)
            shutil.copy(picture, place / picture.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
