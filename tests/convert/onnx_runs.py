"""ONNX files as others run them."""

import cv2
import numpy as np
import pytest

from deeplab_repro.convert.onnx import to_onnx
from deeplab_repro.net.net import Net
from tests.slow_layers import one_layer, random_input, weights

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

OPENCV = f"OpenCV {cv2.__version__}"


def written(net: Net) -> bytes:
    return to_onnx(net, net.input_shape, net.outputs)


def model_of(file: bytes):
    """The onnx package's message of a file that it has nothing against."""
    model = onnx.load_model_from_string(file)
    onnx.checker.check_model(model, full_check=True)
    return model


class Runs:
    """A file in onnxruntime and, unless left out, in OpenCV's importer."""

    def __init__(self, file: bytes, opencv: bool = True):
        self.outputs = [output.name for output in model_of(file).graph.output]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # its threads take longer to start than these nets to run
        self._session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )
        self._opencv = cv2.dnn.readNetFromONNX(np.frombuffer(file, np.uint8)) if opencv else None

    def __call__(self, data: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """The outputs by name, of each that runs it."""
        (given,) = self._session.get_inputs()
        found = {"onnxruntime": self._session.run(self.outputs, {given.name: data})}
        if self._opencv is not None:
            self._opencv.setInput(data)
            found[OPENCV] = self._opencv.forward(self.outputs)
        return {
            runtime: dict(zip(self.outputs, arrays, strict=True))
            for runtime, arrays in found.items()
        }


def check(op, shape, slow, bottoms=1, atol=1e-4, scale=1):
    """That the layer makes what `slow` makes of its bottom; at other sizes too, if it may.

    scale: of a bottom's values, whose standard deviation is 50 else.
    """
    net = one_layer(op, shape, ("data",) * bottoms)
    run = Runs(written(net))
    sizes = [shape]
    if net.fits_any_size:  # larger and back: OpenCV keeps what it has built
        sizes += [(3, shape[1], shape[2] + 3, shape[3] + 1), shape]
    for size in sizes:
        data = random_input(*size) * np.float32(scale)
        expected = slow(data, op, *weights(net))
        for found in run(data).values():
            assert found["a"].shape == net.output_shape(size)
            np.testing.assert_allclose(found["a"], expected, rtol=1e-5, atol=atol)
