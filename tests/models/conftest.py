"""Networks in these tests are so small that a second thread costs more than it saves."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """One thread of torch for the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
