"""What the tests of tools/gpu_check/ share."""

import pytest


@pytest.fixture
def job(tool, tmp_path):
    """A rehearsal."""
    return tool("gpu_check/steps").Checking(tmp_path, rehearsal=True)
