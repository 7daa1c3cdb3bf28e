"""deeplab-repro bench: measure speed and memory on this machine."""

import argparse

from deeplab_repro.cli import bench_crf, bench_net


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "bench",
        help="measure speed and memory on this machine",
        description="Measure speed and memory on this machine.",
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for part in (bench_crf, bench_net):
        part.add_part(parts)
