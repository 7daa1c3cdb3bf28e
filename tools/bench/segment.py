"""Where the time of `deeplab-repro segment` goes, and what reading a caffemodel costs.

    python tools/bench/segment.py [--repeat 5]

Uses the full-width DeepLab-LargeFOV with seeded random weights, in a temporary folder. Every run is
a process of its own, alternating between what is compared; figures are medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deeplab_repro.bench.hardware import this_machine

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "street.jpg"

_WRITE = """
import sys
from deeplab_repro.caffe import read_net, write_caffemodel
from deeplab_repro.models.registry import get_model
net = read_net(get_model("DeepLab-LargeFOV").test_prototxt)
net.fill_random(0)
write_caffemodel(net, sys.argv[1])
"""

# Both report seconds and how much the peak resident memory rose, in bytes.
_MEASURE = """
import json, resource, sys, time
from deeplab_repro.caffe import read_caffemodel
def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
before = peak()
start = time.perf_counter()
{work}
print(json.dumps([time.perf_counter() - start, peak() - before]))
"""
_READ_BYTES = _MEASURE.format(work="data = open(sys.argv[1], 'rb').read()")
_READ_ARRAYS = _MEASURE.format(work="model = read_caffemodel(sys.argv[1])")

# The command itself, with a stopwatch around OpenCV's forward and around the CRF.
_SEGMENT = """
import json, os, sys, time
spent = {"forward": 0.0, "crf": 0.0}
def timed(name, function):
    def run(*args):
        start = time.perf_counter()
        result = function(*args)
        spent[name] += time.perf_counter() - start
        return result
    return run
import cv2
read = cv2.dnn.readNetFromCaffe
class Timed:
    def __init__(self, *args):
        self.net = read(*args)
        self.forward = timed("forward", self.net.forward)
    def __getattr__(self, name):
        return getattr(self.net, name)
cv2.dnn.readNetFromCaffe = Timed
import deeplab_repro.segmenter
deeplab_repro.segmenter.DeepLab.refine = timed("crf", deeplab_repro.segmenter.DeepLab.refine)
leave = os._exit
def report(status):
    print(json.dumps(spent), flush=True)
    leave(status)
os._exit = report
from deeplab_repro.cli import command
sys.argv.insert(1, "segment")
command()
"""


def run(script: str, *arguments: str) -> str:
    """The last line that a Python script prints in a process of its own."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return (done.stdout.splitlines() or [""])[-1]


def bench_reading(weights: Path, repeat: int) -> dict[str, float]:
    """Reading the file's bytes against reading it as arrays."""
    pairs = [
        (json.loads(run(_READ_BYTES, str(weights))), json.loads(run(_READ_ARRAYS, str(weights))))
        for _ in range(repeat)
    ]
    size = weights.stat().st_size
    return {
        "file_mb": size / 1e6,
        "bytes_ms": statistics.median(b[0] for b, _ in pairs) * 1e3,
        "arrays_ms": statistics.median(a[0] for _, a in pairs) * 1e3,
        "ratio": statistics.median(a[0] / b[0] for b, a in pairs),
        "peak_memory_per_file_size": max(a[1] for _, a in pairs) / size,
    }


def bench_segment(weights: Path, repeat: int) -> dict[str, float]:
    """The command on one photo: forward, CRF, and everything else, from start to exit.

    Beside it, what a process costs that only starts Python and imports NumPy and OpenCV.
    """
    totals, forwards, crfs, bare = [], [], [], []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            spent = json.loads(run(_SEGMENT, str(EXAMPLE), "--weights", str(weights), "--out", out))
            totals.append(time.perf_counter() - start)
        forwards.append(spent["forward"])
        crfs.append(spent["crf"])
        start = time.perf_counter()
        run("import numpy, cv2")
        bare.append(time.perf_counter() - start)
    rests = [t - f - c for t, f, c in zip(totals, forwards, crfs, strict=True)]
    return {
        "total_ms": statistics.median(totals) * 1e3,
        "forward_ms": statistics.median(forwards) * 1e3,
        "crf_ms": statistics.median(crfs) * 1e3,
        "everything_else_ms": statistics.median(rests) * 1e3,
        "python_numpy_opencv_ms": statistics.median(bare) * 1e3,
        "everything_else_share": statistics.median(
            rest / total for rest, total in zip(rests, totals, strict=True)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    print(this_machine())
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "largefov.caffemodel"
        run(_WRITE, str(weights))
        for name, figures in (
            ("reading a caffemodel", bench_reading(weights, repeat)),
            ("segment on one 500x375 photo", bench_segment(weights, repeat)),
        ):
            print(f"\n{name}")
            for figure, value in figures.items():
                print(f"  {figure:<26} {value:10.3f}")


if __name__ == "__main__":
    main()
