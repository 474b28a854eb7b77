"""The bar in a terminal: what must be seen is seen, however narrow the terminal is."""

import io

import pytest
from rich.console import Console

from segkit.cli.progress_bar import SHORTEST, Bar
from segkit.cli.train import _Validated, words_of_step

PARTS = {
    "constrained-malis": 0.8123,
    "constrained-malis/positive": 0.5,
    "constrained-malis/negative": 0.3123,
    "mse": 1.5,
}


def rendered(width, *report):
    """The lines that the bar has after a report, without colours."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    bar = Bar("train", console)
    bar.report(*report)
    seen = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    seen.print(bar.get_renderable())
    return seen.file.getvalue().splitlines()


@pytest.mark.parametrize("width", range(60, 201, 7))
@pytest.mark.parametrize("values", [{"loss": 0.2}, {"loss": 0.2, "cremi_score": 0.5678}])
def test_training_shows_the_same_at_every_width(width, values):
    validated = _Validated()
    validated.see(90000, values)
    lines = rendered(width, 98765, 100000, *words_of_step(0.81234, PARTS, 12.345, validated.text))
    assert max(map(len, lines)) <= width
    seen = " ".join(" ".join(lines).split())
    assert sum(map(lines[0].count, "━╸")) >= SHORTEST and "98765/100000" in lines[0] and "-:--:--" in lines[0]
    assert "loss 0.8123" in seen and "12.35 steps/s" in seen
    assert ("CREMI 0.568 (step 90000)" if "cremi_score" in values else "validation loss 0.2000 (step 90000)") in seen
    assert ("mse 1.5000" in seen) == (width >= 106)  # what the parts need


def test_a_wide_line_holds_all_but_the_parts():
    text, more = words_of_step(0.5, {"mse": 0.25}, 250.4, "")
    lines = rendered(120, 10, 100, text, more)
    assert lines[0].rstrip().endswith("loss 0.5000  250 steps/s") and lines[1].strip() == "mse 0.2500"
    assert rendered(120, 3, 10) == rendered(120, 3, 10, "", "") and len(rendered(120, 3, 10)) == 1


def test_a_narrow_one_puts_the_text_below():
    lines = rendered(40, 1, 10, "loss 0.5000  250 steps/s")
    assert [line.strip() for line in lines[1:]] == ["loss 0.5000  250 steps/s"]
