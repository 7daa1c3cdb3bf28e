"""Whether photos get the same labels on the GPU as on the CPU, and how fast, from JPEG to PNG."""

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from steps import LARGE_FOV, PRECISIONS, Checking, Finding, photo, spread

from deeplab_repro.arrays import HW, dims
from deeplab_repro.machine.device import Precision
from deeplab_repro.segmenter import DeepLab, Recipe
from deeplab_repro.voc.devkit import Devkit, open_devkit
from deeplab_repro.voc.predict import Predicted, predict
from deeplab_repro.voc.segmenting import Segmenting
from deeplab_repro.work.outcomes import Failed
from deeplab_repro.work.stages import in_threads, n_cores
from deeplab_repro.work.workers import Workers

LEAST_A_SECOND = 60
LEAST_AGREEMENT: dict[Precision, float] = {"float32": 0.999, "float16": 0.99}

# (H, W), each about as frequent as in VOC 2012.
SIZES: tuple[HW, ...] = (
    *[(375, 500)] * 5,
    *[(333, 500)] * 3,
    *[(500, 375)] * 2,
    *[(500, 333), (400, 500), (486, 500), (334, 500), (281, 500), (500, 500)],
)
_PHOTOS: dict[Precision, int] = {"float16": 500, "float32": 100}
_ALONE = 50  # photos whose stages are timed one by one
_QUALITY = 90  # of the JPEGs
_SAMPLED_EVERY = 100  # milliseconds


def check_photos(job: Checking) -> Iterator[Finding]:
    """Labels of the example photo by a trained net and its CRF, on the GPU and on the CPU.

    The photo is once smaller than the net's own input, and once larger.
    """
    model = "ToyVOC-LargeFOV"
    images = [photo(job.size(*size)) for size in ((180, 240), (480, 640))]
    expected = [result.labels for result in map(DeepLab(model, device="cpu"), images)]
    for precision in PRECISIONS:
        net = DeepLab(model, device=job.device, precision=job.precision(precision))
        for labels, found in zip(expected, map(net, images), strict=True):
            same = float((found.labels == labels).mean())
            facts = {
                "net on": net.device,
                "precision": net.precision,
                "CRF on": net.crf_device,
                "image": dims(labels.shape),
                "same labels": same,
            }
            good = same >= LEAST_AGREEMENT[precision] and net.device == net.crf_device == job.device
            yield Finding("photos", facts, "pass" if good else "fail")


def check_predict(job: Checking) -> Iterator[Finding]:
    """`predict` over a folder of photos: as a whole, and each of its stages alone."""
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as temporary:
        devkit = make_devkit(Path(temporary), job)
        for precision in reversed(PRECISIONS):
            recipe = Recipe(
                job.model(LARGE_FOV), "random:1", job.device, precision=job.precision(precision)
            )
            out = Path(temporary) / f"out_{precision}"
            finding, predicted = time_predict(devkit, precision, out, recipe, job)
            yield finding
            yield from time_stages(devkit, recipe, predicted, job)


def time_predict(
    devkit: Devkit, precision: Precision, out: Path, recipe: Recipe, job: Checking
) -> tuple[Finding, Predicted]:
    """Time all photos of a precision's split, including building the net."""
    done: list[float] = []

    @contextmanager
    def progress(_doing: str, _steps: int) -> Iterator[Callable[[], None]]:
        yield lambda: done.append(time.perf_counter())

    threads = 0 if job.rehearsal else n_cores()  # which are processes where there is no GPU
    begin = time.perf_counter()
    with gpu_use() as use:
        predicted = predict(
            devkit,
            precision,
            out,
            recipe,
            workers=Workers(threads),
            progress=progress,
        )
        seconds = time.perf_counter() - begin
    count, written = len(predicted.names), len(list(predicted.folder.glob("*.png")))
    facts: dict[str, Any] = {
        "precision": recipe.precision,
        "photos": count,
        "written": written,
        "cores": n_cores(),
        "seconds": seconds,
        "images/s": count / seconds,
        "until the first s": done[0] - begin,
        "images/s after it": (count - 1) / max(1e-9, done[-1] - done[0]),
        "GPU busy %": statistics.mean(use) if use else None,
        "bar images/s": LEAST_A_SECOND if precision == "float16" else None,
    }
    if written < count or predicted.failed:
        facts["failed"] = [str(each.error) for each in predicted.failed[:1]]
        return Finding("predict", facts, "fail"), predicted
    verdict = job.bar(count / seconds >= LEAST_A_SECOND) if precision == "float16" else None
    return Finding("predict", facts, verdict), predicted


def time_stages(
    devkit: Devkit, recipe: Recipe, predicted: Predicted, job: Checking
) -> Iterator[Finding]:
    """Time each stage for a photo when nothing else runs: the slowest one limits the whole."""
    segmenting = Segmenting(devkit, predicted.folder, recipe, predicted.record, None)
    segmenting.keep(recipe.build())
    values: list[Any] = [devkit.photo(name) for name in predicted.names[: job.count(_ALONE)]]
    stages: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("read", segmenting.stages.read),
        ("net", segmenting.stages.score),
        ("CRF", segmenting.stages.refine),
        ("write", segmenting.stages.write),
    )
    for name, stage in stages:
        times, results = [], []
        for value in values:
            start = time.perf_counter()
            results.append(stage(value))
            times.append(1e3 * (time.perf_counter() - start))
            if isinstance(results[-1], Failed):
                raise results[-1].error
        values = results
        yield Finding(
            "predict stages", {"precision": recipe.precision, "stage": name, **spread(times)}
        )


def make_devkit(folder: Path, job: Checking) -> Devkit:
    """Write photos in VOC's layout: parts of the example, mirrored, lighter and darker.

    There is a split for each precision, with the number of photos that it is timed on.
    """
    for name in ("ImageSets/Segmentation", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    counts = {precision: job.count(count) for precision, count in _PHOTOS.items()}
    names = [f"photo_{index:03}" for index in range(max(counts.values()))]
    larger = {size: photo(_larger(job.size(*size))) for size in set(SIZES)}

    def write(index: int) -> None:
        size = SIZES[index % len(SIZES)]
        height, width = job.size(*size)
        rng = np.random.default_rng(index)
        top, left = (int(rng.integers(n // 4)) for n in (height, width))
        part = larger[size][top : top + height, left : left + width]
        picture = ImageEnhance.Brightness(Image.fromarray(part)).enhance(rng.uniform(0.7, 1.3))
        if rng.random() < 0.5:
            picture = ImageOps.mirror(picture)
        picture.save(folder / "JPEGImages" / f"{names[index]}.jpg", quality=_QUALITY)

    for _ in in_threads(write, range(len(names)), n_cores(), "draw"):
        pass
    for precision, count in counts.items():
        listed = "".join(f"{name}\n" for name in names[:count])
        (folder / "ImageSets/Segmentation" / f"{precision}.txt").write_text(listed)
    return open_devkit(folder)


def _larger(size: HW) -> HW:
    return size[0] * 5 // 4, size[1] * 5 // 4


@contextmanager
def gpu_use() -> Iterator[list[float]]:
    """Yield a list that holds, after the block, how busy nvidia-smi found the GPU, in percent.

    It is empty where there is no nvidia-smi.
    """
    use: list[float] = []
    smi = shutil.which("nvidia-smi")
    if smi is None:
        yield use
        return
    command = [smi, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with subprocess.Popen(
        [*command, f"--loop-ms={_SAMPLED_EVERY}"], stdout=subprocess.PIPE, text=True
    ) as sampling:
        try:
            yield use
        finally:
            sampling.terminate()
            told, _ = sampling.communicate()
    use += [float(line) for line in told.splitlines() if line.strip().isdecimal()]
