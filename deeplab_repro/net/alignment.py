"""Where the blobs of a net lie on its image, for crops that are to align two of them."""

from collections.abc import Sequence
from fractions import Fraction

from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import Convolution, Deconvolution, Interp, Padding, Pooling
from deeplab_repro.net.net import Layer
from deeplab_repro.net.shape_layers import Crop

# Along one axis of a blob, its element i lies at step * i + start on the image.
Place = tuple[Fraction, Fraction]
_IMAGE = (Fraction(1), Fraction(0))


def aligning_offset(layers: Sequence[Layer], crop: Layer) -> tuple[int, int]:
    """The offset, height and width, at which a Crop's bottoms lie on each other.

    So the first FCNs' Caffe finds it (Long et al. 2015), whose files name none. layers: those
    before the crop. Raises NetError where the bottoms have different strides, lie a fraction of a
    pixel apart, or come from an Interp to a size.
    """
    offsets = []
    for axis in (0, 1):
        (step, start), (other_step, other) = (_lies(layers, each, axis) for each in crop.bottoms)
        apart = (other - start) / step
        if step != other_step or apart.denominator != 1:
            raise NetError(
                f"its bottoms have strides {step} and {other_step} and lie {float(apart):g} apart,"
                " expected equal strides and whole pixels: write it in the current format, with "
                "crop_param { offset }"
            )
        offsets.append(int(apart))
    return offsets[0], offsets[1]


def _lies(layers: Sequence[Layer], blob: str, axis: int) -> Place:
    way = []  # back to the image
    for layer in reversed(layers):
        if blob in layer.tops:
            way.append(layer)
            blob = layer.bottoms[0]
    place = _IMAGE
    for layer in reversed(way):
        place = _place(layer, place, axis)
    return place


def _place(layer: Layer, place: Place, axis: int) -> Place:
    op, (step, start) = layer.op, place
    if isinstance(op, Convolution | Deconvolution | Pooling):
        hole = op.hole[axis] if isinstance(op, Convolution) else 1
        middle = Fraction((op.kernel[axis] - 1) * hole, 2) - op.pad[axis]
        if isinstance(op, Deconvolution):
            step /= op.stride[axis]
            return step, start - step * middle
        return step * op.stride[axis], start + step * middle
    if isinstance(op, Crop):
        return step, start + step * op.begins((0, 0, 0, 0))[2 + axis]
    if isinstance(op, Padding):
        return step, start - step * op.pad_beg
    if isinstance(op, Interp):
        if op.height is not None:
            raise NetError(f"'{layer.name}' is an Interp to a size, expected an offset beside it")
        return step * Fraction(op.shrink_factor, op.zoom_factor), start - step * op.pad_beg
    return place
