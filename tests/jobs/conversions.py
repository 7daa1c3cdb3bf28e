"""Small nets to convert, and how a checked conversion is run and judged."""

import pytest

from deeplab_repro.jobs.convert import OnnxOptions, convert_files
from deeplab_repro.net.layers import Convolution
from deeplab_repro.net.net import Layer, Net

PHOTOS = OnnxOptions(softmax=True, rgb_uint8=True)


def net_of(*layers, shape=(1, 3, 20, 26)):
    made = Net("n", "data", shape, list(layers))
    made.fill_random(0)
    return made


def layer(name, op, bottom, *tops):
    return Layer(name, op, (bottom,), tops)


def conv(name, bottom, top, stride=1):
    return layer(name, Convolution(4, (3, 3), pad=(1, 1), stride=(stride, stride)), bottom, top)


def checked(net, to, out, **options):
    """Convert with a check, where what it takes is there."""
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    return convert_files(net, to, out, verify=True, **options)


def assert_agree(converted):
    for difference in converted.differences:
        assert 0 <= difference.largest <= difference.tolerance
        assert difference.of_engine is None  # a run in float64 was not needed
