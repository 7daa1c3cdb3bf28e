"""The scenes that the demo draws, for all tests of this room."""

import pytest

from deeplab_repro.toy.scenes import make_scene


@pytest.fixture(scope="session")
def scenes():
    """The demo's 50 scenes: those of val with seed 0."""
    return [make_scene(0, index, "val") for index in range(50)]
