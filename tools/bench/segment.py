"""Where the time of `deeplab-repro segment` goes, and what reading a caffemodel costs.

    python tools/bench/segment.py [--repeat 5]

Uses the full-width DeepLab-LargeFOV with seeded random weights, in a temporary folder. Every run
has its own process, and those that are compared run in turns; numbers are medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deeplab_repro.bench.hardware import this_machine
from deeplab_repro.caffe import write_caffemodel
from deeplab_repro.models.loading import load_net

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "street.jpg"

# Both report seconds and by how much the peak of memory rose, in bytes.
_READ = """
import json, sys, time
from deeplab_repro.bench.hardware import peak_above, reset_peak
from deeplab_repro.caffe import read_caffemodel
before = reset_peak()
start = time.perf_counter()
data = {what}
print(json.dumps([time.perf_counter() - start, peak_above(before)]))
"""
_READ_BYTES = _READ.format(what="open(sys.argv[1], 'rb').read()")
_READ_ARRAYS = _READ.format(what="read_caffemodel(sys.argv[1])")

# The command itself, with a stopwatch around the engine and around the CRF.
_SEGMENT = """
import json, os, sys, time
from deeplab_repro import segmenter
spent = {"net": 0.0, "crf": 0.0}
def timed(name, function):
    def run(*args, **options):
        start = time.perf_counter()
        result = function(*args, **options)
        spent[name] += time.perf_counter() - start
        return result
    return run
make_engine = segmenter.make_engine
def make(*args):
    engine = make_engine(*args)
    engine.blobs = timed("net", engine.blobs)
    return engine
segmenter.make_engine = make
segmenter.DeepLab.refine = timed("crf", segmenter.DeepLab.refine)
leave = os._exit
def report(status):
    print(json.dumps(spent), flush=True)
    leave(status)
os._exit = report
from deeplab_repro.cli import command
sys.argv.insert(1, "segment")
command()
"""


def run(script: str, *arguments: str) -> Any:
    """Run a Python script in its own process: what its last line says, as JSON."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads((done.stdout.splitlines() or ["null"])[-1])


def bench_reading(weights: Path, repeat: int) -> dict[str, float]:
    """Compare reading the file's bytes with reading it as arrays."""
    size = weights.stat().st_size
    plain, arrays = [], []
    for _ in range(repeat):
        plain.append(run(_READ_BYTES, str(weights))[0])
        arrays.append(run(_READ_ARRAYS, str(weights)))
    numbers = {
        "file, MB": size / 1e6,
        "as bytes, ms": 1e3 * statistics.median(plain),
        "as arrays, ms": 1e3 * statistics.median(seconds for seconds, _ in arrays),
        "ratio": statistics.median(a[0] / b for a, b in zip(arrays, plain, strict=True)),
    }
    peaks = [peak for _, peak in arrays if peak is not None]
    return numbers | ({"peak memory over file size": max(peaks) / size} if peaks else {})


def bench_segment(weights: Path, repeat: int) -> dict[str, float]:
    """Time the command on one photo: net, CRF, and everything else, from start to exit.

    Beside it, a process that only starts Python and imports NumPy and OpenCV.
    """
    rows = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            spent = run(_SEGMENT, str(EXAMPLE), "--weights", str(weights), "--out", out)
            total = time.perf_counter() - start
        rest = total - spent["net"] - spent["crf"]
        start = time.perf_counter()
        run("import numpy, cv2")
        bare = time.perf_counter() - start
        rows.append((total, spent["net"], spent["crf"], rest, bare, rest / total / 1e3))
    names = (
        *("in all, ms", "net, ms", "CRF, ms", "everything else, ms"),
        *("Python, NumPy, OpenCV, ms", "share of everything else"),
    )
    medians = [1e3 * statistics.median(column) for column in zip(*rows, strict=True)]
    return dict(zip(names, medians, strict=True))


def main() -> None:
    """Measure, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    print(this_machine())
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "largefov.caffemodel"
        net = load_net("DeepLab-LargeFOV", "random:0")
        write_caffemodel(net, weights)
        for name, numbers in (
            ("reading a caffemodel", bench_reading(weights, repeat)),
            ("segment on one 500x375 photo", bench_segment(weights, repeat)),
        ):
            print(f"\n{name}")
            for number, value in numbers.items():
                print(f"  {number:<26} {value:10.3f}")


if __name__ == "__main__":
    main()
