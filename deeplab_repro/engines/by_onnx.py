"""What the engines have in common that hand our ONNX to another library."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.engines.engine import check_request, in_shape
from deeplab_repro.engines.folding import folded
from deeplab_repro.errors import DeepLabError, DeviceError, NetError, ResourceError, one_line
from deeplab_repro.machine.device import Device, Precision
from deeplab_repro.machine.packages import load
from deeplab_repro.machine.shortage import shortage
from deeplab_repro.net.net import Net

# How many sessions are kept, each with its own copy of the weights.
_KEPT = 2


def load_library(name: str, extra: str, *parts: str) -> ModuleType:
    """An optional package. Raises DeviceError where it is not installed, or not whole.

    extra: of this package, which brings it. parts: what it must have beside its version.
    """
    if importlib.util.find_spec(name) is None:
        raise DeviceError(f'{name} is not installed: pip install "deeplab-repro[{extra}]"')
    return load(name, "__version__", *parts)


class OnnxEngine(ABC):
    """A net that another library runs from our ONNX, in memory. Use one engine per thread.

    Engines of one net share nothing that changes. A session is what the library made of the ONNX.
    """

    def __init__(
        self, net: Net, name: str, device: Device, precision: Precision, usual: Iterable[str]
    ) -> None:
        """usual: the blobs that a session is made for where no others are asked for."""
        self.net, self.name = net, name
        self.device: Device = device
        self.precision: Precision = precision
        self._sessions: dict[tuple[Shape, tuple[str, ...]], Any] = {}
        self._made = {top for layer in net.layers for top in layer.tops}
        self._usual = tuple(dict.fromkeys(name for name in usual if name in self._made))

    @abstractmethod
    def _load(self, model: bytes) -> Any:
        """A session of an ONNX file's bytes. Raises the library's exceptions."""

    @abstractmethod
    def _run(
        self, session: Any, data: np.ndarray, outputs: Sequence[str], names: Sequence[str]
    ) -> Sequence[np.ndarray]:
        """The blobs `names` of a session that has `outputs`. Raises the library's exceptions."""

    @abstractmethod
    def memory_needed(self, shape: Shape) -> int:
        """About how many bytes it takes to run on images of up to this NxCxHxW."""

    def build(self) -> None:
        """Make a session for the net's own size, which the first run would do otherwise.

        Raises what `blobs` raises.
        """
        self._session(self.net.input_shape, self._usual)

    def blobs(self, data: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Run the net on NxCxHxW float32 (BGR minus mean); the named blobs, float32.

        The first run makes a session; later runs reuse it, at other sizes too unless the net fixes
        a size. Raises ArgumentError for other arrays and for a blob that the net does not make,
        WeightsError where a layer has no weights, NetError where the net does not fit the size or
        the library cannot run it, and ResourceError where it runs out of memory.
        """
        names = tuple(dict.fromkeys(names))
        check_request(self.net, self._made, data, names)
        shapes = self.net.blob_shapes(data.shape)  # says clearly where the net does not fit
        outputs = self._usual if set(names) <= set(self._usual) else names
        session = self._session(data.shape, outputs)
        try:
            found = self._run(session, data, outputs, names)
        except Exception as error:  # the libraries' exceptions share no other base class
            raise self._explained(error, data.shape) from error
        what = f"{self._what(data.shape)} makes"
        return {
            name: in_shape(blob, shapes[name], f"{what} '{name}'")
            for name, blob in zip(names, found, strict=True)
        }

    def _session(self, shape: Shape, outputs: tuple[str, ...]) -> Any:
        # Where the net fits any size, so does a session.
        key = self.net.input_shape if self.net.fits_any_size else shape, outputs
        session = self._sessions.pop(key, None)
        if session is None:
            while len(self._sessions) >= _KEPT:
                del self._sessions[next(iter(self._sessions))]
            # The libraries' own folding makes a copy for every layer that shares weights.
            model = to_onnx(folded(self.net, outputs), *key)
            try:
                session = self._load(model)
            except Exception as error:  # as above
                raise self._explained(error, shape) from error
        self._sessions[key] = session  # the last used is the last to go
        return session

    def _what(self, shape: Shape) -> str:
        return f"net '{self.net.name}' at {dims(shape)}: {self.name}"

    def _explained(self, error: Exception, shape: Shape) -> DeepLabError:
        self._sessions.clear()
        what = self._what(shape)
        if problem := shortage(error):
            return ResourceError(f"{what} {problem}")
        return NetError(f"{what} cannot run it on {self.device}: {one_line(error)}")
