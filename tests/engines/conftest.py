"""Machines and nets that are not here, for the tests of the engines."""

from dataclasses import replace

import cv2
import pytest

from deeplab_repro.engines import opencv, parts
from deeplab_repro.engines.opencv import OpenCVEngine
from deeplab_repro.net.layers import Convolution

_FASTER_WAY = parts.faster_way


def way_of_a_wide_layer(op, _):
    """The way of a layer that were wide enough for another than OpenCV's."""
    return _FASTER_WAY(replace(op, num_output=1024) if isinstance(op, Convolution) else op, 512)


@pytest.fixture
def narrow_as_wide(monkeypatch):
    """Small nets go the ways of large ones."""
    monkeypatch.setattr(parts, "faster_way", way_of_a_wide_layer)


@pytest.fixture
def on_cuda(monkeypatch):
    """Make an engine for CUDA, which runs with OpenCV's CPU in its place."""
    if not opencv.BY_CAFFE:
        pytest.skip("OpenCV 5 runs our nets on the CPU only")
    monkeypatch.setattr(cv2.dnn, "DNN_BACKEND_CUDA", cv2.dnn.DNN_BACKEND_OPENCV)
    monkeypatch.setattr(opencv, "target", lambda _: cv2.dnn.DNN_TARGET_CPU)

    def make(net, precision="float32", **options):
        net.fill_random(0)
        return OpenCVEngine(net, "cuda", precision, **options)

    return make
