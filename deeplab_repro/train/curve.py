"""The file of a training's loss curve."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

from deeplab_repro.errors import FormatError, one_line
from deeplab_repro.files.whole import write_atomically


class LossRow(NamedTuple):
    """One line of the loss curve.

    iteration: updates made before it. loss: of the batch, before the update; average_loss: of the
    last average_loss batches. pixel_accuracy, mean_recall, mean_jaccard: SEG_ACCURACY of the batch,
    as fractions; in its mean Jaccard a class that is absent counts as 1. mean_iou: the mean over
    the classes that are in the batch's labels or results. All four are NaN if the net has no
    SEG_ACCURACY. seconds: since the training began or was resumed.
    """

    iteration: int
    learning_rate: float
    loss: float
    average_loss: float
    pixel_accuracy: float
    mean_recall: float
    mean_jaccard: float
    mean_iou: float
    seconds: float


def write_curve(rows: list[LossRow], path: Path) -> None:
    """Write a loss curve as CSV with a header, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LossRow._fields)
    writer.writerows((row[0], *(f"{value:.8g}" for value in row[1:])) for row in rows)
    with write_atomically(path) as file:
        file.write(text.getvalue().encode())


def read_curve(path: Path) -> list[LossRow]:
    """Read a loss curve. Raises FormatError for a file that `write_curve` did not write."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
            if tuple(header) != LossRow._fields:
                raise ValueError(f"its first line is '{one_line(','.join(header), 80)}'")
            return [LossRow(int(line[0]), *map(float, line[1:])) for line in lines]
    except (ValueError, TypeError, IndexError, OSError, csv.Error) as error:
        raise FormatError(
            f"{one_line(path)}: is not a loss curve: {one_line(error)}: move it to another folder"
        ) from error
