"""Who runs in `bench net`: this package's engines and their peers, each in its own process.

All begin with files, as users have them, so that reading these counts for all.
"""

import importlib
import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import Shape
from deeplab_repro.bench.hardware import peak_above, product_rate, reset_peak
from deeplab_repro.bench.net_files import NetFiles
from deeplab_repro.bench.process import Process
from deeplab_repro.engines.onnxruntime import NO_TELEMETRY
from deeplab_repro.engines.openvino import without_telemetry
from deeplab_repro.machine.heap import keep_freed_memory

# Set before their libraries are loaded: OpenCV's, OpenBLAS's, OpenMP's and MKL's.
_THREADS = ("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Contender:
    """One that runs nets.

    title: in messages and tables. module, function: makes a Forward of NetFiles. library: what
    it needs. mend: how to install the library. ours: whether it is this package's.
    """

    title: str
    module: str
    function: str
    library: str
    mend: str
    ours: bool = False

    @property
    def problem(self) -> str | None:
        """Why it cannot run here, with the mend."""
        if importlib.util.find_spec(self.library):
            return None
        return f"{self.library} is not installed: {self.mend}"


_FORWARDS, _TORCH_NET = "deeplab_repro.bench.forwards", "deeplab_repro.bench.torch_net"
_CV2 = "cv2", "pip install opencv-python-headless"
_ONNXRUNTIME = "onnxruntime", 'pip install "deeplab-repro[onnx]"'
_OPENVINO = "openvino", 'pip install "deeplab-repro[openvino]"'
_TORCH = "torch", "pip install torch --index-url https://download.pytorch.org/whl/cpu"

# fmt: off
CONTENDERS = {
    "opencv": Contender(
        "deeplab-repro, opencv", _FORWARDS, "our_opencv", *_CV2, ours=True),
    "onnxruntime": Contender(
        "deeplab-repro, onnxruntime", _FORWARDS, "our_onnxruntime", *_ONNXRUNTIME, ours=True),
    "openvino": Contender(
        "deeplab-repro, openvino", _FORWARDS, "our_openvino", *_OPENVINO, ours=True),
    "plain_opencv": Contender("plain cv2", _FORWARDS, "plain_opencv", *_CV2),
    "plain_onnxruntime": Contender(
        "plain onnxruntime", _FORWARDS, "plain_onnxruntime", *_ONNXRUNTIME),
    "torch": Contender("PyTorch", _TORCH_NET, "torch_forward", *_TORCH),
}
# fmt: on
"""By the names that reports have for them. The first can run everywhere."""


def start(name: str, job: NetFiles) -> Process:
    """Start a contender's process, which holds its `Runner`. Raises ResourceError."""
    environment = dict.fromkeys(_THREADS, str(job.threads)) | {NO_TELEMETRY: "1"}
    return Process(CONTENDERS[name].title, Runner(CONTENDERS[name], job), environment)


class Runner:
    """Times one contender, in that contender's process."""

    def __init__(self, contender: Contender, job: NetFiles) -> None:
        self._contender, self._job = contender, job
        self._before: int | None = None
        self._data = np.empty(0, np.float32)

    def build(self) -> dict[str, float]:
        """Load the net from its files and run it once: the milliseconds of each of the two.

        The libraries are loaded before the clock starts.
        """
        if self._contender.ours:
            keep_freed_memory()  # as the commands do
        with without_telemetry():
            importlib.import_module(self._contender.library)
        module = importlib.import_module(self._contender.module)
        self._draw(self._job.shape)
        self._before = reset_peak()
        begun = time.perf_counter()
        self._forward = getattr(module, self._contender.function)(self._job)
        built = time.perf_counter()
        self._forward(self._data)
        return {
            "build_ms": 1e3 * (built - begun),
            "first_run_ms": 1e3 * (time.perf_counter() - built),
        }

    def resize(self, height: int, width: int) -> None:
        """Take an image of another size from now on, and run it once."""
        self._draw((*self._job.shape[:2], height, width))
        self._forward(self._data)

    def run(self) -> float:
        """Run the net once: the seconds that it takes."""
        begun = time.perf_counter()
        self._forward(self._data)
        return time.perf_counter() - begun

    def save_scores(self, path: Path) -> None:
        """Run the net once and write its scores as .npy."""
        np.save(path, self._forward(self._data))

    def peak(self) -> int | None:
        """The most bytes of memory held so far, above those held before `build`."""
        return peak_above(self._before)

    def product_rate(self) -> float:
        """Operations a second of NumPy's matrix product, with as many threads as all have."""
        return product_rate()

    def _draw(self, shape: Shape) -> None:
        # Noise, the same for all: convolutions take as long over it as over a photo.
        pixels = np.random.default_rng(0).integers(0, 256, shape)
        self._data = pixels.astype(np.float32) - np.float32(116)
