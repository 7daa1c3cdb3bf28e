"""deeplab-repro fetch: get released weights, from the web or from a file."""

import argparse
import json
from pathlib import Path

from deeplab_repro.cli.console import progress_in_bytes, say
from deeplab_repro.errors import one_line


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "fetch",
        help="get a model's released weights, from the web or from a file; resumable",
        description="Download a model's released weights, or copy them from a file, check that "
        "they fit it, and remember where they are: from then on --model NAME needs no --weights, "
        "and --weights NAME finds them. If it is interrupted, run it again to continue. Most of "
        "the authors' hosts are gone: any mirror will do.",
        epilog="They are remembered, and kept unless --to says otherwise, in the user's data "
        "folder, ~/.local/share/deeplab-repro on Linux; the environment variable "
        "DEEPLAB_REPRO_HOME names another.",
    )
    parser.add_argument("name", metavar="NAME", help="a model of the paper, as DeepLab-LargeFOV")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="URL|F",
        help="the caffemodel's address, or the file, as it is or in a .zip (default: the authors' "
        "hosts, one after the other)",
    )
    parser.add_argument(
        "--to",
        dest="folder",
        metavar="DIR",
        type=Path,
        help="keep them as DIR/NAME/train_iter_6000.caffemodel, as `paper --models DIR` expects",
    )
    parser.add_argument(
        "--train2",
        action="store_true",
        help="those trained on train+val, which gave the paper's test scores (default: on train, "
        "which gave its val scores)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch the weights, and print what they are."""
    from dataclasses import asdict

    from deeplab_repro.models.released import fetch

    with progress_in_bytes() as on_bytes:
        fetched = fetch(
            arguments.name,
            arguments.source,
            arguments.folder,
            train2=arguments.train2,
            tell=say,
            on_bytes=on_bytes,
        )
    if arguments.json:
        print(json.dumps(asdict(fetched)))
        return 0
    for name, value in (
        ("file", fetched.path),
        ("size", f"{fetched.size:,} bytes"),
        ("sha256", fetched.sha256),
        ("trained on", fetched.training_set),
    ):
        print(one_line(f"{name:<11} {value}"))
    return 0
