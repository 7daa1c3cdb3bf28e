"""Compare the CRF's iterations with the speed of this machine's caches, memory and cores.

    python tools/bench/roofline_crf.py [--size 500x375] [--repeat 9]

Counts the bytes and operations of one mean-field iteration (21 labels), measures the machine, and
divides. Run it on an otherwise idle machine.
"""

import argparse
import statistics
from functools import partial

import numba

from deeplab_repro.bench.crf import Work
from deeplab_repro.bench.hardware import this_machine
from deeplab_repro.bench.measures import seconds_of
from deeplab_repro.bench.roofline import (
    LEVELS,
    MULTIPLY_ADDS,
    bytes_by_stage,
    limits_ms,
    machine_rates,
    work_of,
)
from deeplab_repro.cli.bench_growth import image_size
from deeplab_repro.crf.cpu.mean_field import MeanField, photo_kernels


def main() -> None:
    """Count, measure, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", metavar="WxH", type=image_size, default=(375, 500))
    parser.add_argument("--repeat", type=int, default=9)
    arguments = parser.parse_args()
    work = Work(size=arguments.size)
    work.check_memory()
    image, probs = work.inputs()
    field = MeanField(probs.reshape(len(probs), -1), photo_kernels(image, work.params))
    field.run(1)  # the normalisation is known from then on
    print(f"{this_machine()}\n{work.told}")
    for name, n_bytes in bytes_by_stage(field).items():
        print(f"  {name:<10} {n_bytes / 1e6:7.1f} MB an iteration")
    of_iteration = work_of(field)
    print(
        f"  together   {of_iteration['L1'] / 1e6:7.1f} MB, of these from memory "
        f"{of_iteration['memory'] / 1e6:.1f} MB; {of_iteration[MULTIPLY_ADDS] / 1e6:.0f} million "
        "operations"
    )
    for threads in sorted({1, numba.get_num_threads()}):
        numba.set_num_threads(threads)
        rates = machine_rates()
        times = []
        for _ in range(arguments.repeat):
            one, eleven = (seconds_of(partial(field.run, n), 1)[0] for n in (1, 11))
            times.append((eleven - one) / 10)
        measured = 1e3 * statistics.median(times)
        listed = ", ".join(f"{level} {rates[level] / 1e9:.0f} GB/s" for level in LEVELS)
        print(
            f"{threads} threads: {listed}, multiply-adds {rates[MULTIPLY_ADDS] / 1e9:.0f} GFLOP/s"
        )
        limits = limits_ms(of_iteration, rates)
        listed = ", ".join(f"{name} {value:.1f}" for name, value in limits.items())
        print(f"  an iteration takes at least, by the speed of, ms: {listed}")
        slowest = max(limits, key=lambda name: limits[name])
        print(
            f"  measured: {measured:.1f} ms; {limits[slowest] / measured:.0%} of the roofline, "
            f"which is {slowest}'s; {1e3 * of_iteration['L1'] / rates['L2'] / measured:.2f} times "
            "the speed of all bytes from L2"
        )


if __name__ == "__main__":
    main()
