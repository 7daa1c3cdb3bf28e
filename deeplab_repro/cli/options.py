"""What several commands share: options, and how results and progress are told."""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deeplab_repro.errors import DeepLabError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from deeplab_repro.crf.params import CrfParams

# Labels with a smaller share of the picture are not told.
_LEAST_SHARE = 0.005


def one_line(text: str) -> str:
    """The text without line breaks and terminal codes, which file and layer names may hold."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Tell the user something on stderr, where results never are."""
    print(f"deeplab-repro: {one_line(text)}", file=sys.stderr, flush=True)


def add_variables(parser: argparse.ArgumentParser) -> None:
    """--set KEY=VALUE, collected in a dict."""
    parser.add_argument(
        "--set",
        dest="variables",
        metavar="KEY=VALUE",
        type=_assignment,
        action="append",
        default=[],
        help="replace ${KEY} in the prototxt (default: EXP=voc12, NUM_LABELS=21)",
    )


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key, value


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """IMAGE..., for `pictures.find_pictures`."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a picture, a folder of pictures, or a pattern"
    )


def add_iterations(parser: argparse.ArgumentParser) -> None:
    """--iterations N."""
    parser.add_argument(
        "--iterations",
        metavar="N",
        type=whole_number(0),
        default=10,
        help="of the CRF (default: %(default)s)",
    )


def whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    """What reads a whole number in a range."""
    wanted = f"from {least}" + (f" to {most}" if most < math.inf else "")

    def read(text: str) -> int:
        is_number = text.isdecimal() and text.isascii() and len(text) < 10
        if not (is_number and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number {wanted}")
        return int(text)

    return read


def add_device(parser: argparse.ArgumentParser, what: str, auto: str) -> None:
    """--device auto|cpu|cuda."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help=f"where the {what} runs (default: auto, {auto})",
    )


def numbers(text: str, names: str) -> list[float]:
    """Numbers with commas between them, one for each of the names."""
    try:
        found = [float(number) for number in text.split(",")]
    except ValueError:
        found = []
    wanted = names.count(",") + 1
    if len(found) != wanted:
        counted = {2: "two", 3: "three"}[wanted]
        raise argparse.ArgumentTypeError(f"'{text}' is not {names} ({counted} numbers)")
    return found


def crf_params(text: str) -> "CrfParams":
    """W1,SIGMA_ALPHA,SIGMA_BETA as parameters; the positional kernel's are the paper's."""
    from deeplab_repro.crf.params import CrfParams

    try:
        return CrfParams(*numbers(text, "W1,SIGMA_ALPHA,SIGMA_BETA"))
    except DeepLabError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if that is a terminal and there are several steps; yields what makes one."""
    if total == 1 or not (sys.stderr and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        doing,
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Rich would print the rows above its bar, on stderr: not where they go to a file.
        redirect_stdout=bool(sys.stdout and sys.stdout.isatty()),
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def table_console() -> "Console":
    """Where tables are printed: the standard output, without rich's reading of what is in them."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120  # a pipe has no width; a table must not be cut for it
    return console


def shares(labels: "np.ndarray", n_labels: int) -> str:
    """The labels in a picture, the largest share first; 21 labels are VOC's, and named."""
    import numpy as np

    from deeplab_repro.models import VOC_CLASSES

    counts = np.bincount(labels.ravel())
    names = VOC_CLASSES if n_labels == len(VOC_CLASSES) else range(256)
    return ", ".join(
        f"{names[label]} {counts[label] / counts.sum():.0%}"
        for label in np.argsort(-counts, kind="stable")
        if counts[label] >= _LEAST_SHARE * counts.sum()
    )
