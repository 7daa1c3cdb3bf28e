"""How tests load the scripts of tools/: as when they are run, with their folder on the path."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def load(script: str) -> ModuleType:
    """Import a script by its path in tools/, without its ending."""
    path = TOOLS / script
    sys.path.insert(0, str(path.parent))
    try:
        return importlib.import_module(path.name)
    finally:
        sys.path.remove(str(path.parent))


@pytest.fixture
def tool(monkeypatch):
    """Import a script of tools/; its folder stays on the path for what it imports later."""

    def load_for_a_test(script: str) -> ModuleType:
        monkeypatch.syspath_prepend((TOOLS / script).parent)
        return load(script)

    return load_for_a_test
