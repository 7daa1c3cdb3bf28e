"""deeplab-repro train: train a net with Caffe's SGD."""

import argparse
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplab_repro.cli.console import duration, say
from deeplab_repro.cli.options import add_force, add_variables, whole_number

if TYPE_CHECKING:
    from deeplab_repro.train.curve import LossRow
    from deeplab_repro.train.sgd import Solver


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "train",
        help="train a net as Caffe did, on the CPU",
        description="Train a net with Caffe's SGD, on the CPU. Writes snapshots, <prefix>_iter_N "
        ".caffemodel and .solverstate, and the loss curve, <prefix>_loss.csv. Ctrl-C writes a "
        "snapshot and stops. Snapshots of another training are not overwritten.",
    )
    parser.add_argument("--solver", metavar="F", type=Path, required=True, help="its prototxt")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--weights",
        metavar="F",
        help="a caffemodel or .safetensors to begin with; layers that it lacks are filled as the "
        "net says",
    )
    begin.add_argument("--resume", metavar="F", help="a .solverstate to continue from")
    add_variables(parser)
    parser.add_argument(
        "--iterations",
        metavar="N",
        type=whole_number(0),
        help="where the training ends, counted from its first iteration (default: the solver's "
        "max_iter)",
    )
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, and name the last snapshot."""
    from deeplab_repro.show.loss_plot import plot_losses
    from deeplab_repro.show.plot import PlotError
    from deeplab_repro.train.run import check_untouched, prepare, train

    solver, data = prepare(arguments.solver, dict(arguments.variables), arguments.iterations)
    parameter = solver.parameter
    if arguments.resume:
        solver.restore(arguments.resume)
    files = (arguments.solver, arguments.weights, arguments.resume)
    read = [Path(name) for name in files if name]
    check_untouched(solver, read, arguments.resume and Path(arguments.resume), arguments.force)
    if arguments.resume and solver.iteration >= parameter.max_iter:
        say(
            f"nothing is left to do: {arguments.resume} is at iteration {solver.iteration}, and "
            f"the training ends at {parameter.max_iter}; for more give --iterations with a number "
            f"above {solver.iteration}"
        )
    elif arguments.resume:
        say(f"continues from iteration {solver.iteration}")
    elif arguments.weights:
        left = solver.load(arguments.weights, partial=True)
        if left:
            say(f"{', '.join(left)}: not in {arguments.weights}, so filled as the net says")
    summed = f" ({parameter.iter_size} an update)" if parameter.iter_size > 1 else ""
    say(
        f"net '{solver.net.name}', {solver.net.parameters:,} parameters, {len(data.pairs)} images, "
        f"batches of {data.data.batch_size}{summed}, {parameter.max_iter} iterations"
    )
    with _interrupts() as stopped, _reports(solver) as report:
        model = train(solver, data, report, stopped)
    if solver.iteration < parameter.max_iter:
        state = model.with_suffix(".solverstate")
        say(f"stopped at iteration {solver.iteration}: continue with --resume {state}")
    curve = Path(f"{parameter.snapshot_prefix}_loss.csv")
    if curve.exists():  # not where there was nothing to do
        try:
            say(f"loss curve: {curve} and {plot_losses(curve)}")
        except PlotError as error:
            say(f"loss curve: {curve}; it is not plotted: {error}")
    print(model)
    return 0


@contextmanager
def _interrupts() -> Iterator[Any]:
    """Yields a function: has Ctrl-C been pressed? Pressed again, it interrupts as usual."""
    pressed = False

    def note(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)
        say("stops after this iteration, with a snapshot")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _reports(solver: "Solver") -> Iterator[Any]:
    """Yields a function that prints a line for every `display`-th iteration."""
    start, first = time.perf_counter(), solver.iteration

    def report(row: "LossRow") -> None:
        every = solver.parameter.display
        done = row.iteration + 1 - first
        if every and row.iteration % every == 0:
            seconds = (time.perf_counter() - start) / done
            left = seconds * (solver.parameter.max_iter - row.iteration - 1)
            images = solver.net.input_shape[0] * solver.parameter.iter_size / seconds
            accuracy = ""
            if not math.isnan(row.pixel_accuracy):  # NaN: the net has no SEG_ACCURACY
                accuracy = (
                    f"  pixels {row.pixel_accuracy:.1%}  IOU {row.mean_iou:.1%}"
                    f" (mean Jaccard as SEG_ACCURACY {row.mean_jaccard:.1%})"
                )
            print(
                f"iteration {row.iteration}  loss {row.average_loss:.4f}"
                f"  lr {row.learning_rate:.3g}{accuracy}"
                f"  {images:.1f} images/s  {duration(left)} left",
                flush=True,
            )

    yield report
