"""deeplab-repro segment: photos in, label pictures out."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.cli.options import add_variables, one_line, say
from deeplab_repro.errors import DeepLabError

if TYPE_CHECKING:
    from deeplab_repro.crf.params import CrfParams
    from deeplab_repro.segmenter import Segmentation

# As pictures.OUTPUTS, which takes too long to load for --help; a test compares them.
_OUTPUTS = ("labels", "overlay", "scores", "probs", "marginals")
# Labels with a smaller share of the picture are not printed.
_LEAST_SHARE = 0.005


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "segment",
        help="segment photos: one label picture each",
        description="Segment photos. Writes <stem>.png, an indexed PNG with the VOC palette, each.",
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a picture, a folder of pictures, or a pattern"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        metavar="NAME",
        default="DeepLab-LargeFOV",
        help="a model of the paper (default: %(default)s)",
    )
    which.add_argument("--prototxt", metavar="F", help="another net, of the authors' or upstream's")
    parser.add_argument(
        "--weights",
        metavar="F",
        help="the caffemodel, or random:SEED to try without one (the labels then mean nothing)",
    )
    add_variables(parser)
    crf = parser.add_mutually_exclusive_group()
    crf.add_argument(
        "--crf",
        metavar="W1,SIGMA_ALPHA,SIGMA_BETA",
        type=_crf,
        default="model",
        help="CRF parameters (default: those published with the model)",
    )
    crf.add_argument("--no-crf", dest="crf", action="store_const", const=None, help="net only")
    parser.add_argument(
        "--iterations",
        metavar="N",
        type=_iterations,
        default=10,
        help="of the CRF (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the net runs (default: the best there is)",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out"), help="default: %(default)s"
    )
    parser.add_argument(
        "--save",
        metavar="WHAT",
        type=_outputs,
        default=(),
        help=f"besides the labels, a comma-separated list of {', '.join(_OUTPUTS[1:])}",
    )
    parser.set_defaults(run=run)


def _crf(text: str) -> "CrfParams | str":
    from deeplab_repro.crf.params import CrfParams

    if text == "model":  # the default: those published with the model
        return text
    try:
        w1, sigma_alpha, sigma_beta = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not W1,SIGMA_ALPHA,SIGMA_BETA (three numbers)"
        ) from None
    try:
        return CrfParams(w1, sigma_alpha, sigma_beta)
    except DeepLabError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _iterations(text: str) -> int:
    if not (text.isdecimal() and text.isascii()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def _outputs(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in _OUTPUTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(_OUTPUTS)}")
    return names


def run(arguments: argparse.Namespace) -> int:
    """Segment every picture; exit status 2 if one of them could not be."""
    from deeplab_repro.pictures import Done, check_outputs, find_pictures, segment_files
    from deeplab_repro.segmenter import RANDOM, DeepLab

    # Else the CRF's threads spin while they wait, and take the cores from the next picture's net.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    paths = find_pictures(arguments.images)
    check_outputs(paths, arguments.out, arguments.save)
    model = DeepLab(
        arguments.model if arguments.prototxt is None else Path(arguments.prototxt),
        arguments.weights,
        device=arguments.device,
        crf=arguments.crf,
        iterations=arguments.iterations,
        variables=dict(arguments.variables),
    )
    failures = done = 0
    with _progress(len(paths)) as advance:
        for result in segment_files(model, paths, arguments.out, arguments.save):
            if isinstance(result, Done):
                print(one_line(row(result.path, result.segmentation)), flush=True)
                done += 1
            else:
                failures += 1
                say(f"error: {result.error}")
            advance()
    if done:
        say(f"net '{model.net.name}' ran on {model.device}, {_crf_text(model.crf)}")
        if str(arguments.weights).startswith(RANDOM):
            say("the weights are random, so the labels mean nothing")
        say(f"results are in {arguments.out}")
    return 2 if failures else 0


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if that is a terminal and there are several pictures; yields its step."""
    if total == 1 or not (sys.stderr and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "segmenting",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Rich would print the rows above its bar, on stderr: not where they go to a file.
        redirect_stdout=bool(sys.stdout and sys.stdout.isatty()),
    ) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def row(path: Path, segmentation: "Segmentation") -> str:
    """One line about a picture: its size, the times taken, and the labels with their shares."""
    import numpy as np

    from deeplab_repro.models import VOC_CLASSES

    height, width = segmentation.labels.shape
    counts = np.bincount(segmentation.labels.ravel())
    names = VOC_CLASSES if len(segmentation.scores) == len(VOC_CLASSES) else range(256)
    shares = [
        f"{names[label]} {counts[label] / counts.sum():.0%}"
        for label in np.argsort(-counts, kind="stable")
        if counts[label] >= _LEAST_SHARE * counts.sum()
    ]
    times = f"net {segmentation.net_seconds * 1e3:5.0f} ms"
    if segmentation.marginals is not None:
        times += f"  CRF {segmentation.crf_seconds * 1e3:5.0f} ms"
    return f"{path.name}  {width}x{height}  {times}  {', '.join(shares)}"


def _crf_text(crf: "CrfParams | None") -> str:
    if crf is None:
        return "no CRF"
    return f"CRF {crf.w1:g},{crf.sigma_alpha:g},{crf.sigma_beta:g} on cpu"
