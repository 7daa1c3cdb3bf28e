"""deeplab-repro doctor: what is installed, and what would run where."""

import argparse
import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from deeplab_repro.errors import DeepLabError, DeviceError, one_line

Row = tuple[str, str, str | None]
"""What was looked at, what was found, and what is wrong with it, if anything."""

# Packages, and a module of each to try, with a part of it. Numba is tried with the CRF.
_PACKAGES: dict[str, tuple[str, ...]] = {
    "deeplab-repro": (),
    "numpy": ("numpy", "ndarray"),
    "numba": (),
    "numba-cuda": (),
    "scipy": ("scipy.ndimage", "correlate"),
    "protobuf": ("google.protobuf.message", "Message"),
    "pillow": ("PIL.Image", "open"),
    "rich": ("rich.console", "Console"),
    "onnxruntime": ("onnxruntime", "InferenceSession"),
    "onnxruntime-gpu": ("onnxruntime", "InferenceSession"),
    "openvino": ("openvino", "Core"),
}
_OPTIONAL = ("onnxruntime", "onnxruntime-gpu", "openvino")
_TITLES = {"opencv": "OpenCV", "onnxruntime": "onnxruntime", "openvino": "OpenVINO"}
_COLUMNS, _INDENT = 80, 23


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "doctor",
        help="show what is installed and what would run where",
        description="Show what is installed, what would run where, and what is wrong.",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the CRF ahead, for any number of labels, and do nothing else",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; exit status 2 if something is wrong."""
    if arguments.compile:
        from deeplab_repro.crf.cpu.mean_field import compile_all

        compile_all()
        return 0
    problems = []
    for name, found, problem in check():
        _print(f"{name:<{_INDENT - 1}} ", found)
        if problem:
            problems.append(problem)
    for problem in problems:
        _print("problem: ", problem)
    return 2 if problems else 0


def _print(begin: str, text: str) -> None:
    """Print a text in as many lines as it takes, below its beginning."""
    import textwrap

    indent = " " * len(begin)
    for line in textwrap.wrap(
        one_line(text), _COLUMNS, initial_indent=begin, subsequent_indent=indent,
        break_on_hyphens=False,
    ):  # fmt: skip
        print(line)


def check() -> Iterator[Row]:
    """Look at the packages, the GPUs, OpenCV, Numba and the machine."""
    import platform

    yield "python", f"{platform.python_version()} on {platform.platform()}", None
    all_load = True
    for package, wanted in _PACKAGES.items():
        found, problem = _check_package(package, wanted)
        all_load = all_load and (problem is None or package in _OPTIONAL)
        yield package, found, problem
    yield from _check_gpus()
    yield from _check_opencvs()
    if all_load:
        yield from _check_net()
        yield from _check_numba()
    yield from _check_machine()


def _check_package(package: str, wanted: Sequence[str]) -> tuple[str, str | None]:
    """What is there of a package, and what is wrong with it."""
    from deeplab_repro.machine.packages import load, versions

    found = versions(package)
    problem = None
    if len(found) > 1:
        problem = (
            f"{package} is there in {len(found)} versions, {' and '.join(found)}, over each other: "
            f"pip uninstall -y {package}, as often as that finds one, and pip install {package}"
        )
    elif wanted and (found or package not in _OPTIONAL):
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # some print what they also raise
                load(*wanted)
        except DeviceError as error:
            problem = str(error)
    return " and ".join(found) or "not installed", problem


def _check_gpus() -> Iterator[Row]:
    from deeplab_repro.machine.gpus import cuda_version, driver_problem, find_gpus

    major, minor = cuda_version()
    yield "NVIDIA driver", f"for CUDA up to {major}.{minor}" if major else "none", None
    if problem := driver_problem():
        yield "GPU", f"none: {problem}" if major else "none", None
    for number, gpu in enumerate(find_gpus()):
        major, minor = gpu.capability
        found = f"{gpu.name}, sm_{major}{minor}, {gpu.memory / 2**30:.0f} GiB"
        yield f"GPU {number}", found, None


def _check_opencvs() -> Iterator[Row]:
    from deeplab_repro.machine.packages import OPENCVS, mend_of, versions

    found = [f"{name} {version}" for name in OPENCVS for version in versions(name)]
    problem = f"{len(found)} OpenCV packages overwrite each other's cv2: {mend_of('cv2')}"
    listed = ", ".join(found) or "none (another build?)"
    yield "opencv packages", listed, problem if len(found) > 1 else None


def _check_net() -> Iterator[Row]:
    try:
        from deeplab_repro.machine.opencv import cv2
    except DeviceError as error:
        yield "net", "cannot run", str(error)
        return
    yield "cv2", f"{cv2.__version__} from {os.path.dirname(cv2.__file__)}", None
    from deeplab_repro.engines.opencv import BY_CAFFE
    from deeplab_repro.engines.opencv_cuda import cuda_build, cuda_problem

    yield "CUDA in cv2", str(cuda_build() or "none"), None
    by = "Caffe" if BY_CAFFE else "ONNX"
    yield "net on cpu", f"yes, {cv2.getNumThreads()} threads, by OpenCV's {by} importer", None
    without, without_half = cuda_problem("float32"), cuda_problem("float16")
    yield "net on cuda", _yes_or_no(without), None
    half = "as in float32" if without == without_half else _yes_or_no(without_half)
    yield "net on cuda, float16", half, None
    yield "net on auto", _auto(without), None
    yield from _check_engines()


def _check_engines() -> Iterator[Row]:
    """Whether there is bfloat16, and what was measured here of the engines."""
    from deeplab_repro.engines.calibration import on_this_machine
    from deeplab_repro.engines.openvino import bfloat16_problem

    try:
        yield "net in bfloat16", _yes_or_no(bfloat16_problem()), None
    except DeviceError as error:
        yield "net in bfloat16", f"no: {error}", None
    for each in on_this_machine():
        times = (f"{name} {t * 1e3:.0f} ms" for name, t in each.seconds.items() if t)
        size = f"2^{each.size} pixels, {each.threads} threads"
        yield "engines measured", f"{each.net}, {size}: {', '.join(times)}", None


def _auto(without_cuda: str | None) -> str:
    """Which device and library the device "auto" stands for."""
    from deeplab_repro.engines.choose import engines_for

    engines = engines_for("auto", "float32")
    if len(engines) > 1:
        return f"cpu, with the fastest of {', '.join(_TITLES[name] for name in engines)}"
    on_cuda = without_cuda is None or engines == ["onnxruntime"]
    return f"{'cuda' if on_cuda else 'cpu'}, with {_TITLES[engines[0]]}"


def _yes_or_no(problem: str | None) -> str:
    return f"no: {problem}" if problem else "yes"


def _check_numba() -> Iterator[Row]:
    try:
        from deeplab_repro.machine.jit import folder_of, numba
    except DeviceError as error:
        yield "CRF", "cannot run", str(error)
        return
    yield "CRF on cpu", f"yes, {numba.get_num_threads()} threads", None
    from deeplab_repro.crf.cuda.device import crf_cuda_problem, crf_device

    yield "CRF on cuda", _yes_or_no(crf_cuda_problem()), None
    yield "CRF on auto", crf_device("auto"), None
    from deeplab_repro.crf.cpu import steps

    yield "compiled code", *_check_kept_code(folder_of(steps.iterate))


def _check_kept_code(folder: Path | None) -> tuple[str, str | None]:
    """Where the CRF's compiled code is kept, and what keeps it from being kept."""
    from deeplab_repro.machine.code_files import problem_of

    mend = "each run compiles the CRF again: set NUMBA_CACHE_DIR to a folder that can be written"
    if folder is None:
        return "not kept", f"there is no folder to keep compiled code in, so {mend}"
    size = sum(path.stat().st_size for path in folder.glob("*.nbc"))
    problem = problem_of(folder)
    return f"{size / 1e6:.1f} MB in {folder}", problem and f"{problem}, so {mend}"


def _check_machine() -> Iterator[Row]:
    from deeplab_repro.machine.memory import available_memory
    from deeplab_repro.models.registry import MODELS, prototxt_folder

    free = available_memory()
    yield "processors", str(os.cpu_count()), None
    yield "free memory", f"{free / 1e9:.1f} GB" if free else "unknown", None
    try:
        yield "nets", f"{len(MODELS)} in {prototxt_folder()}", None
    except DeepLabError as error:
        yield "nets", "missing", str(error)
