"""What several commands print: tables, progress, and what went wrong."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from deeplab_repro.crf.params import CrfParams
    from deeplab_repro.jobs.photos import Photo
    from deeplab_repro.work.outcomes import Failed


_SECONDS_BETWEEN_LINES = 60


def say(text: str) -> None:
    """Tell the user something on stderr, where results never are."""
    print(f"deeplab-repro: {one_line(text)}", file=sys.stderr, flush=True)


def crf_text(crf: "CrfParams | None") -> str:
    """The CRF in words."""
    if crf is None:
        return "no CRF"
    return f"CRF {crf.w1:g},{crf.sigma_alpha:g},{crf.sigma_beta:g}"


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[], None]]:
    """Tells on stderr how far several steps are; yields what makes one.

    A bar on a terminal, elsewhere a line every minute.
    """
    if total == 1:
        yield lambda: None
        return
    if not (sys.stderr and sys.stderr.isatty()):
        yield _told_every_minute(doing, total)
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


def _told_every_minute(doing: str, total: int) -> Callable[[], None]:
    done = done_before = 0
    before = time.monotonic()

    def step() -> None:
        nonlocal done, done_before, before
        done += 1
        now = time.monotonic()
        if now - before >= _SECONDS_BETWEEN_LINES:
            # At the pace of late: what an earlier run had done went by at once.
            left = (total - done) * (now - before) / (done - done_before)
            say(f"{doing}: {done:,} of {total:,}, {duration(left)} left")
            done_before, before = done, now

    return step


@contextmanager
def progress_in_bytes() -> Iterator[Callable[[str, int, int | None], None]]:
    """As `progress`, for files that come from somewhere; yields what is told how far they are.

    It takes where the file is from, how many bytes are there, and of how many (None: not known).
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield _bytes_told_every_minute()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def advance(where: str, done: int, total: int | None) -> None:
            bar.update(task, description=where, completed=done, total=total, visible=True)

        yield advance


def _bytes_told_every_minute() -> Callable[[str, int, int | None], None]:
    before = time.monotonic()

    def advance(where: str, done: int, total: int | None) -> None:
        nonlocal before
        now = time.monotonic()
        if now - before >= _SECONDS_BETWEEN_LINES:
            of = "" if total is None else f" of {total / 1e6:,.1f}"
            say(f"{where}: {done / 1e6:,.1f}{of} MB")
            before = now

    return advance


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as in 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def table_console() -> "Console":
    """Where tables are printed: the standard output, without rich's reading of what is in them."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120  # a pipe has no width; a table must not be cut for it
    return console


def print_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print lines of texts below a heading, all columns but the first set to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, text in enumerate(heading):
        shown.add_column(text, justify="right" if column else "left", no_wrap=not column)
    for row in rows:
        shown.add_row(*map(one_line, row))
    table_console().print(shown)


def print_photos(
    doing: str, total: int, photos: "Iterable[Photo | Failed]"
) -> "tuple[Photo | None, int]":
    """Print a line for each photo, its size, times and labels, or on stderr its error.

    Returns the last photo that was done, if any was, and how many failed.
    """
    from deeplab_repro.work.outcomes import Failed

    last, failures = None, 0
    with progress(doing, total) as advance:
        for photo in photos:
            if isinstance(photo, Failed):
                failures += 1
                say(f"error: {photo.error}")
            else:
                print(one_line(_photo_line(photo)), flush=True)
                last = photo
            advance()
    return last, failures


def _photo_line(photo: "Photo") -> str:
    made = photo.segmentation
    assert made
    height, width = made.size
    times = f"net {made.net_seconds * 1e3:5.0f} ms  " if made.coarse else ""
    if made.refined:
        times += f"CRF {made.crf_seconds * 1e3:5.0f} ms  "
    probs = made.coarse.values if made.coarse else made.marginals
    assert probs is not None
    return f"{photo.path.name}  {width}x{height}  {times}{shares(made.labels, len(probs))}"


def shares(labels: "np.ndarray", n_labels: int) -> str:
    """The labels in a picture, the largest share first; 21 labels are VOC's, and named."""
    import numpy as np

    from deeplab_repro.models.registry import VOC_CLASSES
    from deeplab_repro.show import LEAST_SHARE

    counts = np.bincount(labels.ravel())
    names = VOC_CLASSES if n_labels == len(VOC_CLASSES) else range(256)
    return ", ".join(
        f"{names[label]} {counts[label] / counts.sum():.0%}"
        for label in np.argsort(-counts, kind="stable")
        if counts[label] >= LEAST_SHARE * counts.sum()
    )
