"""Time an iteration of training DeepLab-LargeFOV, its share of GEMM, and PyTorch's iteration.

    python tools/bench/train.py [--width 2] [--batch 2] [--crop 321] [--iterations 5] [--rounds 3]
        [--one-thread]

An iteration is forward, backward and update on random data. Both train the same layers, in turns,
each in its own process. Without torch installed, this project is measured alone. With --one-thread
it is the processor's time that is taken: that of a busy machine is nearly that of an idle one.
"""

import os

# Before NumPy is loaded: see deeplab_repro/train/parallel.py.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from deeplab_repro.bench.hardware import this_machine
from deeplab_repro.bench.measures import seconds_of
from deeplab_repro.caffe import read_train_net
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.solver import SolverParameter
from deeplab_repro.train.sgd import Solver

LABELS = 21
Clock = Callable[[], float]


def ours(width: int, batch: int, crop: int, iterations: int, clock: Clock) -> dict[str, Any]:
    """Seconds of every iteration, and the share of thread time that was spent in GEMM."""
    text = MODELS["DeepLab-LargeFOV"].train_prototxt.read_text()
    text = re.sub(r"num_output: (\d+)", lambda m: f"num_output: {int(m[1]) // width}", text)
    text = re.sub(r"batch_size: \d+", f"batch_size: {batch}", text)
    text = re.sub(r"crop_size: \d+", f"crop_size: {crop}", text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.prototxt"
        path.write_text(text)
        net = read_train_net(path)
    parameter = SolverParameter("", 1e-6, momentum=0.9, weight_decay=5e-4)
    solver = Solver(parameter, net)
    rng = np.random.default_rng(0)
    data = rng.normal(0, 60, (batch, 3, crop, crop)).astype(np.float32)
    labels = rng.integers(0, LABELS, (batch, 1, crop, crop)).astype(np.float32)
    spent = [0.0]
    matmul = np.matmul

    def timed(*arguments: Any, **options: Any) -> Any:
        start = clock()
        result = matmul(*arguments, **options)
        spent[0] += clock() - start
        return result

    solver.step([(data, labels)])  # compiles
    np.matmul = timed  # type: ignore[assignment]
    seconds = seconds_of(lambda: solver.step([(data, labels)]), iterations, clock)
    return {"seconds": seconds, "gemm": spent[0] / numba.get_num_threads() / sum(seconds)}


def torchs(width: int, batch: int, crop: int, iterations: int, clock: Clock) -> dict[str, Any]:
    """Seconds of every iteration of PyTorch, on its CPU."""
    import torch
    from torch import nn

    def convolution(taken: int, made: int, kernel: int, pad: int, hole: int) -> list[Any]:
        return [nn.Conv2d(taken, made, kernel, padding=pad, dilation=hole), nn.ReLU(inplace=True)]

    layers, channels = [], 3
    for stage, (convolutions, wide) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]):
        for _ in range(convolutions):
            hole = 2 if stage == 4 else 1
            layers += convolution(channels, wide // width, 3, hole, hole)
            channels = wide // width
        layers.append(nn.MaxPool2d(3, 2 if stage < 3 else 1, 1))
    fc = 1024 // width
    layers += [nn.AvgPool2d(3, 1, 1), *convolution(channels, fc, 3, 12, 12), nn.Dropout(0.5)]
    layers += [*convolution(fc, fc, 1, 0, 1), nn.Dropout(0.5), nn.Conv2d(fc, LABELS, 1)]
    net = nn.Sequential(*layers)
    sgd = torch.optim.SGD(net.parameters(), 1e-6, momentum=0.9, weight_decay=5e-4)
    data = torch.randn(batch, 3, crop, crop) * 60
    labels = torch.randint(0, LABELS, (batch, crop, crop))[:, ::8, ::8]

    def step() -> None:
        sgd.zero_grad()
        nn.functional.cross_entropy(net(data), labels).backward()
        sgd.step()

    step()
    return {"seconds": seconds_of(step, iterations, clock), "version": torch.__version__}


def use_one_thread(peer: str) -> None:
    """Tell this project, or PyTorch, to use one thread."""
    if peer == "ours":
        numba.set_num_threads(1)
    else:
        import torch

        torch.set_num_threads(1)


def main() -> None:
    """Measure in turns, and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("width", 2), ("batch", 2), ("crop", 321), ("iterations", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one-thread", action="store_true")
    parser.add_argument("--one", choices=("ours", "torch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = (arguments.width, arguments.batch, arguments.crop, arguments.iterations)
    if arguments.one:
        clock = time.perf_counter
        if arguments.one_thread:
            clock = time.process_time
            use_one_thread(arguments.one)
        print(json.dumps((ours if arguments.one == "ours" else torchs)(*work, clock)))
        return
    peers = ["ours"] + ["torch"] * (importlib.util.find_spec("torch") is not None)
    print(this_machine())
    print(f"LargeFOV, width/{work[0]}, batch {work[1]}, {work[2]}x{work[2]}, runs of {work[3]}")
    seconds: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(arguments.rounds):
        for peer in peers:
            command = [sys.executable, *sys.argv, "--one", peer]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(run.stdout)
            seconds[peer] += found.pop("seconds")
            print(peer, f"{statistics.median(seconds[peer]):.3f} s an iteration", found, flush=True)
    if len(peers) > 1:
        ratio = statistics.median(seconds["ours"]) / statistics.median(seconds["torch"])
        print(f"times PyTorch's: {ratio:.2f}")


if __name__ == "__main__":
    main()
