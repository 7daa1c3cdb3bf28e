"""The report of the paper's tables and figures, written as Markdown, JSON and a page."""

import json
from pathlib import Path

from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.models.published import published
from deeplab_repro.paper.figure5 import write_figure5
from deeplab_repro.paper.layout import Grid, lay_out
from deeplab_repro.paper.report import READING, TITLE, Report


def targets(out: Path) -> list[Path]:
    """The files that `write_report` writes."""
    return [out / name for name in ("index.html", "paper.md", "paper.json")]


def write_report(out: Path, report: Report) -> None:
    """Write index.html, paper.md and paper.json to a folder, which is made if need be.

    And figure5.csv, .png and .pdf as `write_figure5` does, if there are curves of ours. Each file
    atomically; raises FileError if one cannot be written.
    """
    from deeplab_repro.paper.page import page

    make_folder(out)
    plots = write_figure5(out / "figure5", report.curves) if report.curves else []
    figure5 = next((plot for plot in plots if plot.suffix == ".png"), None)
    contents = (
        page(report, figure5.read_bytes() if figure5 else None),
        markdown(report, figure5.name if figure5 else None).encode(),
        json.dumps(report.as_json()).encode(),
    )
    for path, content in zip(targets(out), contents, strict=True):
        with write_atomically(path) as file:
            file.write(content)


def markdown(report: Report, figure5: str | None) -> str:
    """The tables in Markdown, as GitHub reads it; figure5: the name of a picture beside it."""
    parts = [f"# {TITLE}", f"{published()['source']}.", READING, report.summary]
    for table in report.tables.values():
        grid = lay_out(table)
        parts += [f"## {table.title}", table.caption, _markdown_table(grid)]
        parts += map(_escaped, grid.notes)
    if figure5:
        parts.append(f"![Figure 5]({figure5})")
    return "\n\n".join(parts) + "\n"


def _markdown_table(grid: Grid) -> str:
    rule = ["---", *["---:"] * (len(grid.heading) - 1)]
    heading = [": ".join(filter(None, names)) for names in grid.heading]
    lines = (heading, rule, *grid.lines)
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
