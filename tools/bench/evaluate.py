"""How fast `deeplab-repro evaluate` scores a split, beside the obvious loops of NumPy.

    python tools/bench/evaluate.py --voc VOCdevkit/VOC2012 [--split val] [--repeat 3]

Makes results out of the masks: each is moved by some pixels, and its void filled. Every run has its
own process, which is timed from start to end, in turns; all must find the same mean IOU.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from deeplab_repro.bench.hardware import this_machine
from deeplab_repro.files.images import VOID, read_labels
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.voc.devkit import open_devkit

# The first thing that comes to mind; {count} counts the pixels of one image.
_LOOP = """
import json, sys
import numpy as np
from PIL import Image
masks, results, *names = json.loads(sys.stdin.read())
matrix = np.zeros((21, 21), np.int64)
for name in names:
    true = np.array(Image.open(f"{{masks}}/{{name}}.png")).astype(np.int64)
    given = np.array(Image.open(f"{{results}}/{{name}}.png")).astype(np.int64)
    true, given = true[true != 255], given[true != 255]
    {count}
right = matrix.diagonal()
with np.errstate(invalid="ignore"):
    print(np.nan_to_num(100 * right / (matrix.sum(0) + matrix.sum(1) - right)).mean())
"""
LOOPS = {
    "np.histogram2d": _LOOP.format(
        count="matrix += np.histogram2d(true, given, 21, [[0, 21]] * 2)[0].astype(np.int64)"
    ),
    "np.unique": _LOOP.format(
        count="pairs, counts = np.unique(21 * true + given, return_counts=True)\n"
        "    matrix.reshape(-1)[pairs] += counts"
    ),
}

OURS = {"evaluate": [], "evaluate --trimap 1:40": ["--trimap", "1:40"]}


def write_results(voc: Path, split: str, out: Path) -> list[str]:
    """Write a PNG for each mask of the split; the ids."""
    devkit = open_devkit(voc)
    names = devkit.ids(split)
    for name in names:
        labels = read_labels(devkit.mask(name))
        moved = np.roll(labels, (3, 5), axis=(0, 1))
        moved[moved == VOID] = 0
        write_labels(out / f"{name}.png", moved)
    return names


def seconds(command: list[str], given: str = "") -> tuple[float, str]:
    """Run a process: how long it takes, and what it prints."""
    start = time.perf_counter()
    done = subprocess.run(command, input=given, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


def main() -> None:
    """Measure, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--voc", type=Path, required=True, help="with VOC's 21 classes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = write_results(arguments.voc, arguments.split, Path(folder))
        given = json.dumps([str(arguments.voc / "SegmentationClass"), folder, *names])
        ours = [sys.executable, "-m", "deeplab_repro", "evaluate", "--json", "--results", folder]
        ours += ["--voc", str(arguments.voc), "--split", arguments.split]
        times: dict[str, list[float]] = {}
        for _ in range(arguments.repeat):
            found = []
            for name, script in LOOPS.items():
                spent, printed = seconds([sys.executable, "-c", script], given)
                times.setdefault(name, []).append(spent)
                found.append(float(printed))
            for name, options in OURS.items():
                spent, printed = seconds([*ours, *options])
                times.setdefault(name, []).append(spent)
                found.append(json.loads(printed)["mean_iou"])
            assert np.ptp(found) < 1e-9, found
    print(f"{this_machine()}; {len(names)} images, medians of {arguments.repeat}")
    plain = statistics.median(times["evaluate"])
    for name, each in times.items():
        spent = statistics.median(each)
        print(f"{name:<24} {spent:6.2f} s  {spent / plain:5.1f} times evaluate's")


if __name__ == "__main__":
    main()
