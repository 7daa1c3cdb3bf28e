"""tools/gpu_check/steps.py: what a step found stays, however it ends."""

import signal

import pytest

CHECKS = "tests.tools.gpu_check.checks."


@pytest.mark.parametrize(
    ("check", "budget", "error"),
    [
        ("finds_then_fails", 60, "step: the GPU\\nis gone"),
        ("finds_then_dies", 60, f"step: its process ended ({signal.strsignal(signal.SIGSEGV)})"),
        ("finds_then_hangs", 0.1, "step: its process took longer than 0.1 s and was ended"),
    ],
)
def test_what_a_step_found_stays_however_it_ends(tool, job, check, budget, error):
    steps = tool("gpu_check/steps")
    shown = []
    outcome = steps.run_step(steps.Step("step", CHECKS + check, budget), job, shown.append)
    assert outcome.error.startswith(error)
    assert outcome.failed
    if check != "finds_then_hangs":
        assert outcome.findings == shown == [steps.Finding("kind", {"rehearsal": True}, "pass")]


def test_steps_share_their_time(tool, job, monkeypatch):
    steps = tool("gpu_check/steps")
    clock, given = [0.0], []

    def run_step(step, job, _):
        given.append((step.budget, list(job.found)))
        clock[0] += 7
        return steps.Outcome(step.name, step.budget, 7, [], None)

    monkeypatch.setattr(steps, "run_step", run_step)
    monkeypatch.setattr(steps.time, "monotonic", lambda: clock[0])
    three = [steps.Step(name, "", 8) for name in "abc"]
    *_, last = steps.run_steps(three, job, 12)
    assert given == [(8, []), (5, ["a"])]
    assert last.error == "not run: all 12 s are spent"
    assert last.failed


def test_ways_are_timed_in_turns(tool):
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    times = tool("gpu_check/steps").in_turns(runs, 2)
    assert order == list("ababab")  # the first round is not counted
    assert {name: len(each) for name, each in times.items()} == {"a": 2, "b": 2}
