"""The command lines of segkit and of this distribution, in this process."""

import pytest
from click.testing import CliRunner


@pytest.fixture
def segkit():
    """A callable(*words) that runs segkit; the result has exit_code, stdout, stderr."""
    from segkit.cli.main import main

    return lambda *words: CliRunner().invoke(main, [str(word) for word in words], prog_name="segkit")


@pytest.fixture
def pictures():
    """A callable(*words) that runs segkit-natural-images."""
    from segkit_natural_images.command import command

    return lambda *words: CliRunner().invoke(command, [str(word) for word in words])
