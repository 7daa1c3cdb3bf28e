"""deeplab-repro bench crf: measure the dense CRF on this machine."""

import argparse
import json
from typing import Any

from deeplab_repro.cli.bench_growth import (
    add_chart,
    check_chart,
    draw_chart,
    image_sizes,
    machine_in_brief,
    print_growth,
)
from deeplab_repro.cli.console import print_table, progress, table_console
from deeplab_repro.cli.options import add_iterations, crf_params, whole_number
from deeplab_repro.errors import one_line

_OURS = {"all_threads": "all threads", "one_thread": "one thread", "cuda": "CUDA"}
_PEER = {"pydensecrf2": "pydensecrf2"}
_NAMES = _OURS | _PEER


def add_part(parts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of this part of the command."""
    crf = parts.add_parser(
        "crf",
        help="the dense CRF, beside pydensecrf2 where that is installed",
        description="Measure the dense CRF: one thread, all threads, CUDA and pydensecrf2 (those "
        "that are there) in turns, its memory, and how both grow with pixels and labels.",
    )
    crf.add_argument("--image", metavar="F", help="a picture (default: a scene drawn for this)")
    crf.add_argument(
        "--size",
        metavar="WxH[,WxH...]",
        type=image_sizes,
        help="crop or repeat it to this size (default: 500x375, or the picture's own); with "
        "several, all is measured at the first, and how the time grows at all of them",
    )
    crf.add_argument(
        "--labels",
        metavar="N",
        type=whole_number(1, 255),
        default=21,
        help="how many (default: %(default)s)",
    )
    crf.add_argument(
        "--crf",
        metavar="W1,SIGMA_ALPHA,SIGMA_BETA",
        type=crf_params,
        default="4,121,5",
        help="default: %(default)s",
    )
    add_iterations(crf)
    crf.add_argument(
        "--repeat",
        metavar="N",
        type=whole_number(1),
        default=10,
        help="runs, of which medians are taken (default: %(default)s)",
    )
    crf.add_argument(
        "--large", action="store_true", help="64 times the pixels too: minutes, and gigabytes"
    )
    add_chart(crf)
    crf.add_argument("--json", action="store_true", help="print JSON, with every run")
    crf.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the numbers."""
    from deeplab_repro.bench.crf import Work, bench_crf
    from deeplab_repro.files.images import read_image

    check_chart(arguments, [arguments.image])
    size = (375, 500)
    if arguments.image:
        size = read_image(arguments.image).shape[:2]
    sizes = arguments.size or [size]
    work = Work(
        size=sizes[0],
        labels=arguments.labels,
        params=arguments.crf,
        iterations=arguments.iterations,
        picture=arguments.image,
    )
    report = bench_crf(work, arguments.repeat, arguments.large, progress, sizes[1:])
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        _print(report)
    title = f"dense CRF, {work.labels} labels, {work.iterations} iterations"
    draw_chart(
        arguments,
        [title, machine_in_brief(report)],
        report["pixels"]["rows"],
        {name: f"deeplab-repro, {text}" for name, text in _OURS.items()} | _PEER,
        list(_OURS),
        "floor: its iterations at the machine's speed",
    )
    return 0


def _print(report: dict[str, Any]) -> None:
    console = table_console()

    def say(text: str) -> None:
        console.print(one_line(text), soft_wrap=True)

    work, memory = report["work"], report["memory"]
    height, width = work["size"]
    params = ",".join(f"{value:g}" for value in work["params"])
    say(report["machine"])
    say(
        f"{width}x{height} pixels, {work['labels']} labels, {work['iterations']} iterations, CRF "
        f"{params}, medians of {report['repeat']} runs in turns"
    )
    _print_runs(report)
    for name, why in report["absent"].items():
        say(f"without {_NAMES.get(name, name)}: {why}")
    if memory["peak_bytes"] is not None:
        say(
            f"peak memory above the inputs {memory['peak_bytes'] / 1e6:.0f} MB, "
            f"{memory['arrays']:.1f} float32 arrays of labels x pixels; with more labels "
            f"{memory['arrays_a_label']:.1f} such arrays and {memory['fixed_bytes'] / 1e6:.0f} MB"
        )
    pixels, labels = report["pixels"], report["labels"]
    print_growth(pixels, _NAMES, {"peak MB": [_peak(row) for row in pixels["rows"]]})
    say(
        "floor: the time of the iterations' loads, stores and operations, if nothing else were "
        f"done, at this machine's {report['rates']['memory'] / 1e9:.0f} GB/s from memory, "
        f"{report['rates']['L1'] / 1e9:.0f} GB/s from the first cache and "
        f"{report['rates']['multiply-adds'] / 1e9:.0f} GFLOP/s of multiply-adds; in brackets the "
        "floor's share of the time"
    )
    if pixels["slope_of_memory"] is not None:
        say(f"slope of log memory over log pixels: {pixels['slope_of_memory']:.3f}")
    rows = [[str(row["labels"]), f"{row['median_ms']:.1f}", _peak(row)] for row in labels["rows"]]
    print_table(["labels, all threads", "ms", "peak MB"], rows)
    if labels["slope_of_time"] is not None:
        say(f"slope of log time over log labels: {labels['slope_of_time']:.3f}")


def _print_runs(report: dict[str, Any]) -> None:
    heading = ["", "ms", "times faster", "in pairs", "other labels", "difference"]
    rows = []
    for name, run in report["runs"].items():
        row = [_NAMES.get(name, name), f"{run['median_ms']:.1f}"]
        ratios = report["against_pydensecrf2"].get(name)
        if ratios:
            row += [f"{ratios['ratio_of_medians']:.2f}", f"{ratios['median_of_ratios']:.2f}"]
            row += [str(ratios["labels_differing"]), f"{ratios['largest_difference']:.1e}"]
        rows.append(row)
    print_table(heading, rows)


def _peak(row: dict[str, Any]) -> str:
    return "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}"
