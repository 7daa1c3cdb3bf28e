"""What the paper has and what was measured, written down: as Markdown, JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplab_repro.files import write_atomically
from deeplab_repro.paper import published
from deeplab_repro.paper.figure5 import write_figure5
from deeplab_repro.paper.figure7 import Figure7, make_figure7
from deeplab_repro.paper.layout import Grid, lay_out
from deeplab_repro.paper.reproduce import (
    Run,
    net_facts,
    reproduce,
    without_data,
)
from deeplab_repro.paper.tables import NotRun, Outcomes, Result, Table, all_tables
from deeplab_repro.pictures import make_folder
from deeplab_repro.progress import Progress, unwatched
from deeplab_repro.voc.workers import HERE, Workers

if TYPE_CHECKING:
    from deeplab_repro.voc.devkit import Devkit
    from deeplab_repro.voc.metrics import Scores

TITLE = "The paper's tables and figures, ours beside theirs"

READING = (
    "Differences are ours minus the paper's. Scores are in percent, counted as the paper's authors "
    "did: over all pixels of the split at once, void left out."
)


@dataclass(frozen=True)
class Report:
    """Tables by short names; what was to be run, and what came of it; figure 7, if there is one."""

    tables: dict[str, Table]
    runs: Sequence[Run]
    outcomes: Outcomes
    figure7: Figure7 | None = None

    @property
    def curves(self) -> dict[str, Mapping[int, Scores]]:
        """Ours in figure 5: of each method that has one, the scores by the trimap's width."""
        return {
            method: outcome.trimap
            for (method, _), outcome in self.outcomes.items()
            if isinstance(outcome, Result) and outcome.trimap
        }

    @property
    def summary(self) -> str:
        """How much was run, in a sentence."""
        done = sum(isinstance(outcome, Result) for outcome in self.outcomes.values())
        return f"{done} of {len(self.runs)} scores of methods on val and test were measured."

    def as_json(self) -> dict[str, Any]:
        """All figures as plain data; None for what there is not."""
        return {
            "source": published()["source"],
            "tables": {name: table.as_json() for name, table in self.tables.items()},
            "runs": [_run_as_json(run, self.outcomes[run.method, run.split]) for run in self.runs],
        }


def make_report(
    devkit: Devkit | None,
    runs: Sequence[Run],
    out: Path,
    workers: Workers = HERE,
    progress: Progress = unwatched,
) -> Report:
    """Measure what can be measured of `runs` as `reproduce` does; without a data set, nothing.

    Raises what `reproduce` raises, and FileError where this installation lacks the prototxt files.
    """
    facts = net_facts()
    if devkit is None:
        none: Outcomes = {(run.method, run.split): NotRun(without_data(run)) for run in runs}
        return Report(all_tables(none, facts), runs, none)
    outcomes = reproduce(devkit, runs, out, workers, progress)
    return Report(
        all_tables(outcomes, facts),
        runs,
        outcomes,
        figure7=make_figure7(devkit, runs, outcomes, out),
    )


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


def _run_as_json(run: Run, outcome: Result | NotRun) -> dict[str, Any]:
    described: dict[str, Any] = {
        "method": run.method,
        "model": run.model,
        "split": run.split,
        "with_crf": run.with_crf,
        "weights": None if run.weights is None else str(run.weights),
    }
    if isinstance(outcome, NotRun):
        return {**described, "not_run": outcome.reason}
    return {
        **described,
        "not_run": None,
        "mean_iou": outcome.scores.mean_iou,
        "iou": outcome.scores.iou.tolist(),
        "images": outcome.images,
        "missing": outcome.missing,
        "remark": outcome.remark,
    }
