"""Check and time the CRF on a GPU, in one call.

    python tools/check_gpu_crf.py ../shared/golden/crf [--runs 30]

Compares every golden case with the original program's result and with the CPU's, runs it twice for
the same bits, then times one image (375x500, 21 labels, 10 iterations) and prints how many bytes
each kernel moves. Exits with 1 if a check fails, and with 2 where CUDA is missing.

On Numba's simulator, only for whether the script itself works:

    NUMBA_ENABLE_CUDASIM=1 python tools/check_gpu_crf.py ../shared/golden/crf \\
        --crop 6x8 --size 5x6 --labels 3 --iterations 2 --runs 1
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplab_repro.crf import CrfParams
from deeplab_repro.crf.dense_crf import dense_crf
from deeplab_repro.crf.gpu import Workspace, crf_cuda_problem
from deeplab_repro.layers import dims

F32 = npt.NDArray[np.float32]

PHOTO = Path(__file__).resolve().parent.parent / "examples" / "street.jpg"
MOST_ERROR = 1e-5


def main() -> int:
    """Run all checks; the exit status."""
    parser = argparse.ArgumentParser(description="Check and time the CRF on a GPU.")
    parser.add_argument("golden", type=Path, help="folder of the original program's results, *.npz")
    parser.add_argument("--runs", type=int, default=30, help="timed runs (30)")
    parser.add_argument("--size", type=size, default=(375, 500), help="HxW to time (375x500)")
    parser.add_argument("--labels", type=int, default=21, help="labels to time (21)")
    parser.add_argument("--iterations", type=int, default=10, help="iterations to time (10)")
    parser.add_argument(
        "--crop", type=size, help="take HxW of the golden images only, and compare with the CPU"
    )
    options = parser.parse_args()
    problem = crf_cuda_problem()
    if problem is not None:
        print(problem, file=sys.stderr)
        return 2
    print(f"{device_name()}, Numba {numba.__version__}\n")
    passed = check(options.golden, options.crop)
    print()
    measure(options.size, options.labels, options.iterations, options.runs)
    return 0 if passed else 1


def size(text: str) -> tuple[int, int]:
    """HxW as two numbers."""
    height, width = text.split("x")
    return int(height), int(width)


def device_name() -> str:
    """What runs the kernels."""
    from numba import cuda

    name = getattr(cuda.current_context().device, "name", "Numba's simulator")
    return name.decode() if isinstance(name, bytes) else str(name)


def check(folder: Path, crop: tuple[int, int] | None) -> bool:
    """Compare all cases; whether all agree."""
    from deeplab_repro.crf.gpu_mean_field import gpu_dense_crf

    columns = "{:32} {:>11} {:>9} {:>9} {:>9} {:>9} {:>5}"
    print(columns.format("case", "size", "vertices", "labels", "golden", "CPU", "bits"))
    passed = True
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as case:
            golden = dict(case)
        image, params = golden["image"], CrfParams(*map(float, golden["params"]))
        iterations = int(golden["iterations"])
        probs = softmax(upsample_8(golden["scores"])[:, : image.shape[0], : image.shape[1]])
        if crop is not None:
            image, probs, iterations = (
                image[: crop[0], : crop[1]],
                probs[:, : crop[0], : crop[1]],
                2,
            )
        marginals = gpu_dense_crf(image, probs, params, iterations)
        same_bits = bool((marginals == gpu_dense_crf(image, probs, params, iterations)).all())
        on_cpu = float(
            np.abs(marginals - dense_crf(image, probs, params, iterations).marginals).max()
        )
        vertices, labels, error = "-", "-", "-"
        good = same_bits and on_cpu <= MOST_ERROR
        if crop is None:
            found, expected = count_vertices(image, params), int(golden["lattice_vertices"].sum())
            wrong = int(np.count_nonzero(marginals.argmax(axis=0) != golden["label"]))
            worst = golden_error(marginals, golden)
            good = good and found == expected and wrong == 0 and worst <= MOST_ERROR
            vertices = "equal" if found == expected else f"{found - expected:+d}"
            labels, error = str(wrong), f"{worst:.1e}"
        passed = passed and good
        bits = "same" if same_bits else "DIFFER"
        shape = dims(probs.shape)
        print(columns.format(path.stem, shape, vertices, labels, error, f"{on_cpu:.1e}", bits))
    print("vertices: against the original; labels: pixels that differ from it; golden and CPU:")
    print(
        f"largest difference of a marginal, at most {MOST_ERROR:g}. {'PASS' if passed else 'FAIL'}"
    )
    return passed


def golden_error(marginals: F32, golden: dict[str, Any]) -> float:
    """The largest difference from the original's marginals, of which some cases have a part."""
    if "marginals" in golden:
        return float(np.abs(marginals - golden["marginals"]).max())
    return float(np.abs(marginals[:, ::4, ::4] - golden["marginals_every_4th_pixel"]).max())


def count_vertices(image: npt.NDArray[np.uint8], params: CrfParams) -> int:
    """The vertices of both lattices."""
    from numba import cuda

    from deeplab_repro.crf.gpu_lattice import build_gpu_lattice

    height, width = image.shape[:2]
    points = cuda.to_device(np.ascontiguousarray(image).reshape(-1, 3))
    return build_gpu_lattice(points, height, width, params, Workspace()).vertices


def upsample_8(scores: F32) -> F32:
    """INTERP with zoom_factor 8: bilinear, aligned corners, in single precision."""

    def axis(n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], F32]:
        source = np.arange((n - 1) * 8 + 1, dtype=np.float32) / np.float32(8)
        low = source.astype(np.int64)
        return low, np.minimum(low + 1, n - 1), source - low.astype(np.float32)

    y1, y2, y = axis(scores.shape[1])
    x1, x2, x = axis(scores.shape[2])
    y = y[:, None]
    above, below = scores[:, y1], scores[:, y2]
    top = (1 - y) * ((1 - x) * above[:, :, x1] + x * above[:, :, x2])
    upsampled: F32 = top + y * ((1 - x) * below[:, :, x1] + x * below[:, :, x2])
    return upsampled


def softmax(x: F32) -> F32:
    """Over the labels."""
    y = np.exp(x - x.max(axis=0))
    return np.asarray(y / y.sum(axis=0), np.float32)


def measure(shape: tuple[int, int], labels: int, iterations: int, runs: int) -> None:
    """Time one image, in all and by stage, after a run that compiles; print medians."""
    from numba import cuda

    from deeplab_repro.crf.gpu_lattice import SEGMENTS, build_gpu_lattice
    from deeplab_repro.crf.gpu_mean_field import MeanField, gpu_dense_crf

    height, width = shape
    n = height * width
    with Image.open(PHOTO) as photo:
        image = np.asarray(photo.convert("RGB").resize((width, height)))
    rng = np.random.default_rng(0)
    probs = softmax(rng.standard_normal((labels, height, width)).astype(np.float32))
    params = CrfParams(4, 121, 5)
    space = Workspace()
    lattice: Any = None

    def staged() -> list[float]:
        nonlocal lattice
        events = [cuda.event() for _ in range(5)]
        events[0].record()
        source = space.array("probs", (labels, n), np.float32)
        source.copy_to_device(probs.reshape(labels, n))
        points = space.array("image", (n, 3), np.uint8)
        points.copy_to_device(np.ascontiguousarray(image).reshape(n, 3))
        events[1].record()
        lattice = build_gpu_lattice(points, height, width, params, space)
        events[2].record()
        field = MeanField(source, space)
        field.connect(lattice, params)
        for _ in range(iterations):
            field.step()
        events[3].record()
        field.marginals()
        events[4].record()
        events[4].synchronize()
        return [a.elapsed_time(b) for a, b in itertools.pairwise(events)]

    def whole() -> float:
        start = time.perf_counter()
        gpu_dense_crf(image, probs, params, iterations)
        return 1e3 * (time.perf_counter() - start)

    first = timed(whole), timed(staged)
    totals, stages = [], []
    for _ in range(runs):
        totals.append(whole())
        stages.append(staged())
    middle = [statistics.median(column) for column in zip(*stages, strict=True)]
    print(f"{height}x{width}, {labels} labels, {iterations} iterations, medians of {runs} runs")
    print(f"  first call          {first[0]:9.0f} ms  (compiling, or loading what was compiled)")
    print(f"  all, with transfers {statistics.median(totals):9.3f} ms, least {min(totals):.3f}")
    for name, spent in zip(
        ("transfers in", "lattice", "iterations", "transfer out"), middle, strict=True
    ):
        print(f"    {name:17} {spent:9.3f} ms")
    print(f"  on the GPU alone    {middle[1] + middle[2]:9.3f} ms  (lattice and iterations)\n")
    segments = int(lattice.counters.copy_to_host()[SEGMENTS])
    print_traffic(n, labels, lattice.vertices, segments, iterations)


def timed(run: Callable[[], object]) -> float:
    """Milliseconds of one run."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def print_traffic(n: int, labels: int, m: int, segments: int, iterations: int) -> None:
    """The megabytes that the kernels ask for, by formula; most of it is found in the L2 cache."""
    print(f"bytes moved: N = {n:,}, L = {labels}, M = {m:,} vertices, S = {segments:,} segments")
    total = 0.0
    for name, launches, formula, size in traffic(n, labels, m, segments, iterations):
        total += launches * size / 1e6
        print(f"  {name:16} {launches:3} x {size / 1e6:8.2f} MB   {formula}")
    print(f"  in all {total:,.0f} MB: {total / 3350:.2f} ms at the 3.35 TB/s of an H100's memory")
    print("  (at most: of the neighbours, half exist, and most of what is read is in the L2 cache)")


def traffic(
    n: int, labels: int, m: int, segments: int, iterations: int
) -> list[tuple[str, int, str, int]]:
    """Each kernel's name, launches, formula and bytes a launch, if every neighbour existed."""
    row = 4 * (labels + 1)  # of q or of lattice values: one more label holds ones
    entries = 9 * n
    slots = 1 << (2 * entries - 1).bit_length()
    return [
        ("clear", 1, "4 slots", 4 * slots),
        ("embed, both", 1, "N (2*3 + 9*12)", n * (6 + 108)),
        ("insert", 1, "9N (8 + 4 + 8 + 4) + 16 M", entries * 24 + 16 * m),
        ("find_neighbours", 1, "6M (12 + 2*16 + 8)", 6 * m * 52),
        ("count", 1, "9N (4 + 4 + 4 + 8)", entries * 20),
        ("allocate", 1, "16 M + 8 S", 16 * m + 8 * segments),
        ("fill", 1, "9N (8 + 8 + 8)", entries * 24),
        ("begin", 1, "N (8L + 4L + row)", n * (12 * labels + row)),
        (
            "splat",
            iterations,
            "9N (8 + row) + S (8 + 2 row)",
            entries * (8 + row) + segments * (8 + 2 * row),
        ),
        ("blur_sums", iterations, "M (24 + 9*8 + 19 row)", m * (96 + 19 * row)),
        ("blur, two axes", 2 * iterations, "M (24 + 10 row)", m * (24 + 10 * row)),
        ("update", iterations, "N (9 (8 + row) + 8L)", n * (9 * (8 + row) + 8 * labels)),
        ("finish", 1, "8 N L", 8 * n * labels),
    ]


if __name__ == "__main__":
    sys.exit(main())
