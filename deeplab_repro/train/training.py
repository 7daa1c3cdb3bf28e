"""A whole training: iterations, snapshots, and the loss curve beside them."""

import csv
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplab_repro.caffe import read_solver, read_train_net
from deeplab_repro.errors import FormatError, NetError, one_line
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.layers import SoftmaxLoss
from deeplab_repro.net.net import Net
from deeplab_repro.train.data import SegData
from deeplab_repro.train.solver import Solver


class Row(NamedTuple):
    """One line of the loss curve.

    iteration: updates made before it. loss: the batch's, before the update; average_loss: of the
    last average_loss batches. pixel_accuracy, mean_recall, mean_iou: SEG_ACCURACY's of the batch,
    fractions; NaN where the net has none. seconds: since the training began or was resumed.
    """

    iteration: int
    learning_rate: float
    loss: float
    average_loss: float
    pixel_accuracy: float
    mean_recall: float
    mean_iou: float
    seconds: float


def prepare(
    path: Path, variables: Mapping[str, str] | None = None, max_iter: int | None = None
) -> tuple[Solver, SegData]:
    """The solver of a prototxt, ready to train, and its data.

    `train_net` is looked for from where the program runs, as in Caffe, and then beside the solver.
    `max_iter` goes before the solver's own. Raises what reading files, nets and lists raises.
    """
    parameter = read_solver(path, variables)
    if max_iter is not None:
        parameter = replace(parameter, max_iter=max_iter)
    if "${" in parameter.snapshot_prefix:
        raise FormatError(
            f"{one_line(path)}: snapshot_prefix is '{parameter.snapshot_prefix}': give its "
            "variable a value with --set KEY=VALUE"
        )
    here, beside = Path(parameter.train_net), path.parent / parameter.train_net
    net = read_train_net(here if here.exists() or not beside.exists() else beside, variables)
    if net.data is None:
        raise NetError(f"net '{net.name}' has no data layer, expected IMAGE_SEG_DATA")
    data = SegData(net.data, _labels(net), parameter.random_seed or 0)
    return Solver(parameter, net), data


def _labels(net: Net) -> int:
    """How many labels the scores are of."""
    shapes = net.blob_shapes()
    loss = next(layer for layer in net.layers if isinstance(layer.op, SoftmaxLoss))
    return shapes[loss.bottoms[0]][1]


def train(
    solver: Solver,
    data: SegData,
    on_iteration: Callable[[Row], None] = lambda row: None,  # noqa: ARG005
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Train up to max_iter, or until `stopped` says so, and return the last snapshot's caffemodel.

    Snapshots are written as the solver's parameters say, one when it stops, and with each the loss
    curve, <prefix>_loss.csv; that of a run which is resumed is continued. Raises TrainingError
    where the loss becomes NaN (the last snapshot then stays the last), FileError where something
    cannot be written, and what the data raise.
    """
    parameter = solver.parameter
    make_folder(Path(parameter.snapshot_prefix).absolute().parent)
    curve = Path(f"{parameter.snapshot_prefix}_loss.csv")
    old = read_curve(curve) if solver.iteration and curve.exists() else []
    rows = [row for row in old if row.iteration < solver.iteration]
    start = time.perf_counter()
    first, written = solver.iteration, None
    batches = data.batches(first, max(first, parameter.max_iter))
    try:
        for images, labels in batches:
            rate = solver.learning_rate
            loss = solver.step(images, labels)
            accuracy = solver.accuracy
            pixels, recall, iou = (math.nan,) * 3 if accuracy is None else map(float, accuracy)
            seconds = time.perf_counter() - start
            rows.append(
                Row(
                    solver.iteration - 1,
                    rate,
                    loss,
                    solver.average_loss,
                    pixels,
                    recall,
                    iou,
                    seconds,
                )
            )
            on_iteration(rows[-1])
            if stopped():
                break
            if parameter.snapshot and solver.iteration % parameter.snapshot == 0:
                written = solver.iteration
                solver.snapshot()
                write_curve(rows, curve)
    finally:
        batches.close()
    if rows:
        write_curve(rows, curve)
    if written != solver.iteration:
        solver.snapshot()
    return Path(f"{parameter.snapshot_prefix}_iter_{solver.iteration}.caffemodel")


def write_curve(rows: list[Row], path: Path) -> None:
    """Write a loss curve as CSV with a header, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows((row[0], *(f"{value:.8g}" for value in row[1:])) for row in rows)
    with write_atomically(path) as file:
        file.write(text.getvalue().encode())


def read_curve(path: Path) -> list[Row]:
    """Read a loss curve. Raises FormatError for a file that `write_curve` has not written."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
            if tuple(header) != Row._fields:
                raise ValueError(f"its first line is {','.join(header)[:80]!a}")
            return [Row(int(line[0]), *map(float, line[1:])) for line in lines]
    except (ValueError, TypeError, IndexError, OSError, csv.Error) as error:
        raise FormatError(
            f"{one_line(path)}: is not a loss curve of this program ({error}): move it away"
        ) from error


def write_plot(curve: Path) -> Path | None:
    """Draw a loss curve's CSV as a PNG of the same name, if matplotlib is there; its path."""
    try:
        from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    rows = read_curve(curve)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="iteration", ylabel="loss")
    iterations, losses = [row.iteration for row in rows], [row.loss for row in rows]
    axes.plot(iterations, losses, lw=0.5, alpha=0.4, label="of each batch")
    span = max(1, len(rows) // 100)
    means = np.convolve(losses, np.full(span, 1 / span), "valid")
    axes.plot(iterations[span - 1 :], means, lw=1.5, label=f"mean of {span}")
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    target = curve.with_suffix(".png")
    with write_atomically(target) as file:
        file.write(picture.getvalue())
    return target
