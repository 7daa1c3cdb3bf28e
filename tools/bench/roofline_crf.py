"""Compare the CRF's iterations with the speed of this machine's caches, memory and cores.

    python tools/bench/roofline_crf.py [--repeat 9]

Counts the bytes and operations of one mean-field iteration (500x375 pixels, 21 labels), measures
the machine, and divides. Run it on an otherwise idle machine.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np

from deeplab_repro.bench.crf import Work
from deeplab_repro.bench.hardware import this_machine
from deeplab_repro.bench.measures import seconds_of
from deeplab_repro.crf.cpu.mean_field import Kernel, MeanField
from deeplab_repro.crf.cpu.threads import run_together, share
from deeplab_repro.crf.cpu.vectors import LANES, load, multiply_add, store, zeros
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.machine.jit import jit

LEVELS = {"L1": 16, "L2": 512, "L3": 6_000, "memory": 200_000}  # kilobytes that a thread reads
WIDTH = (0,) * 4


@jit
def read_all(team: Any, array: Any, times: Any, result: Any) -> None:
    """Each thread reads its part of an array so many times."""
    first, last = share(team, 0, array.size // (LANES * len(WIDTH)))
    x = y = zeros(WIDTH)
    for _ in range(times):
        for i in range(first, last - 1, 2):
            x = x + load(array, i * LANES * len(WIDTH), WIDTH)
            y = y + load(array, (i + 1) * LANES * len(WIDTH), WIDTH)
    store(result, team.thread * LANES * len(WIDTH), x + y)


@jit
def multiply_all(team: Any, times: Any, result: Any) -> None:
    """Twelve independent vectors of multiply-adds."""
    a = b = c = load(result, team.thread * LANES * len(WIDTH), WIDTH)
    factor = np.float32(0.999)
    for _ in range(times):
        a = multiply_add(a, factor, a)
        b = multiply_add(b, factor, b)
        c = multiply_add(c, factor, c)
    store(result, team.thread * LANES * len(WIDTH), a + b + c)


def best(run: Callable[[], None]) -> float:
    """The least seconds of some runs."""
    return min(seconds_of(run, 8)[1:])


def measure_machine() -> dict[str, float]:
    """GB/s of reading from each level, and GFLOP/s of multiply-adds, on Numba's threads."""
    threads = numba.get_num_threads()
    result = np.zeros(threads * LANES * len(WIDTH), np.float32)
    rates = {}
    for level, kilobytes in LEVELS.items():
        array = np.ones(threads * kilobytes * 256, np.float32)  # zeros would all be one page
        times = max(1, 200_000 // kilobytes)
        seconds = best(partial(run_together, read_all, array, times, result))
        rates[level] = array.nbytes * times / seconds / 1e9
    times = 5_000_000
    seconds = best(partial(run_together, multiply_all, times, result))
    rates["multiply-add"] = threads * times * 3 * 2 * LANES * len(WIDTH) / seconds / 1e9
    return rates


def count(field: MeanField) -> tuple[dict[str, float], float]:
    """Megabytes loaded and stored by each stage of an iteration; millions of operations in all."""
    lattice, lanes = field._lattice, field._unary.shape[1]
    n, corners = lattice.points[-1], lattice.kernel_starts[-1]
    visits, row = len(lattice.chains), 4 * lanes
    stages = {
        "slice": n * (corners * (row + 8) + row),
        "softmax": n * 6 * row,
        "splat": n * (corners * (2 * row + 8) + row),
        "zeroing": lattice.rows[-1] * row,
        "blur": visits * (2 * row + 4) + len(lattice.ghosts) * 5 * row,
    }
    operations = lanes * (n * (4 * corners + 25) + 3 * visits)
    return {name: n_bytes / 1e6 for name, n_bytes in stages.items()}, operations / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=9)
    repeat = parser.parse_args().repeat
    print(this_machine())
    work = Work()
    image, probs = work.inputs()
    position, bilateral = kernel_features(image, work.params)
    kernels = [Kernel(position, work.params.w2), Kernel(bilateral, work.params.w1)]
    field = MeanField(probs.reshape(len(probs), -1), kernels)
    stages, operations = count(field)
    megabytes = sum(stages.values())
    for name, value in stages.items():
        print(f"  {name:<10} {value:7.1f} MB an iteration")
    print(f"  together   {megabytes:7.1f} MB and {operations:.0f} million operations")
    for threads in sorted({1, numba.get_num_threads()}):
        numba.set_num_threads(threads)
        rates = measure_machine()
        times = []
        for _ in range(repeat):
            one, eleven = (seconds_of(partial(field.run, n), 1)[0] for n in (1, 11))
            times.append((eleven - one) / 10)
        measured = 1e3 * statistics.median(times)
        listed = ", ".join(f"{level} {rates[level]:.0f} GB/s" for level in LEVELS)
        print(f"{threads} threads: {listed}, multiply-adds {rates['multiply-add']:.0f} GFLOP/s")
        at_rate = {level: megabytes / rates[level] for level in LEVELS}
        listed = ", ".join(f"{level} {value:.1f}" for level, value in at_rate.items())
        print(f"  all bytes at the rate of, ms: {listed}")
        print(f"  all operations at full rate: {operations / rates['multiply-add']:.1f} ms")
        print(
            f"  measured: {measured:.1f} ms, {measured / at_rate['L2']:.1f} times the bytes at L2's"
        )


if __name__ == "__main__":
    main()
