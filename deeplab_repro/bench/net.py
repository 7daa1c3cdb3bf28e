"""Measure nets on the CPU: this package's engines beside their peers, in turns."""

import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_repro.arrays import HW, Shape, dims
from deeplab_repro.bench.contenders import CONTENDERS, start
from deeplab_repro.bench.hardware import this_machine
from deeplab_repro.bench.measures import growth, times_faster
from deeplab_repro.bench.net_files import write_net_files
from deeplab_repro.bench.process import Process
from deeplab_repro.engines.calibration import keep, size_class
from deeplab_repro.engines.choose import make_engine
from deeplab_repro.errors import DeepLabError, NetError
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.models.fetched import weights_file
from deeplab_repro.models.loading import fill, read_model
from deeplab_repro.net.net import Net
from deeplab_repro.work.progress import Progress, unwatched
from deeplab_repro.work.stages import n_cores

SCALES = ((5 / 8, 5 / 8), (1, 1), (9 / 8, 3 / 2), (3 / 2, 2))
"""Of the net's own height and width: the sizes at which the growth with pixels is measured."""

AGREEMENT = 1e-3
"""How far apart scores may be, in their standard deviations: sums are in other orders."""

_FIRST = "opencv"  # with its scores the others' are compared
_ROUNDS_OF_GROWTH = 3
_PRODUCTS = 3
_SIZES_TRIED = 64  # on either side of the wanted one

# Threads of BLAS and OpenMP keep their cores busy for so long after their work.
_SECONDS_TO_REST = 0.05

_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "torch")

# Fitted to the average memory of the contenders' processes, with OpenCV 4.14, onnxruntime 1.32 and
# PyTorch 2.13: LargeFOV at 321x321 and 513x513 510 and 680 MB, DeepLab at 322x322 1090 MB,
# MSc-LargeFOV at 321x321 660 MB.
_PROCESS_BYTES = 200e6
_COPIES_OF_WEIGHTS = 3.5
_ACTIVATIONS_HELD = 0.6


def bench_net(
    model: str | Path = "DeepLab-LargeFOV",
    weights: str | Path = "random:1",
    *,
    sizes: Sequence[HW] = (),
    threads: int | None = None,
    repeat: int = 5,
    variables: Mapping[str, str] | None = None,
    progress: Progress = unwatched,
) -> dict[str, Any]:
    """Measure everything, as plain data: times in milliseconds, memory in bytes.

    All contenders run the same net on the same noise, up to the scores on the net's own grid, as
    `DeepLab` does. Each has its own process and so many threads (None: one a core), and begins
    with the net's files. The times of this package's engines are kept: "auto" goes by them.

    sizes: of photos, (H, W), which are padded as `DeepLab` does; none for the net's own size. All
    is measured at the first; how times grow, at all if there are several, else at SCALES.
    repeat: rounds, in each of which all run once. Model, weights and variables: as for `DeepLab`.
    Raises DeepLabErrors for what cannot be read or run, and for too little memory.
    """
    net = read_model(model, variables).ending_in_scores()
    fitting = [net.fitting_size(size) for size in sizes]
    run_at = fitting[0] if fitting else (net.input_shape[2], net.input_shape[3])
    shape = _shape(net, run_at)
    others = fitting if len(fitting) > 1 else _growth_sizes(net)
    grown = sorted({*others, run_at}, key=math.prod)
    absent = {name: why for name, each in CONTENDERS.items() if (why := each.problem)}
    names = [name for name in CONTENDERS if name not in absent]
    _require_memory(net, _shape(net, grown[-1]), len(names))
    fill(net, weights_file(weights, model))
    with (
        progress("measuring", len(names) + repeat + len(grown) - 1) as advance,
        tempfile.TemporaryDirectory(prefix="deeplab-bench-") as folder,
        contextlib.ExitStack() as stack,
    ):
        job = write_net_files(net, Path(folder), shape, threads or n_cores())
        running = {name: stack.enter_context(start(name, job)) for name in names}
        runs, unable = _build(running, advance)
        times = _rounds(running, repeat, advance)
        _add_results(runs, running, times, Path(folder))
        rates = [running[_FIRST].ask("product_rate") for _ in range(_PRODUCTS)]
        by_size = {run_at: {name: times[name] for name in running}}
        for each in grown:
            if each not in by_size:
                for process in running.values():
                    process.ask("resize", *each)
                by_size[each] = _rounds(running, min(repeat, _ROUNDS_OF_GROWTH))
                rates.append(running[_FIRST].ask("product_rate"))
                advance()
    _keep(net, job.threads, by_size, [name for name in runs if runs[name]["same_scores"]])
    rate = max(rates)
    return {
        "machine": this_machine(*_PACKAGES),
        "net": net.name,
        "weights": str(weights),
        "blob": job.blob,
        "size": run_at,
        "threads": job.threads,
        "repeat": repeat,
        "runs": runs,
        "absent": absent | unable,
        "against": _than_peers(times),
        "products_a_second": rate,
        "growth": growth([_row(net, each, by_size[each], rate) for each in grown]),
    }


def _shape(net: Net, size: Sequence[int]) -> Shape:
    return (1, net.input_shape[1], *size)


def _growth_sizes(net: Net) -> list[HW]:
    """Sizes near those wanted for which the scores are as large as the image."""
    if not net.fits_any_size:
        return []
    sizes = []
    for scales in SCALES:
        sides = [_nearest_fit(net, 2 + axis, scale) for axis, scale in enumerate(scales)]
        if all(sides):
            sizes.append((sides[0], sides[1]))
    return sizes


def _nearest_fit(net: Net, axis: int, scale: float) -> int:
    """A length of one axis, 0 where there is none; it does not depend on the other axis."""
    shape = list(_shape(net, net.input_shape[2:]))
    wanted = round(scale * shape[axis])
    lengths = range(max(1, wanted - _SIZES_TRIED), wanted + _SIZES_TRIED + 1)
    for length in sorted(lengths, key=lambda length: abs(length - wanted)):
        shape[axis] = length
        with contextlib.suppress(NetError):
            if net.output_shape(tuple(shape))[axis] == length:
                return length
    return 0


def _require_memory(net: Net, shape: Shape, processes: int) -> None:
    weights = _COPIES_OF_WEIGHTS * 4 * net.parameters
    n_bytes = _PROCESS_BYTES + weights + _ACTIVATIONS_HELD * net.activation_bytes(shape)
    what = f"net '{net.name}' at {dims(shape)} in {processes} processes"
    require_memory(
        int(processes * n_bytes),
        what,
        "measure a smaller net, or smaller images of it (--size WxH,WxH), or use a machine with "
        "more memory",
    )


def _build(
    running: dict[str, Process], advance: Callable[[], None]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Time how each is built; those that cannot run the net are closed, and the reason kept."""
    runs: dict[str, dict[str, Any]] = {}
    unable = {}
    for name, process in list(running.items()):
        try:
            runs[name] = process.ask("build")
        except DeepLabError as error:
            if name == _FIRST:
                raise
            unable[name] = str(error).removeprefix(f"{CONTENDERS[name].title}: ")
            running.pop(name).close()
        advance()
    return runs, unable


def _rounds(
    running: Mapping[str, Process], repeat: int, advance: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Run all in turns: the milliseconds of each run."""
    times: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(repeat):
        for name, process in running.items():
            time.sleep(_SECONDS_TO_REST)
            times[name].append(1e3 * process.ask("run"))
        advance()
    return times


def _add_results(
    runs: dict[str, dict[str, Any]],
    running: Mapping[str, Process],
    times: Mapping[str, list[float]],
    folder: Path,
) -> None:
    """Add to each run its times, its memory, and how far its scores are from the first one's."""
    first = None
    for name, process in running.items():
        path = folder / f"{name}.npy"
        process.ask("save_scores", path)
        scores = np.load(path)
        first = scores if first is None else first
        difference = _difference(scores, first)
        runs[name] |= {
            "median_ms": statistics.median(times[name]),
            "ms": times[name],
            "peak_bytes": process.ask("peak"),
            "difference": difference,
            "same_scores": difference is not None and difference <= AGREEMENT,
        }


def _difference(scores: np.ndarray, expected: np.ndarray) -> float | None:
    """The largest difference, in standard deviations; None for other sizes, or where it is NaN."""
    if scores.size != expected.size:
        return None
    largest = np.abs(scores.ravel() - expected.ravel()).max()
    difference = float(largest / max(expected.std(), np.finfo(np.float32).tiny))
    return difference if math.isfinite(difference) else None


def _keep(
    net: Net,
    threads: int,
    by_size: Mapping[HW, Mapping[str, list[float]]],
    able: Collection[str],
) -> None:
    """Keep the times of this package's engines, by which `make_engine` chooses one."""
    ours = [name for name, each in CONTENDERS.items() if each.ours and not each.problem]
    titles = {name: make_engine(net, "cpu", engine=name).name for name in ours}
    for size, times in by_size.items():
        seconds = {
            title: min(times[name]) / 1e3 if name in able else None
            for name, title in titles.items()
        }
        keep(net, size_class(_shape(net, size)), threads, seconds)


def _than_peers(times: Mapping[str, list[float]]) -> dict[str, Any]:
    """How many times faster than each peer all are; the fastest peer comes first."""
    peers = [name for name in times if not CONTENDERS[name].ours]
    peers.sort(key=lambda name: statistics.median(times[name]))
    return {
        peer: {name: times_faster(times[peer], each) for name, each in times.items()}
        for peer in peers
    }


def _row(net: Net, size: HW, times: Mapping[str, list[float]], rate: float) -> dict[str, Any]:
    """What one size took, and what its operations take at a rate (a second) at the least."""
    operations = net.operations(net.coarse_output[0], _shape(net, size))
    return {
        "width": size[1],
        "height": size[0],
        "pixels": math.prod(size),
        "operations": operations,
        "floor_ms": 1e3 * operations / rate,
        "median_ms": {name: statistics.median(each) for name, each in times.items()},
    }
