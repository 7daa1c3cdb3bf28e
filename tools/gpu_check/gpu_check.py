"""Check and time on a GPU all that runs on one, in a single call of less than seven minutes.

    python tools/gpu_check/gpu_check.py --golden DIR [--out gpu_check.json] [--only STEP ...]

Needs no network. Compares nets and CRF with the original software's outputs in DIR, hides the
driver, the GPU and cuDNN in turn, and measures the nets, the CRF and `predict`, beside the least
times that operations and bytes need. Prints what it finds and writes it as one JSON.

Each step has its own process and time budget: where one fails or takes too long, the others go on.
Exit status 0, 1 where a check fails or a step ends early, 2 where there is no CUDA. A bar of speed
that is not met does not change the exit status: GPUs differ.

To try the script itself without a GPU, with small nets and pictures on the CPU (with
NUMBA_ENABLE_CUDASIM=1 the CRF runs on Numba's simulator, which is slow):

    python tools/gpu_check/gpu_check.py --golden DIR --rehearse
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steps import Checking, Finding, Outcome, Step, fact_text, run_steps

from deeplab_repro.cli.console import say
from deeplab_repro.crf.cuda.device import crf_cuda_problem
from deeplab_repro.errors import DeepLabError, DeviceError, FileError, one_line
from deeplab_repro.files.whole import writable_target, write_atomically

SECONDS = 400  # for all steps together, which need far less than their budgets
STEPS = (
    Step("CRF", "crf.check_crf", 95),  # compiles it, for the CPU too
    Step("nets", "nets.check_nets", 80),
    Step("rates", "rates.measure_rates", 30),  # which the speeds are compared with
    Step("CRF speed", "crf.check_crf_speed", 50),
    Step("net speed", "net_speed.check_speed", 90),
    Step("predict", "photos.check_predict", 75),
    Step("photos", "photos.check_photos", 45),
    Step("TF32", "nets.check_tf32", 60),
    Step("machine", "machine.check_machine", 30),
    Step("errors", "machine.check_errors", 75),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--golden", type=Path, required=True, help="folder of the original software's outputs"
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="%(default)s")
    parser.add_argument(
        "--only", nargs="+", choices=[step.name for step in STEPS], help="some of the steps"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="the same without a GPU, with small nets"
    )
    options = parser.parse_args(argv)
    try:
        if not options.golden.is_dir():
            name = one_line(options.golden)
            raise FileError(f"{name}: is no folder, expected the original software's outputs")
        writable_target(options.out)  # before all the work
        if not options.rehearse:
            check_cuda()
    except DeepLabError as error:
        say(f"error: {error}")
        return 2
    steps = [step for step in STEPS if options.only is None or step.name in options.only]
    return check(steps, Checking(options.golden.absolute(), options.rehearse), options.out)


def check_cuda() -> None:
    """Raise DeviceError where neither nets nor the CRF run on CUDA; tell where one of them does."""
    try:
        from deeplab_repro.engines.opencv_cuda import cuda_problem

        for_nets = cuda_problem()
    except DeviceError as error:  # OpenCV does not load, as a library of NVIDIA's is missing
        for_nets = str(error)
    for_crf = crf_cuda_problem()
    if for_nets and for_crf:
        both = for_nets if for_nets == for_crf else f"{for_nets}; {for_crf}"
        raise DeviceError(both)
    if problem := for_nets or for_crf:
        say(f"warning: some steps will fail: {problem}")


def check(steps: Sequence[Step], job: Checking, out: Path) -> int:
    """Run these steps, tell what each finds, and write it all to `out`; the exit status."""
    start = time.monotonic()
    outcomes: list[Outcome] = []
    for outcome in run_steps(steps, job, SECONDS):
        tell(outcome)
        outcomes.append(outcome)
        result = summary(outcomes, job.rehearsal, time.monotonic() - start)
        with write_atomically(out) as file:  # each time: the machine may be taken away
            file.write(json.dumps(result, indent=1).encode() + b"\n")
    print(conclusion(result))
    return 1 if result["failed"] else 0


def summary(outcomes: Sequence[Outcome], rehearsal: bool, seconds: float) -> dict[str, Any]:
    """All that was found, as plain data."""
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    return {
        "rehearsal": rehearsal,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": seconds,
        "failed": [outcome.step for outcome in outcomes if outcome.failed],
        "bars met": sum(finding.verdict == "met" for finding in findings),
        "bars not met": sum(finding.verdict == "not met" for finding in findings),
        "steps": [asdict(outcome) for outcome in outcomes],
    }


def conclusion(result: dict[str, Any]) -> str:
    """The last line of the report."""
    failed = ", ".join(result["failed"])
    checks = f"failed: {failed}" if failed else "all checks pass"
    met, not_met = result["bars met"], result["bars not met"]
    bars = "a rehearsal" if result["rehearsal"] else f"{met} of {met + not_met} bars are met"
    return f"{checks}; {bars}; {result['seconds']:.0f} s"


def tell(outcome: Outcome) -> None:
    """Print what a step found, one table for each kind of finding."""
    print(f"{outcome.step}: {outcome.seconds:.1f} s of {outcome.budget:g}")
    kinds: dict[str, list[Finding]] = {}
    for finding in outcome.findings:
        kinds.setdefault(finding.kind, []).append(finding)
    for kind, findings in kinds.items():
        names = list(dict.fromkeys(name for each in findings for name in each.facts))
        rows = [[fact_text(each.facts.get(name)) for name in names] for each in findings]
        verdicts = [each.verdict or "" for each in findings]
        print(f"\n  {kind}")
        # Verdicts first: the last fact of some is a long text.
        for line in table(["", *names], [[v, *row] for v, row in zip(verdicts, rows, strict=True)]):
            print(f"    {line}")
    if outcome.error:
        print(f"\n  ended early: {outcome.error}")
    print(flush=True)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, its columns as wide as their longest text."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    for row in (heading, *rows):
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
