"""Runs converted files as others would: with onnxruntime, or OpenCV 4's Caffe importer."""

from pathlib import Path

import cv2
import numpy as np

from deeplab_repro.errors import DeviceError, NetError
from deeplab_repro.net import Net


def run_onnx(path: Path, data: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Run an ONNX file on its one input; what ran it, and its outputs.

    Raises DeviceError where onnxruntime is not installed, and NetError where it cannot run the net.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            "an ONNX file is checked with onnxruntime, which is not installed: "
            'pip install "deeplab-repro[onnx]"'
        ) from error
    what = f"onnxruntime {onnxruntime.__version__}"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print comes as an exception too
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        return what, session.run(None, {session.get_inputs()[0].name: data})
    except Exception as error:  # its exceptions share no other base class
        raise _cannot_run(what, error) from error


def run_caffe(
    net: Net, prototxt: Path, caffemodel: Path, data: np.ndarray
) -> tuple[str, list[np.ndarray]]:
    """Run the Caffe files of a net with OpenCV 4; what ran them, and the net's outputs.

    Raises NetError where OpenCV cannot.
    """
    what = f"OpenCV {cv2.__version__}"
    maker = {top: layer.name for layer in net.layers for top in layer.tops}
    try:
        loaded = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
        loaded.setInput(data)
        return what, loaded.forward([maker[output] for output in net.outputs])
    except cv2.error as error:
        raise _cannot_run(what, error) from error


def _cannot_run(what: str, error: Exception) -> NetError:
    return NetError(f"{what} cannot run it: {' '.join(str(error).split())}")
