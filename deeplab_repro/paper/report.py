"""The report on the paper: its tables and figures with the numbers measured here beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplab_repro.models.published import published
from deeplab_repro.paper.figure7 import Figure7, make_figure7
from deeplab_repro.paper.reproduce import Run, net_facts, reproduce, without_data
from deeplab_repro.paper.tables import Measured, NotRun, Outcomes, Table, all_tables
from deeplab_repro.voc.metrics import or_none
from deeplab_repro.work.progress import Progress, unwatched
from deeplab_repro.work.workers import HERE, Workers

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
    """The tables by short name, the runs with their outcomes, and figure 7 if there is one."""

    tables: dict[str, Table]
    runs: Sequence[Run]
    outcomes: Outcomes
    figure7: Figure7 | None = None

    @property
    def curves(self) -> dict[str, Mapping[int, Scores]]:
        """Our curves of figure 5: each method's scores by the trimap's width."""
        return {
            method: outcome.trimap
            for (method, _), outcome in self.outcomes.items()
            if isinstance(outcome, Measured) and outcome.trimap
        }

    @property
    def summary(self) -> str:
        """How many scores were measured, in a sentence."""
        done = sum(isinstance(outcome, Measured) for outcome in self.outcomes.values())
        return f"Measured here: {done} of the papers' {len(self.runs)} scores on val and test."

    def as_json(self) -> dict[str, Any]:
        """All numbers as plain data; None for a missing one."""
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
    """Measure what can be measured of `runs`, as `reproduce` does; nothing without a data set.

    Raises what `reproduce` raises, and FileError if this installation lacks the prototxt files.
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


def _run_as_json(run: Run, outcome: Measured | NotRun) -> dict[str, Any]:
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
        "classes_present": outcome.scores.n_present,
        "mean_iou_of_present": or_none(outcome.scores.mean_iou_of_present),
        "iou": outcome.scores.iou.tolist(),
        "images": outcome.images,
        "missing": outcome.missing,
        "remark": outcome.remark,
    }
