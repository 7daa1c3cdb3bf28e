"""Runs a net with onnxruntime, an optional package: `pip install "deeplab-repro[onnx]"`.

Where a device fails, onnxruntime takes another with a warning at most. So this checks the device
first, and forbids another.
"""

import contextlib
import io
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.convert.onnx_graph import OPSETS, Graph
from deeplab_repro.engines.engine import check_precision, check_request, in_shape
from deeplab_repro.engines.folding import folded
from deeplab_repro.errors import DeepLabError, DeviceError, NetError, ResourceError, one_line
from deeplab_repro.machine.device import Device, Precision, resolve_device
from deeplab_repro.machine.gpus import driver_problem
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.net import Net

if TYPE_CHECKING:
    import onnxruntime

# How many sessions are kept, each with its own copy of the weights.
_KEPT = 2

_CUDA = "CUDAExecutionProvider"


def load_onnxruntime() -> ModuleType:
    """The module onnxruntime. Raises DeviceError where it is not installed or does not import."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise DeviceError(
            'onnxruntime is not installed: pip install "deeplab-repro[onnx]"'
        ) from error
    except ImportError as error:
        raise DeviceError(
            f"onnxruntime does not import: {one_line(error)}; install it again"
        ) from error
    return onnxruntime


def cuda_problem() -> str | None:
    """What keeps onnxruntime from running on CUDA here, with the mend; None where it runs.

    Raises DeviceError where there is no onnxruntime.
    """
    onnxruntime = load_onnxruntime()
    if _CUDA not in onnxruntime.get_available_providers():
        return (
            f"onnxruntime {onnxruntime.__version__} is built without CUDA: uninstall it and "
            'pip install "onnxruntime-gpu[cuda,cudnn]", or use --device cpu'
        )
    return driver_problem() or _provider_problem(onnxruntime)


def _provider_problem(onnxruntime: ModuleType) -> str | None:
    """What keeps onnxruntime's CUDA provider, a library of its own, from being loaded."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA and cuDNN from NVIDIA's packages
    onnxruntime.set_default_logger_severity(4)  # what it would print comes as an exception too
    try:
        make_session(_probe(), "cuda")
    except Exception as error:  # its exceptions share no other base class
        why = (told.getvalue().splitlines() or [one_line(error)])[0]
        return (
            f"onnxruntime {onnxruntime.__version__} does not load its CUDA provider ({why}): "
            'pip install "onnxruntime-gpu[cuda,cudnn]", or use --device cpu'
        )
    finally:
        onnxruntime.set_default_logger_severity(2)  # its default
    return None


def _probe(opset: int = OPSETS[0]) -> bytes:
    """The smallest of ONNX files."""
    graph = Graph("probe", opset)
    graph.output(graph.node("Relu", [graph.input("x", "float32", (1,))], "y"), "float32", (1,))
    return b"".join(graph.chunks({}))


def make_session(model: bytes | str, device: Device) -> "onnxruntime.InferenceSession":
    """onnxruntime's session of an ONNX file's bytes, or of the file at a path.

    It has as many threads as OpenCV: one setting, OPENCV_FOR_THREADS_NUM or cv2.setNumThreads,
    holds for whatever runs the net. Raises onnxruntime's exceptions.
    """
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # as above
    options.intra_op_num_threads = cv2.getNumThreads()
    # Else the threads wait for more work on cores that the CRF can use.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Else a size seen before takes the memory of all blobs once more, in one piece.
    options.enable_mem_pattern = False
    providers: list = ["CPUExecutionProvider"]
    if device == "cuda":
        providers = [(_CUDA, {"use_tf32": "0"})]
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    session.disable_fallback()  # when it runs
    return session


def newest_opset() -> int:
    """The newest of OPSETS that onnxruntime runs. It does not tell, so they are tried.

    Raises DeviceError where there is no onnxruntime, and what keeps it from running anything.
    """
    for opset in reversed(OPSETS):
        try:
            make_session(_probe(opset), "cpu")
        except Exception:  # its exceptions share no other base class
            if opset == OPSETS[0]:
                raise
        else:
            break
    return opset


class OnnxRuntimeEngine:
    """A net that onnxruntime runs in float32. Use one engine per thread.

    Engines of one net share nothing that changes.
    """

    def __init__(self, net: Net, device: str = "auto", precision: Precision = "float32") -> None:
        """Raises DeviceError where onnxruntime, the device or the precision is unavailable."""
        check_precision(precision)
        if precision == "float16":
            raise DeviceError(
                "float16 was asked for, but with onnxruntime nets run in float32 only: "
                "use --precision float32, or --engine opencv"
            )
        self._onnxruntime = load_onnxruntime()
        self.name = f"onnxruntime {self._onnxruntime.__version__}"
        self.net = net
        self.precision: Precision = precision
        self.device = resolve_device(device, cuda_problem)
        self._sessions: dict[tuple[Shape, tuple[str, ...]], onnxruntime.InferenceSession] = {}
        self._made = {top for layer in net.layers for top in layer.tops}
        usual = net.output, net.coarse_output[0]
        self._usual = tuple(dict.fromkeys(name for name in usual if name in self._made))
        self._run_options = self._onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True  # not to all of a session's outputs

    def build(self) -> None:
        """Build a session for the net's own size, which the first run would do otherwise.

        On CUDA it also runs once, to the coarse scores of one image: what is wrong with the machine
        comes with the first run. Raises what `blobs` raises.
        """
        if self.device == "cuda":
            self.blobs(np.zeros((1, *self.net.input_shape[1:]), np.float32), self._usual[-1:])
        else:
            self._session(self.net.input_shape, self._usual)

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Run the net on NxCxHxW float32 (BGR minus mean); the named blobs, float32.

        The first run builds a session; later runs reuse it, at other sizes too unless the net fixes
        a size. Raises ArgumentError for other arrays and for a blob that the net does not make,
        WeightsError where a layer has no weights, NetError where the net does not fit the size or
        onnxruntime cannot run it, and ResourceError where it runs out of memory.
        """
        names = tuple(dict.fromkeys(names))
        check_request(self.net, self._made, data, names)
        shapes = self.net.blob_shapes(data.shape)  # says clearly where the net does not fit
        outputs = self._usual if set(names) <= set(self._usual) else names
        session = self._session(data.shape, outputs)
        values = dict(zip(outputs, (value.name for value in session.get_outputs()), strict=True))
        inputs = {session.get_inputs()[0].name: data}
        try:
            found = session.run([values[name] for name in names], inputs, self._run_options)
        except Exception as error:  # its exceptions share no other base class
            raise self._explained(error, data.shape) from error
        what = f"{self._what(data.shape)} makes"
        return {
            name: in_shape(blob, shapes[name], f"{what} '{name}'")
            for name, blob in zip(names, found, strict=True)
        }

    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW.

        Fitted to peaks with onnxruntime 1.32 on a CPU, from -1% to +33%: LargeFOV took 595 and 835
        MB at 513x513 and 1025x769, MSc-LargeFOV 796, DeepLab 1300, DeepLab-7x7 3300.
        DeepLabv2-ResNet101, whose blobs live shortly, took 970 MB in place of 1900.
        """
        # While it is built there are several copies of the weights, and afterwards two.
        return int(6 * 4 * self.net.parameters + 0.29 * self.net.activation_bytes(shape))

    def _session(self, shape: Shape, outputs: tuple[str, ...]) -> "onnxruntime.InferenceSession":
        # Where the net fits any size, so does a session.
        key = self.net.input_shape if self.net.fits_any_size else shape, outputs
        session = self._sessions.pop(key, None)
        if session is None:
            while len(self._sessions) >= _KEPT:
                del self._sessions[next(iter(self._sessions))]
            # Its own folding makes a copy for every layer that shares weights.
            model = to_onnx(folded(self.net, outputs), *key)
            try:
                session = make_session(model, self.device)
            except Exception as error:  # as above
                raise self._explained(error, shape) from error
        self._sessions[key] = session  # the last used is the last to go
        return session

    def _what(self, shape: Shape) -> str:
        return f"net '{self.net.name}' at {dims(shape)}: {self.name}"

    def _explained(self, error: Exception, shape: Shape) -> DeepLabError:
        self._sessions.clear()
        what, text = self._what(shape), one_line(error)
        if isinstance(error, MemoryError) or "allocat" in text or "bad_alloc" in text:
            return ResourceError(f"{what} ran out of memory: use a smaller image")
        return NetError(f"{what} cannot run it on {self.device}: {text}")
