"""A browser without a window, for pictures."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from segkit.errors import SegkitError, sentence

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def find_browser() -> str | None:
    """Return the path of a Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def opened(url: str, size: tuple[int, int] = (1400, 1000), options: tuple[str, ...] = ()) -> Iterator[subprocess.Popen]:
    """Open a page in a browser without a window, for as long as the block runs. Yields the process.

    Raises SegkitError if there is no browser.
    """
    program = find_browser()
    if program is None:
        next_step = "install one (Debian: apt install chromium), or open the page without --screenshot"
        raise SegkitError(sentence("a picture", "needs Chromium or Chrome on the PATH", None, next_step))
    with TemporaryDirectory(prefix="segkit-browser-", ignore_cleanup_errors=True) as profile:
        alone = ("--no-sandbox",) if os.name == "posix" and os.geteuid() == 0 else ()
        window = (f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}")
        words = [program, *OPTIONS, *alone, *window, *options, url]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def photograph(url: str, picture: Path, size: tuple[int, int]) -> None:
    """Take a picture of a page that needs no more than to be loaded, as PNG. Raises SegkitError if there is none."""
    with opened(url, size, (f"--screenshot={picture.absolute()}",)) as process:
        process.wait(60)
    if not picture.exists():
        raise SegkitError(sentence("the browser", f"took no picture of {url}"))
