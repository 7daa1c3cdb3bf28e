"""Who runs in `bench net`: this package's engines and their peers, each in a process of its own.

All begin with files, as people have them, so that to read these counts for all.
"""

import importlib
import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.bench.machine import peak_above, product_rate, reset_peak
from deeplab_repro.bench.process import Process, answer
from deeplab_repro.caffe import load_weights
from deeplab_repro.convert.caffe import write_caffe
from deeplab_repro.convert.net_json import net_from_json, net_to_json
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.net.net import Net

Run = Callable[[np.ndarray], np.ndarray]

# Before their libraries are loaded: OpenCV's, OpenBLAS's, and those of what has OpenMP or MKL.
_THREADS = ("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

_CHILD = """
import sys
from deeplab_repro.bench.contenders import serve
serve({name!r}, {job!r})
"""


@dataclass(frozen=True)
class Job:
    """A net in files, the blob up to which it is run, an image's NxCxHxW, and so many threads."""

    folder: str
    blob: str
    shape: Shape
    threads: int

    def file(self, name: str) -> Path:
        """One of the files."""
        return Path(self.folder, name)

    def net(self) -> Net:
        """The net, with its weights."""
        net = net_from_json(self.file("net.json").read_text())
        load_weights(net, self.file("net.caffemodel"))
        return net


def write_job(net: Net, folder: str, shape: Shape, threads: int) -> Job:
    """Write the net's files, for images of one shape: the peers' end as the others are asked to.

    Raises NetError for a net that cannot be written, FileError and OSError.
    """
    job = Job(folder, net.coarse_output[0], shape, threads)
    job.file("net.json").write_text(net_to_json(net))
    sized = replace(net, input_shape=shape)
    write_caffe(sized, job.file("net.prototxt"), job.file("net.caffemodel"))
    job.file("net.onnx").write_bytes(to_onnx(sized, shape, [job.blob]))
    return job


def _our_opencv(job: Job) -> Run:
    from deeplab_repro.engines.opencv_cpu import OpenCVCpuEngine

    engine = OpenCVCpuEngine(job.net())
    engine.build()
    return lambda data: engine.blobs(data, [job.blob])[job.blob]


def _our_onnxruntime(job: Job) -> Run:
    from deeplab_repro.engines.onnxruntime import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(job.net(), "cpu")
    engine.build()
    return lambda data: engine.blobs(data, [job.blob])[job.blob]


def _plain_opencv(job: Job) -> Run:
    from deeplab_repro.bench.plain import plain_opencv

    prototxt, caffemodel = job.file("net.prototxt"), job.file("net.caffemodel")
    return plain_opencv(prototxt, caffemodel, job.file("net.onnx"), job.blob)


def _plain_onnxruntime(job: Job) -> Run:
    from deeplab_repro.bench.plain import plain_onnxruntime

    return plain_onnxruntime(job.file("net.onnx"), job.threads)


def _torch(job: Job) -> Run:
    from deeplab_repro.bench.torch_net import torch_net

    return torch_net(job.net(), job.blob, job.threads)


@dataclass(frozen=True)
class Contender:
    """One that runs nets.

    title: in messages and tables. build: what makes it ready. library, module: what it needs, and
    ours that uses it, both loaded before the clock starts. mend: how to get the library. ours: it
    is no peer.
    """

    title: str
    build: Callable[[Job], Run]
    library: str
    module: str
    mend: str
    ours: bool = False

    @property
    def problem(self) -> str | None:
        """Why it cannot run here, with the mend."""
        if importlib.util.find_spec(self.library):
            return None
        return f"{self.library} is not installed: {self.mend}"


_CV2 = "pip install opencv-python-headless"
_ONNXRUNTIME = 'pip install "deeplab-repro[onnx]"'
_TORCH = "pip install torch --index-url https://download.pytorch.org/whl/cpu"

# fmt: off
CONTENDERS = {
    "opencv": Contender(
        "deeplab-repro, opencv", _our_opencv,
        "cv2", "deeplab_repro.engines.opencv_cpu", _CV2, ours=True),
    "onnxruntime": Contender(
        "deeplab-repro, onnxruntime", _our_onnxruntime,
        "onnxruntime", "deeplab_repro.engines.onnxruntime", _ONNXRUNTIME, ours=True),
    "plain_opencv": Contender(
        "plain cv2", _plain_opencv,
        "cv2", "deeplab_repro.bench.plain", _CV2),
    "plain_onnxruntime": Contender(
        "plain onnxruntime", _plain_onnxruntime,
        "onnxruntime", "deeplab_repro.bench.plain", _ONNXRUNTIME),
    "torch": Contender(
        "PyTorch", _torch,
        "torch", "deeplab_repro.bench.torch_net", _TORCH),
}
# fmt: on
"""By the names that reports have for them. The first is there always."""


def start(name: str, job: Job) -> Process:
    """A contender's process, which answers as `Runner`. Raises ResourceError."""
    environment = dict.fromkeys(_THREADS, str(job.threads))
    code = _CHILD.format(name=name, job=json.dumps(asdict(job)))
    return Process(CONTENDERS[name].title, code, environment, job.file(f"{name}.txt"))


def serve(name: str, job: str) -> None:
    """In that process: do what is asked for."""
    fields = json.loads(job)
    answer(Runner(CONTENDERS[name], Job(**{**fields, "shape": tuple(fields["shape"])})))


class Runner:
    """A contender in its process."""

    def __init__(self, contender: Contender, job: Job) -> None:
        self._contender, self._job = contender, job
        self._before: int | None = None
        self._data = np.empty(0)

    def build(self) -> dict[str, float]:
        """Make it ready, from files on, and run it once: the milliseconds of each of the two."""
        for module in (self._contender.module, self._contender.library):
            importlib.import_module(module)
        self._draw(self._job.shape)
        self._before = reset_peak()
        begun = time.perf_counter()
        self._run = self._contender.build(self._job)
        built = time.perf_counter()
        self._run(self._data)
        return {
            "build_ms": 1e3 * (built - begun),
            "first_run_ms": 1e3 * (time.perf_counter() - built),
        }

    def resize(self, height: int, width: int) -> None:
        """Take an image of another size from now on, and run it once."""
        self._draw((*self._job.shape[:2], height, width))
        self._run(self._data)

    def run(self) -> float:
        """The seconds of one run."""
        begun = time.perf_counter()
        self._run(self._data)
        return time.perf_counter() - begun

    def save_scores(self, path: str) -> None:
        """Write what comes of the image as .npy."""
        np.save(path, self._run(self._data))

    def peak(self) -> int | None:
        """The bytes held at most so far, above those before it was built."""
        return peak_above(self._before)

    def product_rate(self) -> float:
        """That of NumPy, with as many threads as all have."""
        return product_rate()

    def _draw(self, shape: Shape) -> None:
        # Noise, the same for all: to convolutions all images are alike.
        pixels = np.random.default_rng(0).integers(0, 256, shape)
        self._data = pixels.astype(np.float32) - np.float32(116)
