"""How processes of training wait for one another."""

import subprocess
import sys

import pytest

from segkit.errors import TrainingFailed
from segkit.train.launch import _await


def test_a_process_that_ends_without_a_reason_before_it_is_ready(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    assert ended.wait(timeout=60) == 0
    with pytest.raises(TrainingFailed, match="before it was ready"):
        _await(tmp_path, [ended])
