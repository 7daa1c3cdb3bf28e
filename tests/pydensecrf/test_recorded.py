"""The drop-in against recorded answers of pydensecrf2 1.1 (tools/record_pydensecrf.py).

This folder is not named pydensecrf: pytest puts tests/ on the path, where `import pydensecrf` would
find it in place of the real one.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from deeplab_repro.pydensecrf import densecrf, utils

TOOL = Path(__file__).resolve().parents[2] / "tools/record_pydensecrf.py"
with np.load(Path(__file__).with_name("recorded.npz")) as archive:
    RECORDED = dict(archive)
INPUTS = {
    key.removeprefix("input/"): RECORDED.pop(key) for key in list(RECORDED) if "input/" in key
}

# Both compute in single precision, in another order: marginals then differ by about 1e-6, more
# where exponents are large. Elementwise functions only differ where a library's log does.
MARGINALS = {"rtol": 0, "atol": 1e-5}
DIVERGENCES = {"rtol": 1e-5, "atol": 1e-4}  # sums of some 50 such terms
ELEMENTWISE = {"rtol": 1e-6, "atol": 1e-6}


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def answers():
    return load_tool().answers(densecrf, utils, INPUTS)


def test_the_same_questions_are_answered(answers):
    assert answers.keys() == RECORDED.keys()


@pytest.mark.parametrize("key", RECORDED)
def test_answer_is_pydensecrf2s(answers, key):
    ours, theirs = answers[key], RECORDED[key]
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if "KL" in key:
        tolerance = DIVERGENCES
    elif key.startswith(("labels", "softmax", "compute", "gaussian", "bilateral")):
        tolerance = ELEMENTWISE
    else:
        tolerance = MARGINALS
    np.testing.assert_allclose(ours, theirs, **tolerance)


def test_recorded_marginals_tell_the_combinations_apart():
    """A mistaken sign, normalisation or transpose moves them by far more than the tolerance."""
    keys = [key for key in RECORDED if key.startswith("NO") and key.endswith(", 2-D")]
    assert len(keys) == 16
    for i, key in enumerate(keys):
        for other in keys[:i]:
            assert np.abs(RECORDED[key] - RECORDED[other]).max() > 1e-3, (key, other)
