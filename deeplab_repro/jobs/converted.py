"""Runs converted files as others would: with onnxruntime, or OpenCV 4's Caffe importer.

Both get the bytes: of a file's name that is no UTF-8, OpenCV crashes.
"""

from pathlib import Path

import numpy as np

from deeplab_repro.caffe import read_net
from deeplab_repro.engines.onnxruntime import load_onnxruntime, make_session
from deeplab_repro.errors import NetError
from deeplab_repro.machine.opencv import cv2, told_by


def run_onnx(path: Path, data: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Run an ONNX file on its one input; what ran it, and its outputs.

    Raises DeviceError where onnxruntime is not installed, and NetError where it cannot run the net.
    """
    what = f"onnxruntime {load_onnxruntime().__version__}"
    try:
        session = make_session(path.read_bytes(), "cpu")
        return what, session.run(None, {session.get_inputs()[0].name: data})
    except Exception as error:  # its exceptions share no other base class
        raise _cannot_run(what, " ".join(str(error).split())) from error


def run_caffe(prototxt: Path, caffemodel: Path, data: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Run a current net on its one input with OpenCV 4; what ran it, and its outputs.

    Raises NetError where OpenCV cannot, and what `read_net` raises.
    """
    what = f"OpenCV {cv2.__version__}"
    net = read_net(prototxt)
    try:
        files = (np.fromfile(path, np.uint8) for path in (prototxt, caffemodel))
        loaded = cv2.dnn.readNetFromCaffe(*files)
        # OpenCV's names of layers: a convolution has its blob's, and the second of a name a number.
        names = zip(net.layers, loaded.getLayerNames(), strict=True)
        maker = {top: name for layer, name in names for top in layer.tops}
        loaded.setInput(data)
        found = loaded.forward([maker[output] for output in net.outputs])
    except cv2.error as error:
        raise _cannot_run(what, told_by(error)[0]) from error
    # Of an InnerProduct's four axes OpenCV has the first two.
    return what, [blob.reshape(blob.shape + (1,) * (4 - blob.ndim)) for blob in found]


def _cannot_run(what: str, text: str) -> NetError:
    return NetError(
        f"{what} cannot run the converted net: {text}; "
        "where others can, convert it without verifying"
    )
