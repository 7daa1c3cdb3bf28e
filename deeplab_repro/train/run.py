"""A whole training: its iterations, snapshots and loss curve."""

import glob
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from deeplab_repro.caffe import load_mean, read_solver, read_train_net, warn_of_unused
from deeplab_repro.errors import FileError, FormatError, NetError, one_line
from deeplab_repro.files.holding import hold
from deeplab_repro.files.labels import look_at
from deeplab_repro.files.targets import check_targets
from deeplab_repro.files.whole import remove_unfinished
from deeplab_repro.net.layers import SoftmaxLoss
from deeplab_repro.net.net import Net
from deeplab_repro.train.curve import LossRow, read_curve, write_curve
from deeplab_repro.train.data import SegData
from deeplab_repro.train.parallel import warn_of_blas_threads
from deeplab_repro.train.sgd import Solver

_log = logging.getLogger(__name__)


def prepare(
    path: Path, variables: Mapping[str, str] | None = None, max_iter: int | None = None
) -> tuple[Solver, SegData]:
    """The solver of a prototxt, ready to train, and its data.

    `train_net` is looked for in the working directory, as in Caffe, then beside the solver.
    `max_iter` replaces the solver's own. Raises what reading files, nets and lists raises.
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
    if not (here.exists() or beside.exists()):
        raise FileError(
            f"{one_line(here)}: does not exist, nor {one_line(beside)}: it is the train net that "
            f"{one_line(path)} names"
        )
    train_net = here if here.exists() else beside
    warn_of_unused(variables or {}, path, train_net)
    net = read_train_net(train_net, variables)
    if net.data is None or net.preprocessing is None:
        raise NetError(f"net '{net.name}' has no data layer, expected IMAGE_SEG_DATA")
    load_mean(net, train_net)
    data = SegData(net.data, net.preprocessing, _labels(net), parameter.random_seed or 0)
    found = look_at([labels for _, labels in data.pairs], net.data.ignore_label)
    if found.are_masks:
        _log.warning(
            "the label maps hold 0 and %d only, and %d is not learned (ignore_label): if it stands "
            "for a class, save it as that class's number, 1 say",
            net.data.ignore_label,
            net.data.ignore_label,
        )
    elif found.are_of_fewer_than(data.n_labels):
        _log.warning(
            "net '%s' tells %d labels apart, but %s: if these are all, train a net of %d labels "
            "(--set NUM_LABELS=%d where its prototxt has that variable)",
            *(net.name, data.n_labels, found, found.largest + 1, found.largest + 1),
        )
    return Solver(parameter, net), data


def _labels(net: Net) -> int:
    """The number of labels that the net has scores for; the fewest of several losses."""
    shapes = net.blob_shapes()
    losses = [layer for layer in net.layers if isinstance(layer.op, SoftmaxLoss)]
    return min(shapes[loss.bottoms[0]][1] for loss in losses)


def check_untouched(
    solver: Solver, inputs: Iterable[Path], resumed: Path | None = None, force: bool = False
) -> None:
    """Raise FileError if the training would overwrite another's snapshots or loss curve.

    inputs: files that are read; they are never overwritten. resumed: the solverstate to continue
    from; the snapshots beside it are the training's own. force: overwrite the others.
    """
    prefix = solver.parameter.snapshot_prefix
    curve, plot = Path(f"{prefix}_loss.csv"), Path(f"{prefix}_loss.png")
    stem = Path(f"{prefix}_iter_")
    there = sorted(stem.parent.glob(f"{glob.escape(stem.name)}*"))
    snapshots = [each for each in there if each.suffix in (".caffemodel", ".solverstate")]
    is_own = resumed is not None and any(each.samefile(resumed) for each in snapshots)
    for path in (*snapshots, curve):
        if path.exists() and not (force or is_own):
            raise FileError(
                f"{one_line(path)}: is of another training: go on with that by --resume, change "
                "snapshot_prefix, or overwrite it with --force"
            )
    now = f"{stem.name}{solver.iteration}"  # only later ones are written
    coming = [each for each in snapshots if not resumed or each.stem != now]
    read = list(inputs)
    check_targets({Path(prefix): [curve, *coming]}, read, force=True)
    check_targets({Path(prefix): [plot]}, read, force)


def train(
    solver: Solver,
    data: SegData,
    on_iteration: Callable[[LossRow], None] = lambda row: None,  # noqa: ARG005
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Train up to max_iter, or until `stopped` is true; returns the last snapshot's caffemodel.

    Snapshots are written every `snapshot` iterations and at the end, each with the loss curve,
    <prefix>_loss.csv; a resumed run continues the curve. Raises TrainingError if the loss or a
    weight becomes NaN or infinite (the last snapshot then stays the last), FileError if something
    cannot be written or another run works on the folder, and what the data raise.
    """
    warn_of_blas_threads()
    parameter = solver.parameter
    folder = Path(parameter.snapshot_prefix).absolute().parent
    with hold(folder):
        remove_unfinished(folder)
        _train(solver, data, on_iteration, stopped)
    return Path(f"{parameter.snapshot_prefix}_iter_{solver.iteration}.caffemodel")


def _train(
    solver: Solver,
    data: SegData,
    on_iteration: Callable[[LossRow], None],
    stopped: Callable[[], bool],
) -> None:
    parameter = solver.parameter
    curve = Path(f"{parameter.snapshot_prefix}_loss.csv")
    old = read_curve(curve) if solver.iteration and curve.exists() else []
    rows = [row for row in old if row.iteration < solver.iteration]
    start = time.perf_counter()
    first, written = solver.iteration, None
    end = max(first, parameter.max_iter)
    batches = data.batches(first * parameter.iter_size, end * parameter.iter_size)

    def keep() -> None:
        solver.check_weights()
        if rows:  # first: the curve may be ahead of a snapshot, but never behind
            write_curve(rows, curve)
        solver.snapshot()

    try:
        for _ in range(first, end):
            rate = solver.learning_rate
            loss = solver.step(batches)
            seconds = time.perf_counter() - start
            losses = (loss, solver.average_loss)
            accuracy = solver.accuracy or (math.nan,) * 4
            rows.append(LossRow(solver.iteration - 1, rate, *losses, *accuracy, seconds))
            on_iteration(rows[-1])
            if stopped():
                break
            if parameter.snapshot and solver.iteration % parameter.snapshot == 0:
                keep()
                written = solver.iteration
    finally:
        batches.close()
    last = Path(f"{parameter.snapshot_prefix}_iter_{solver.iteration}.caffemodel")
    if first and solver.iteration == first and last.exists():
        return  # there was nothing to do, and it is what was resumed
    if written != solver.iteration:
        keep()
