"""What several commands print: tables, progress, and what went wrong."""

import itertools
import os
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from deeplab_repro.crf.params import CrfParams
    from deeplab_repro.jobs.finding import Found
    from deeplab_repro.jobs.photos import Outcome, Photo


_SECONDS_BETWEEN_LINES = 60


def say(text: str) -> None:
    """Tell the user something on stderr, where results never are; the work goes on unheard too."""
    with suppress(OSError):  # a full disk, a pipe that nobody reads
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


def say_tiles(path: Path, told: str, total: int) -> Callable[[], None]:
    """Tell that a photo is run in tiles, and every minute how far; gives what each tile calls."""
    say(f"{path.name}: {told}")
    return _told_every_minute(f"{path.name}: tiles", total)


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


def print_table(
    heading: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: int = 1,
    beside: Collection[int] = (),
) -> None:
    """Print lines of texts below a heading; no number is cut or broken, at any width.

    left: so many columns are set to the left, the others to the right. Where the terminal is too
    narrow, headings break between words; then the table goes on below with other columns, each part
    with the first column; then the first column breaks between words. beside: columns that stay in
    one part with the column before them.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = table_console()
    columns = [[text] for text in heading]
    for row in rows:
        for at, column in enumerate(columns):
            column.append(one_line(row[at]) if at < len(row) else "")
    if _table_width(columns) > console.width:
        columns = [[_broken(head, _width(cells)), *cells] for head, *cells in columns]
    for part in _parts(columns, beside, console.width):
        shown = [columns[at] for at in part]
        if _table_width(shown) > console.width:
            left_over = console.width - _table_width(shown[1:]) - 2
            shown[0] = [_broken(text, left_over) for text in shown[0]]
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for at, column in zip(part, shown, strict=True):
            table.add_column(column[0], justify="left" if at < left else "right", no_wrap=True)
        for cells in itertools.islice(zip(*shown, strict=True), 1, None):
            table.add_row(*cells)
        # What is too wide still goes over the edge, as any long line.
        console.width = max(console.width, _table_width(shown))
        console.print(table)


def _broken(text: str, width: int = 1) -> str:
    """A text in lines of this width, or of a longer word; a hyphen ends a word."""
    return "\n".join(textwrap.wrap(text, max(1, width), break_long_words=False))


def _width(texts: Iterable[str]) -> int:
    """The cells that the longest line of some texts takes on a terminal."""
    from rich.cells import cell_len

    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def _table_width(columns: Sequence[Sequence[str]]) -> int:
    """The width of a table: two blanks between its columns, and one on either side."""
    return sum(_width(texts) + 2 for texts in columns)


def _parts(
    columns: Sequence[Sequence[str]], beside: Collection[int], width: int
) -> Iterator[list[int]]:
    """The columns of each part of a table, as many as fit beside the first column."""
    part = [0]
    starts = [at for at in range(1, len(columns)) if at not in beside]
    for start, end in itertools.pairwise([*starts, len(columns)]):
        group = range(start, end)
        if len(part) > 1 and _table_width([columns[at] for at in (*part, *group)]) > width:
            yield part
            part = [0]
        part += group
    yield part


@dataclass
class Told:
    """What became of photos: the last that was done, how many were, failed, and were passed over.

    skipped: by reason.
    """

    last: "Photo | None" = None
    done: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        from deeplab_repro.jobs.finding import skipped_text

        text = f"{self.done} done"
        if self.failed:
            text += f", {self.failed} failed"
        if self.skipped:
            text += f", {self.skipped.total()} skipped ({skipped_text(self.skipped)})"
        return text

    def say(self) -> None:
        """Tell the counts, unless there was but one photo, of which a line is told already."""
        if self.done + self.failed > 1 or self.skipped:
            say(str(self))


def say_clashes(names: Mapping[Path, str]) -> None:
    """Tell which results have longer names, as those of two photos would be the same."""
    from deeplab_repro.jobs.names import named_in_full

    if full := named_in_full(names):
        shown = ", ".join(f"{name}.png" for name in full[:3]) + (", ..." if len(full) > 3 else "")
        say(f"names of photos clash, so some results are named in full ({len(full)}): {shown}")


def print_photo(outcome: "Outcome", name: str) -> None:
    """Print the line of a photo that is done: its name, size, times and labels."""
    from deeplab_repro.jobs.photos import Photo

    if isinstance(outcome, Photo):
        print(one_line(_photo_line(outcome, name)), flush=True)


def print_photos(
    doing: str,
    found: "Found",
    outcomes: Iterable["Outcome"],
    tell: Callable[["Outcome", str], None] = print_photo,
) -> Told:
    """Tell of each photo as it is done, and on stderr of errors; returns what became of all.

    found: the photos. tell: prints what became of one; takes its name with its subfolder too.
    """
    from deeplab_repro.jobs.photos import Skipped
    from deeplab_repro.work.outcomes import Failed

    told = Told(skipped=found.skipped.copy())
    with progress(doing, len(found.unreadable) + len(found.folders)) as advance:
        for outcome in itertools.chain(found.unreadable, outcomes):
            if isinstance(outcome, Failed):
                told.failed += 1
                say(f"error: {outcome.error}")
            elif isinstance(outcome, Skipped):
                told.skipped["done before"] += 1
            else:
                told.done += 1
                told.last = outcome
            path = outcome.path
            tell(outcome, os.path.join(found.folders.get(path, ""), path.name))
            advance()
    return told


def _photo_line(photo: "Photo", name: str) -> str:
    from deeplab_repro.files.labels import shares_text

    made = photo.segmentation
    assert made
    height, width = made.size
    in_tiles = f"in {made.tiles} tiles " if made.tiles else ""
    times = f"net {in_tiles}{made.net_seconds * 1e3:5.0f} ms  " if made.coarse else ""
    if made.refined:
        times += f"CRF {made.crf_seconds * 1e3:5.0f} ms  "
    scaled = f" (seen at {made.scaled[1]}x{made.scaled[0]})" if made.scaled else ""
    return f"{name}  {width}x{height}{scaled}  {times}{shares_text(made.labels, made.names)}"
