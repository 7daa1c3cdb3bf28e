"""deeplab-repro bench net: measure nets on this machine's CPU."""

import argparse
import json
from pathlib import Path
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
from deeplab_repro.cli.options import add_variables, variables_of, whole_number
from deeplab_repro.errors import one_line


def add_part(parts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of this part of the command."""
    net = parts.add_parser(
        "net",
        help="the net on the CPU, beside plain cv2, onnxruntime and PyTorch where installed",
        description="Measure the net on the CPU: this package's engines, plain cv2, onnxruntime "
        "and PyTorch (those that are installed) in turns, each in a process of its own, up to the "
        "scores on the net's own grid; their memory, and how their time grows with the image's "
        "size, beside what its operations take at the speed of this machine's matrix products. "
        "--engine auto goes by these times from then on.",
    )
    which = net.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        metavar="NAME",
        default="DeepLab-LargeFOV",
        help="a model of the paper (default: %(default)s)",
    )
    which.add_argument("--prototxt", metavar="F", help="another net, of the authors' or upstream's")
    net.add_argument(
        "--weights",
        metavar="F",
        default="random:1",
        help="a caffemodel, the name of a model whose weights were fetched, or random:SEED "
        "(default: %(default)s)",
    )
    add_variables(net)
    net.add_argument(
        "--size",
        metavar="WxH[,WxH...]",
        type=image_sizes,
        default=[],
        help="of a photo, which is padded as segment does (default: the net's own size); with "
        "several, all is measured at the first, and how the time grows at all of them",
    )
    net.add_argument(
        "--repeat",
        metavar="N",
        type=whole_number(1),
        default=5,
        help="rounds, of which medians are taken (default: %(default)s)",
    )
    net.add_argument(
        "--threads",
        metavar="N",
        type=whole_number(1, 1024),
        help="of each contender (default: one a core)",
    )
    add_chart(net)
    net.add_argument("--json", action="store_true", help="print JSON, with every run")
    net.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the numbers."""
    from deeplab_repro.bench.net import bench_net

    model = Path(arguments.prototxt) if arguments.prototxt else arguments.model
    check_chart(arguments, [arguments.prototxt, arguments.weights])
    report = bench_net(
        model,
        arguments.weights,
        sizes=arguments.size,
        threads=arguments.threads,
        repeat=arguments.repeat,
        variables=variables_of(arguments),
        progress=progress,
    )
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        _print(report)
    _draw(arguments, report)
    return 0


def _draw(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    from deeplab_repro.bench.contenders import CONTENDERS

    rate = f"{report['products_a_second'] / 1e9:.0f} GFLOP/s"
    name = report["net"] if arguments.prototxt else arguments.model
    draw_chart(
        arguments,
        [f"{name}, {report['threads']} threads", machine_in_brief(report)],
        report["growth"]["rows"],
        {name: each.title for name, each in CONTENDERS.items()},
        [name for name, each in CONTENDERS.items() if each.ours],
        f"floor: its operations at {rate}",
    )


def _print(report: dict[str, Any]) -> None:
    from deeplab_repro.bench.contenders import CONTENDERS

    def say(text: str) -> None:
        table_console().print(one_line(text), soft_wrap=True)

    titles = {name: each.title for name, each in CONTENDERS.items()}
    height, width = report["size"]
    say(report["machine"])
    say(
        f"{report['net']} to '{report['blob']}', {width}x{height} pixels, "
        f"{report['threads']} threads, medians of {report['repeat']} runs in turns"
    )
    _print_runs(report, titles)
    for name, why in report["absent"].items():
        say(f"without {titles[name]}: {why}")
    others = [titles[name] for name, run in report["runs"].items() if not run["same_scores"]]
    if others:
        say(f"NOT the same scores as {titles['opencv']}: {', '.join(others)}")
    else:
        largest = max(run["difference"] for run in report["runs"].values())
        say(f"all give the same scores: they differ by up to {largest:.0e} standard deviations")
    _print_growth(report, titles)


def _print_runs(report: dict[str, Any], titles: dict[str, str]) -> None:
    """Print all runs, with how many times faster they are than plain cv2 and the fastest peer."""
    against = report["against"]
    peers = [
        peer for peer in dict.fromkeys(("plain_opencv", *list(against)[:1])) if peer in against
    ]
    rows = []
    for name, run in report["runs"].items():
        faster = [against[peer][name]["median_of_ratios"] for peer in peers]
        peak = run["peak_bytes"]
        rows.append(
            [
                titles[name],
                f"{run['median_ms']:.1f}",
                *(f"{ratio:.2f}" for ratio in faster),
                f"{run['build_ms']:.0f}",
                f"{run['first_run_ms']:.0f}",
                "" if peak is None else f"{peak / 1e6:.0f}",
            ]
        )
    than = [f"times faster than {titles[peer]}" for peer in peers]
    print_table(["", "ms", *than, "ms to build", "first run, ms", "peak MB"], rows)


def _print_growth(report: dict[str, Any], titles: dict[str, str]) -> None:
    growth = report["growth"]
    operations = [f"{row['operations'] / 1e9:.1f}" for row in growth["rows"]]
    print_growth(growth, titles, {"GFLOP": operations})
    table_console().print(
        "floor: the time of the net's multiplications and additions at the "
        f"{report['products_a_second'] / 1e9:.0f} GFLOP/s of NumPy's float32 matrix products on as "
        "many threads; in brackets the floor's share of the time, which may be over 100%, because "
        "Winograd's convolutions multiply less",
        soft_wrap=True,
    )
