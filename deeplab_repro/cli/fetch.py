"""deeplab-repro fetch: released weights from the web."""

import argparse
import json
from pathlib import Path

from deeplab_repro.cli.console import progress_in_bytes, say
from deeplab_repro.errors import one_line


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "fetch",
        help="get a model's released weights from the web; resumable",
        description="Get a model's released weights, see that they fit it, and remember where they "
        "are: from then on --model NAME needs no --weights, and --weights NAME finds them. Stopped "
        "at any moment, it goes on where it was when it is run again. Of the authors' hosts most "
        "are gone: any mirror will do.",
        epilog="They are remembered, and kept unless --to says otherwise, in the user's data "
        "folder, ~/.local/share/deeplab-repro on Linux; the environment variable "
        "DEEPLAB_REPRO_HOME names another.",
    )
    parser.add_argument("name", metavar="NAME", help="a model of the paper, as DeepLab-LargeFOV")
    parser.add_argument(
        "--from", dest="url", metavar="URL", help="of the caffemodel (default: the authors' hosts)"
    )
    parser.add_argument(
        "--to",
        dest="folder",
        metavar="DIR",
        type=Path,
        help="keep them as DIR/NAME/train_iter_6000.caffemodel, as `paper --models DIR` wants them",
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

    with progress_in_bytes() as advance:
        fetched = fetch(
            arguments.name,
            arguments.url,
            arguments.folder,
            train2=arguments.train2,
            tell=say,
            advance=advance,
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
