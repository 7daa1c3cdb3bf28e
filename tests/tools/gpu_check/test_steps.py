"""tools/gpu_check/steps.py: what a step found stays, however it ends."""

import signal

import pytest

from tests.tools.gpu_check.checks import finds_then_dies, finds_then_fails, finds_then_hangs


@pytest.mark.parametrize(
    ("check", "budget", "error"),
    [
        (finds_then_fails, 60, "step: the GPU\\nis gone"),
        (finds_then_dies, 60, f"step: its process ended ({signal.strsignal(signal.SIGSEGV)})"),
        (finds_then_hangs, 0.1, "step: its process took longer than 0.1 s and was ended"),
    ],
)
def test_what_a_step_found_stays_however_it_ends(tool, job, check, budget, error):
    steps = tool("gpu_check/steps")
    outcome = steps.run_step(steps.Step("step", check, budget), job)
    assert outcome.error.startswith(error)
    assert outcome.failed
    if check is not finds_then_hangs:
        assert outcome.findings == [steps.Finding("kind", {"rehearsal": True}, "pass")]
