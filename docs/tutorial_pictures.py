"""Draw the pictures of the tutorial: python docs/tutorial_pictures.py FOLDER, in which its commands were run."""

import shutil
import sys
from pathlib import Path

from segkit import io
from segkit.picture import Panel, Row, colours, save_picture

PICTURES = Path(__file__).parent / "pictures"


def main(folder: Path) -> None:
    """Draw one section of the fragments, of the three cuts and of the truth, and copy demo.png and patches.png."""
    fragments = io.read_labels(folder / "fragments.h5", role="fragments").array
    section = len(fragments) // 2
    panels = [Panel("fragments", colours(fragments[section]))]
    for threshold in (0.2, 0.5, 0.8):
        cut = io.read_labels(f"{folder}/cuts.h5:volumes/segmentation_{threshold}", role="segmentation").array
        panels.append(Panel(f"threshold {threshold}", colours(cut[section])))
    truth = io.read_labels(folder / "test.h5", role="truth").array
    save_picture(PICTURES / "tutorial-cuts.png", [Row([*panels, Panel("truth", colours(truth[section]))])], scale=2)
    shutil.copy(folder / "patches.png", PICTURES / "tutorial-patches.png")
    shutil.copy(folder.parent / "demo-output" / "demo.png", PICTURES / "demo.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
