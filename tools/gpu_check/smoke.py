"""The first minute on a GPU: whether all that runs on one runs there, is right, and how fast.

    python tools/gpu_check/smoke.py --golden DIR [--rehearse]

Needs no network. Each part has its own process, prints what it finds at once, and ends in a line
with "ok" or "BAD" and its seconds; where one fails, the others go on. The last line names the bad
parts. Exit status 0, or 1 where a part is bad.

--rehearse runs it without a GPU: small nets on the CPU, the CRF on Numba's simulator.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from steps import Checking, Finding, Step, fact_text, run_steps

SECONDS = 110  # for all parts together
PARTS = (
    Step("versions", "versions.check_versions", 30),
    Step("Numba", "first_kernel.check_first_kernel", 30),
    Step("CRF", "crf.look_at_crf", 60),  # compiles it
    Step("CRF kernels", "crf_kernels.check_kernels", 30),
    Step("nets", "nets.look_at_nets", 40),
    Step("net speed", "net_speed.look_at_speed", 30),
    Step("CRF designs", "designs.check_mean_fields", 40),
    Step("net designs", "designs.check_engines", 30),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--golden", type=Path, required=True, help="folder of the original software's outputs"
    )
    parser.add_argument("--rehearse", action="store_true", help="the same without a GPU")
    options = parser.parse_args(argv)
    if options.rehearse:
        # For the parts' processes. The simulator warns of each time that it makes up.
        os.environ |= {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONWARNINGS": "ignore"}
    start, bad = time.monotonic(), []
    job = Checking(options.golden.absolute(), options.rehearse)
    for outcome in run_steps(PARTS, job, SECONDS, show):
        told = f" {outcome.error}" if outcome.error else ""
        word = "BAD " if outcome.failed else "ok  "
        print(f"{word} {outcome.step}, {outcome.seconds:.1f} s{told}", flush=True)
        if outcome.failed:
            bad.append(outcome.step)
    seconds = f"{time.monotonic() - start:.0f} s"
    print(f"BAD: {', '.join(bad)}; {seconds}" if bad else f"all parts are ok; {seconds}")
    return 1 if bad else 0


def show(finding: Finding) -> None:
    """Print a finding on a line of its own."""
    facts = ", ".join(f"{name} {fact_text(fact)}" for name, fact in finding.facts.items())
    verdict = f"{finding.verdict} " if finding.verdict else ""
    print(f"     {verdict}{finding.kind}: {facts}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
