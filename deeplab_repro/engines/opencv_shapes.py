"""Where OpenCV 4 makes other sizes than Caffe: its poolings, and a check of all that it makes."""

from collections.abc import Iterator

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.engines.exact_channels import CHANNEL_RULES
from deeplab_repro.errors import NetError
from deeplab_repro.machine.opencv import cv2
from deeplab_repro.net.layers import LayerType, Pooling
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.shape_layers import Reshape

BY_ONNX = {*CHANNEL_RULES, "ArgMax", "Slice", "Tile"}
"""The types that OpenCV 4 reads from our ONNX alone.

Its importer of Caffe's files lacks BN, Bias and some options of the like, Tile and ArgMax, and
tells only the first top of a Slice.
"""


def reads_as_caffe(op: LayerType) -> bool:
    """Whether OpenCV 4's importer of Caffe's files has this layer, with its parameters.

    It begins a Reshape at no axis below 0.
    """
    if isinstance(op, Reshape):
        return op.axis >= 0
    return type(op).__name__ not in BY_ONNX


def pools_by_axis(op: LayerType) -> bool:
    """Whether it is a pooling in which OpenCV 4 keeps windows that Caffe drops, at some size.

    With any pad Caffe drops the windows that begin behind the image, on both axes; OpenCV only on
    an axis that has a pad itself. On others such windows come where strides exceed the kernel.
    """
    if not isinstance(op, Pooling) or not any(op.pad):
        return False
    axes = zip(op.kernel, op.stride, op.pad, strict=True)
    return any(not pad and stride > kernel for kernel, stride, pad in axes)


def check_poolings(net: Net, shape: Shape) -> None:
    """Raise NetError where a window begins behind the image: Caffe has no number for it.

    It makes the lowest float of it, or NaN, and OpenCV makes 0.
    """
    for layer, op, sizes in _poolings(net, shape):
        for n_in, n_out, pad, _, stride in sizes:
            if (n_out - 1) * stride >= n_in + pad:
                raise NetError(
                    f"net '{net.name}' at {dims(shape)}: layer '{layer.name}' (Pooling) has a "
                    f"window behind the image, of which Caffe makes no number, as its stride "
                    f"{dims(op.stride)} is larger than its kernel {dims(op.kernel)}: use another "
                    "size, or a kernel as large as the stride"
                )


def pooled_otherwise(net: Net, shape: Shape) -> str | None:
    """The first layer that OpenCV's CUDA pools differently from Caffe; None where there is none.

    OpenCV keeps windows that begin behind the image, which Caffe drops, and writes past the blob's
    end; and its average counts what a last window covers beyond the padding. None of the paper's
    nets has such windows at the sizes that `Net.fitting_size` gives.
    """
    for layer, op, sizes in _poolings(net, shape):
        for n_in, n_out, pad, kernel, stride in sizes:
            beyond = (n_out - 1) * stride + kernel - (n_in + 2 * pad)
            if beyond < 0 or (beyond > 0 and op.method == "AVE"):
                return layer.name
    return None


def _poolings(
    net: Net, shape: Shape
) -> Iterator[tuple[Layer, Pooling, list[tuple[int, int, int, int, int]]]]:
    """The poolings with a kernel: of each axis the bottom's size, the top's, pad, kernel, stride.

    The image is that of the bottom.
    """
    for layer, bottoms, (top, *_) in net.walk(shape):
        op = layer.op
        if isinstance(op, Pooling) and op.kernel != (0, 0):
            sizes = zip(bottoms[0][2:], top[2:], op.pad, op.kernel, op.stride, strict=True)
            yield layer, op, list(sizes)


def check_shapes(made: "cv2.dnn.Net", net: Net, shape: Shape) -> None:
    """Raise NetError where OpenCV's net from Caffe's files makes another shape than Caffe.

    net: each of its layers makes one blob, after which OpenCV's layer is named. Where a layer to a
    size follows, its output would hide that.
    """
    expected = {layer.tops[0]: (layer, tops[0]) for layer, _, tops in net.walk(shape)}
    numbers, _, tops = made.getLayersShapes([list(shape)])
    for number, (found, *_) in zip(numbers, tops, strict=True):
        layer, top = expected.get(made.getLayer(int(number)).name, (None, ()))
        if layer and tuple(map(int, found)) != top:
            raise NetError(
                f"net '{net.name}' at {dims(shape)}: layer '{layer.name}' ({layer.type}) makes "
                f"{dims(tuple(map(int, found)))} in OpenCV {cv2.__version__}, {dims(top)} in "
                "Caffe: use --engine onnxruntime"
            )
