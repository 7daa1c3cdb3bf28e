"""Writes the report on the paper to a folder: a page, Markdown, JSON, and figure 5."""

import contextlib
import json
from pathlib import Path

from deeplab_repro.files.marks import write_noted
from deeplab_repro.files.targets import make_folder
from deeplab_repro.models.published import published
from deeplab_repro.paper.figure5 import draw_curves, write_curves
from deeplab_repro.paper.layout import TextTable, lay_out
from deeplab_repro.paper.page import page
from deeplab_repro.paper.report import READING, TITLE, Report
from deeplab_repro.show.plot import PlotError

_REPORTS = ("index.html", "paper.md", "paper.json")
_FIGURE5 = ("figure5.csv", "figure5.png", "figure5.pdf")


def targets(out: Path, with_curves: bool = False) -> list[Path]:
    """The files that `write_report` writes; with_curves: where there are some of ours."""
    return [out / name for name in (*_REPORTS, *(_FIGURE5 if with_curves else ()))]


def write_report(out: Path, report: Report) -> None:
    """Write index.html, paper.md and paper.json to a folder, which is made if it is missing.

    If there are curves of ours, also figure5.csv and, with matplotlib, figure5.png and .pdf. Each
    file is written atomically. Raises FileError if one cannot be written.
    """
    make_folder(out)
    figure5 = None
    if report.curves:
        write_curves(out / "figure5.csv", report.curves)
        with contextlib.suppress(PlotError):  # the page says what to install
            figure5 = draw_curves(out / "figure5", report.curves)[0]
    contents = (
        page(report, figure5.read_bytes() if figure5 else None),
        markdown(report, figure5.name if figure5 else None).encode(),
        json.dumps(report.as_json()).encode(),
    )
    for name, content in zip(_REPORTS, contents, strict=True):
        write_noted(out / name, content)


def markdown(report: Report, figure5: str | None) -> str:
    """The report in GitHub's Markdown. figure5: the name of a picture beside it."""
    parts = [f"# {TITLE}", f"{published()['source']}.", READING, report.summary]
    for table in report.tables.values():
        texts = lay_out(table)
        parts += [f"## {table.title}", table.caption, _markdown_table(texts)]
        parts += map(_escaped, texts.notes)
    if figure5:
        parts.append(f"![Figure 5]({figure5})")
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: TextTable) -> str:
    rule = ["---", *["---:"] * (len(table.heading) - 1)]
    heading = [": ".join(filter(None, names)) for names in table.heading]
    lines = (heading, rule, *table.lines)
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
