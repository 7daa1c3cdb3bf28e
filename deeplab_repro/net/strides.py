"""How far apart a blob's rows lie in the image, from layer to layer."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from deeplab_repro.arrays import Shape
from deeplab_repro.net.channel_layers import Bias, Scale
from deeplab_repro.net.layers import (
    Convolution,
    Deconvolution,
    InnerProduct,
    Interp,
    LayerType,
    Pooling,
)
from deeplab_repro.net.shape_layers import Crop

_MAKES_SCORES = Convolution | InnerProduct | Pooling


def stride_after(
    op: LayerType, strides: Sequence[Fraction], bottoms: Sequence[Shape], top: Shape, image: Shape
) -> Fraction:
    """The stride of a layer's top.

    strides, bottoms: the strides and shapes of its bottoms. top, image: the shapes of the top and
    of the net's input. For an INTERP to a size the stride is that at these shapes.
    """
    # The second bottom says the size alone, or may lack rows, and is stretched.
    if isinstance(op, Bias | Crop | Scale):
        return strides[0]
    stride = _meeting(strides, bottoms, _rows(image))
    if isinstance(op, Convolution | Pooling):
        return stride * op.stride[0]
    if isinstance(op, Deconvolution):
        return stride / op.stride[0]
    if isinstance(op, Interp) and op.height is None:
        return stride * Fraction(op.shrink_factor, op.zoom_factor)
    if isinstance(op, Interp):
        cropped = _rows(bottoms[0]) + op.pad_beg + op.pad_end
        return stride * Fraction(max(1, cropped - 1), max(1, _rows(top) - 1))
    return stride


def stride_of_scores(
    scores: str,
    layers: Sequence[tuple[LayerType, Sequence[str], Sequence[str]]],
    strides: Mapping[str, Fraction],
) -> Fraction:
    """The stride at which a net makes its scores, before anything enlarges them; at least 1.

    scores: the blob. layers: the net's, each with its bottoms and tops. strides: of all blobs. Of
    branches that are enlarged and added up (the MSc nets) it is the largest.
    """
    if strides[scores] > 1:
        return strides[scores]
    found = [Fraction(1)]
    # The blobs on the way back from the scores, and whether they are enlarged after.
    way = {scores: False}
    for op, bottoms, tops in reversed(layers):
        enlarged = [way.pop(top) for top in tops if top in way]
        if not enlarged:
            continue
        if isinstance(op, Crop):
            bottoms = bottoms[:1]
        stride, several = strides[tops[0]], len(bottoms) > 1
        if isinstance(op, _MAKES_SCORES) or (several and any(enlarged)):
            found.append(stride)
            continue
        for bottom in bottoms:
            if not several or strides[bottom] == stride:  # else a pyramid's, see `_meeting`
                way[bottom] = any(enlarged) or strides[bottom] > stride
    return max(found)


def _meeting(strides: Sequence[Fraction], shapes: Sequence[Shape], rows: int) -> Fraction:
    """The stride at which several blobs meet: of the one that covers the image most nearly.

    The pooled rows of a pyramid are stretched to the size of another blob, and then lie as these
    do, whatever their own strides say. Of blobs that cover as much it is the largest.
    """
    missed = [
        (abs(stride * (_rows(shape) - 1) - (rows - 1)), -stride)
        for stride, shape in zip(strides, shapes, strict=True)
    ]
    return -min(missed)[1]


def _rows(shape: Shape) -> int:
    return shape[2] if len(shape) > 2 else 1
