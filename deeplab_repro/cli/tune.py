"""deeplab-repro tune: a page on which the CRF's parameters are moved and seen at work."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.console import progress, say
from deeplab_repro.cli.options import (
    add_force,
    add_iterations,
    crf_params,
    positional,
    whole_number,
)
from deeplab_repro.errors import ArgumentError

if TYPE_CHECKING:
    from deeplab_repro.tune.session import Session


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "tune",
        help="a page to move the CRF's parameters, and see what they do to a photo",
        description="Serve a page, on this machine alone, on which the CRF's parameters are moved "
        "and their labels shown at once. Ctrl-C ends it. With --export write a page that needs no "
        "server, with a grid of settings.",
    )
    parser.add_argument("image", metavar="IMAGE", type=Path, help="a picture")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--probs", metavar="F", type=Path, help="its label probabilities, in a file as crf takes it"
    )
    given.add_argument("--model", metavar="NAME", help="a model of the paper, which makes them")
    parser.add_argument(
        "--weights", metavar="F", help="the model's caffemodel (default: what was fetched for it)"
    )
    parser.add_argument(
        "--truth", metavar="F.png", type=Path, help="its true labels, 255 void: to see scores too"
    )
    parser.add_argument(
        "--crf",
        metavar="W1,SIGMA_ALPHA,SIGMA_BETA",
        type=crf_params,
        help="the bilateral kernel to begin with (default: that published with the model, or "
        "4,121,5)",
    )
    parser.add_argument(
        "--positional",
        metavar="W2,SIGMA_GAMMA",
        type=positional,
        help="the positional kernel to begin with (default: that of the model, or 3,3)",
    )
    add_iterations(parser)
    parser.add_argument(
        "--export",
        metavar="DIR",
        type=Path,
        help="write DIR/index.html, with half, once and twice each of --crf's, and end",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=whole_number(0, 65535),
        default=0,
        help="where the page is served (default: 0, one that is free)",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address only, and open no browser"
    )
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or write one."""
    from deeplab_repro.tune.opening import open_session
    from deeplab_repro.tune.session import Source

    if arguments.weights and not arguments.model:
        raise ArgumentError("--weights are a model's: name it, as --model DeepLab-LargeFOV")
    source = Source(arguments.image, arguments.probs, arguments.model, arguments.weights)
    if arguments.export:
        _check(arguments)
    session = open_session(
        source,
        arguments.crf,
        arguments.positional,
        arguments.iterations,
        arguments.truth,
    )
    if not arguments.export:
        return _serve(session, arguments)
    from deeplab_repro.tune.export import export

    path = export(session, arguments.export, progress, arguments.force)
    say(f"open {path} in a browser")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise FileError before the work if the page would take the place of others' files."""
    from deeplab_repro.files.targets import check_targets
    from deeplab_repro.models.loading import files_of
    from deeplab_repro.tune.export import PAGE

    out, files = arguments.export, (arguments.image, arguments.probs, arguments.truth)
    read = [each for each in files if each]
    read += files_of(arguments.model, arguments.weights)
    check_targets({out: [out / PAGE]}, read, arguments.force)


def _serve(session: "Session", arguments: argparse.Namespace) -> int:
    import webbrowser

    from deeplab_repro.crf.dense_crf import load
    from deeplab_repro.tune.server import TuneServer

    with TuneServer(session, arguments.port) as server:
        load(len(session.names))  # here, where Ctrl-C is heard
        print(server.address, flush=True)
        say("the page is at this address, on this machine alone; Ctrl-C ends it")
        if not arguments.no_browser:
            webbrowser.open(server.address)
        server.serve_forever()
    return 0
