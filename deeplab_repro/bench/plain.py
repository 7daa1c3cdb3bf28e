"""OpenCV and onnxruntime as one runs converted files with them, without this package: the peers.

Each takes the names of files, and gives what runs a net to one blob: from NxCxHxW float32 to the
blob, float32. The libraries' own exceptions are raised.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from deeplab_repro.caffe import read_net
from deeplab_repro.engines.onnxruntime import load_onnxruntime
from deeplab_repro.engines.opencv_cuda import BY_CAFFE
from deeplab_repro.machine.opencv import cv2

Run = Callable[[np.ndarray], np.ndarray]


def plain_opencv(prototxt: Path, caffemodel: Path, onnx: Path, blob: str) -> Run:
    """OpenCV 4 with the current Caffe files, OpenCV 5 with the ONNX file, whose output is `blob`.

    It has as many threads as OPENCV_FOR_THREADS_NUM says.
    """
    layer = None
    if BY_CAFFE:
        net = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
        # OpenCV's names of layers are not the file's.
        names = zip(read_net(prototxt).layers, net.getLayerNames(), strict=True)
        layer = {top: name for layer, name in names for top in layer.tops}[blob]
    else:
        net = cv2.dnn.readNetFromONNX(str(onnx))

    def run(data: np.ndarray) -> np.ndarray:
        net.setInput(data)
        return net.forward(layer) if layer else net.forward()

    return run


def plain_onnxruntime(onnx: Path, threads: int) -> Run:
    """onnxruntime with the ONNX file of one output, and its own options but for the threads."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(data: np.ndarray) -> np.ndarray:
        return session.run(None, {name: data})[0]

    return run
