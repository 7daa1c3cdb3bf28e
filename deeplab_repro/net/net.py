"""A net as plain data: layers, shapes, learnable arrays; no file format and no engine."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from deeplab_repro.arrays import HW, Shape, dims, in_brief, same_content
from deeplab_repro.errors import NetError, WeightsError
from deeplab_repro.net.fitting import next_fit
from deeplab_repro.net.layers import (
    Convolution,
    Interp,
    LayerType,
    Padding,
    Softmax,
)
from deeplab_repro.net.other_layers import DenseCrfParameter, ImageSegData
from deeplab_repro.net.preprocess import Preprocessing
from deeplab_repro.net.strides import stride_after, stride_of_scores

_VGG_CELL = 32  # pixels: one tap of VGG-16's fc6 stands for a cell of pool5, which is so wide
# Without these limits a few hundred layers make numbers of thousands of digits.
_LARGEST_SIZE = 2**63 - 1
_LARGEST_STRIDE = 2**31 - 1  # what INTERP's zoom_factor can be

# For how many sizes a net remembers its shapes: to walk it takes half a millisecond.
_SIZES_KEPT = 64


@dataclass(frozen=True)
class Filler:
    """How Caffe fills a blob before training: constant, gaussian, uniform, xavier, bilinear, ..."""

    type: str = "constant"
    value: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    min: float = 0.0
    max: float = 1.0


@dataclass
class Blob:
    """A learnable array of a layer; `data` is float32 of `shape` once weights are loaded.

    lr_mult and decay_mult (V1: blobs_lr, weight_decay) multiply the solver's in training.
    """

    shape: Shape
    data: np.ndarray | None = None
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    filler: Filler = Filler()
    name: str = ""  # of its `param`: layers that name it alike have this one Blob

    __repr__ = in_brief
    __eq__ = same_content


@dataclass
class Layer:
    """A layer: what it does, and the names of the blobs that it reads and makes."""

    name: str
    op: LayerType
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    blobs: list[Blob] = field(default_factory=list)
    strict_dim: bool = True  # Caffe's: False lets weights of another shape but the same count in

    __repr__ = in_brief

    @property
    def type(self) -> str:
        """Caffe's name for the type: "Convolution", "Interp", ..."""
        return type(self.op).__name__

    @property
    def parameters(self) -> int:
        """How many numbers the layer learns."""
        return sum(math.prod(blob.shape) for blob in self.blobs)

    @property
    def blob_names(self) -> tuple[str, ...]:
        """What its blobs are, in order; where it may have no bias, one name more than blobs."""
        # Scale and Bias alone may have a second bottom, which takes the place of a blob.
        return self.op.blob_names[max(0, len(self.bottoms) - 1) :]

    def new_blobs(self, shapes: Iterable[Shape]) -> list[Blob]:
        """Blobs of these shapes without data, which begin as Caffe has it by default."""
        starts = (float(self.op.starts_at.get(name, 0)) for name in self.blob_names)
        return [
            Blob(shape, filler=Filler(value=start))
            for shape, start in zip(shapes, starts, strict=False)
        ]

    def weights(self) -> dict[str, np.ndarray]:
        """Its arrays by `blob_names`. Raises WeightsError where they are not loaded."""
        arrays = {}
        for name, blob in zip(self.blob_names, self.blobs, strict=False):
            if blob.data is None:
                raise WeightsError(f"layer '{self.name}' has no weights, expected them loaded")
            arrays[name] = blob.data
        return arrays


@dataclass
class Net:
    """A net from one image to its scores, or a train net from a batch of them to its loss.

    The constructor checks it: every bottom must be made by an earlier layer and every shape must be
    positive, else NetError names the layer. It also gives the blobs of the layers their shapes. The
    layers stay as they are: `dataclasses.replace` makes a net with others.
    """

    name: str
    input: str
    input_shape: Shape  # NxCxHxW
    layers: list[Layer]
    dialect: str = "DeepLab v1"
    preprocessing: Preprocessing | None = None  # None where the file does not say: then VOC's
    dense_crf: DenseCrfParameter | None = None
    labels: dict[str, Shape] = field(default_factory=dict)  # a train net's inputs beside the image
    data: ImageSegData | None = None  # a train net's data layer
    _shapes: dict[Shape, dict[str, Shape]] = field(init=False, repr=False, compare=False)
    _fits: dict[HW, HW] = field(init=False, repr=False, compare=False)

    __repr__ = in_brief

    def __post_init__(self) -> None:
        if not self.layers:
            raise NetError(f"net '{self.name}' has no layers that run")
        self._shapes, self._fits = {}, {}
        for layer, bottoms, _ in self.walk():
            if not layer.blobs:
                layer.blobs = layer.new_blobs(layer.op.blob_shapes(bottoms))

    def walk(
        self, input_shape: Shape | None = None
    ) -> Iterator[tuple[Layer, list[Shape], list[Shape]]]:
        """Every layer in order, with the shapes of its bottoms and of its tops.

        Raises NetError, naming the layer, where the net does not fit this input shape.
        """
        shapes = {self.input: tuple(input_shape or self.input_shape), **self.labels}
        if min(shapes[self.input]) < 1:
            raise NetError(f"input '{self.input}' has shape {dims(shapes[self.input])}")
        for layer in self.layers:
            what = f"layer '{layer.name}' ({layer.type})"
            for bottom in layer.bottoms:
                if bottom not in shapes:
                    raise NetError(
                        f"layer '{layer.name}' takes '{bottom}', which no layer before it makes"
                    )
            for made in (set(layer.tops) - set(layer.bottoms)) & shapes.keys():
                raise NetError(f"layer '{layer.name}' makes '{made}', which an earlier layer made")
            bottoms = [shapes[bottom] for bottom in layer.bottoms]
            counts = layer.op.bottoms_wanted
            if not bottoms or (counts and len(bottoms) not in counts):
                wanted = " or ".join(map(str, counts)) or "at least 1"
                raise NetError(f"{what} has {len(bottoms)} bottoms, expected {wanted}")
            try:
                tops = layer.op.top_shapes(bottoms, len(layer.tops))
                blobs = list(layer.op.blob_shapes(bottoms))
            except NetError as error:
                raise NetError(f"{what}: {error}") from None
            if layer.blobs and [blob.shape for blob in layer.blobs] != blobs:
                raise NetError(
                    f"{what} has weights of {dims(layer.blobs[0].shape)}, but its bottom of "
                    f"{dims(bottoms[0])} wants {dims(blobs[0])}"
                )
            for top in tops:
                if min(top, default=1) < 1:
                    raise NetError(
                        f"{what} would make {dims(top)} of {dims(bottoms[0])}: the image is too "
                        "small for it, or its pad too small"
                    )
                if max(top, default=1) > _LARGEST_SIZE:
                    raise NetError(
                        f"{what} would make {dims(top)}, expected sizes up to {_LARGEST_SIZE}"
                    )
            yield layer, bottoms, tops
            shapes.update(zip(layer.tops, tops, strict=True))

    def blob_shapes(self, input_shape: Shape | None = None) -> dict[str, Shape]:
        """The shape of every blob by name, the input's too. Raises what `walk` raises."""
        shape = tuple(input_shape or self.input_shape)
        shapes = self._shapes.get(shape)
        if shapes is None:
            shapes = {self.input: shape, **self.labels}
            for layer, _, tops in self.walk(shape):
                shapes.update(zip(layer.tops, tops, strict=True))
            if len(self._shapes) >= _SIZES_KEPT:
                self._shapes.clear()
            self._shapes[shape] = shapes
        return dict(shapes)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of the blobs that no layer takes, in the order in which they are made."""
        left: dict[str, None] = {}
        for layer in self.layers:
            for bottom in layer.bottoms:
                left.pop(bottom, None)
            left.update(dict.fromkeys(layer.tops))  # a blob changed in place is left again
        return tuple(left)

    @property
    def output(self) -> str:
        """The name of the last blob that no layer takes: the scores."""
        return self.outputs[-1]

    @property
    def ends_in_softmax(self) -> bool:
        """Whether the net's output is probabilities."""
        makers = [layer for layer in self.layers if self.output in layer.tops]
        return isinstance(makers[-1].op, Softmax)

    def output_shape(self, input_shape: Shape | None = None) -> Shape:
        """The shape of the scores, NxCxHxW."""
        return self.blob_shapes(input_shape)[self.output]

    @property
    def makes_map(self) -> bool:
        """Whether the scores are of places in the image, and not of the image as a whole."""
        shape = self.output_shape()
        return len(shape) == 4 and (shape[2:] != (1, 1) or self.input_shape[2:] == (1, 1))

    def check_map(self) -> None:
        """Raise NetError for a net whose scores are no map."""
        if not self.makes_map:
            raise NetError(
                f"net '{self.name}' gives no map of labels: '{self.output}' is "
                f"{dims(self.output_shape())}, scores of the image as a whole: convert it to ONNX, "
                "without rgb-uint8, and run that as docs/convert.md shows"
            )

    @property
    def parameters(self) -> int:
        """How many numbers the net learns: weights and biases."""
        blobs = {id(blob): blob for layer in self.layers for blob in layer.blobs}  # some are shared
        return sum(math.prod(blob.shape) for blob in blobs.values())

    def operations(self, blob: str, input_shape: Shape | None = None) -> int:
        """The operations of the convolutions up to a blob; a multiply-add counts as two."""
        count = 0
        for layer, bottoms, _ in self.walk(input_shape):
            count += layer.op.operations(bottoms)
            if blob in layer.tops:
                break
        return count

    def _strides(self) -> dict[str, Fraction]:
        """Input rows per row of every blob."""
        strides = dict.fromkeys((self.input, *self.labels), Fraction(1))
        for layer, bottoms, tops in self.walk():
            before = [strides[bottom] for bottom in layer.bottoms]
            stride = stride_after(layer.op, before, bottoms, tops[0], self.input_shape)
            if max(stride.as_integer_ratio()) > _LARGEST_STRIDE:
                raise NetError(
                    f"layer '{layer.name}' ({layer.type}) comes to a stride of {stride}, "
                    f"expected numbers up to {_LARGEST_STRIDE}"
                )
            strides.update(dict.fromkeys(layer.tops, stride))
        return strides

    @property
    def output_stride(self) -> int | float:
        """The stride at which the scores are made, before anything enlarges them.

        Of branches that are enlarged and added up (the MSc nets) it is the largest.
        """
        steps = [(layer.op, layer.bottoms, layer.tops) for layer in self.layers]
        stride = stride_of_scores(self.output, steps, self._strides())
        return int(stride) if stride.denominator == 1 else float(stride)

    @property
    def field_of_view(self) -> int | None:
        """The paper's field of view (table 2) in pixels: of fc6, None for a net without one.

        Its taps lie stride*hole pixels apart, and each stands for a 32 pixel cell of VGG's pool5:
        stride*(k-1)*hole + 32. Of several branches (fc6_1, fc6_2, ...) it is the largest.
        """
        strides = self._strides()
        views = [
            round(strides[layer.bottoms[0]] * (layer.op.span[0] - 1)) + _VGG_CELL
            for layer in self.layers
            if isinstance(layer.op, Convolution) and layer.name.startswith("fc6")
        ]
        return max(views, default=None)

    def ending_in_scores(self) -> "Net":
        """The net without a Softmax at its end, its coarse scores enlarged by INTERP.

        So the test nets of the paper end. The layers are shared.
        """
        layers = list(self.layers)
        while isinstance(layers[-1].op, Softmax) and len(layers) > 1:
            del layers[-1]
        net = replace(self, layers=layers)
        stride = round(net._strides()[net.output])
        if stride > 1 and net.makes_map:
            name = f"{net.output}_interp"
            layers.append(Layer(name, Interp(zoom_factor=stride), (net.output,), (name,)))
            net = replace(net, layers=layers)
        return net

    @property
    def coarse_output(self) -> tuple[str, int, int]:
        """The scores before INTERP enlarges them: the blob, INTERP's factor, the crop after it.

        For a net that does not end in INTERP (the MSc nets end in a sum) it is the output: factor
        1, crop 0.
        """
        makers = {top: layer for layer in self.layers for top in layer.tops}
        last, crop = makers[self.output], 0
        if isinstance(last.op, Padding) and last.op.pad_beg <= 0 and last.op.pad_end <= 0:
            crop = -last.op.pad_beg
            last = makers.get(last.bottoms[0], last)
        op = last.op
        if isinstance(op, Interp) and op == Interp(zoom_factor=op.zoom_factor):
            return last.bottoms[0], op.zoom_factor, crop
        return self.output, 1, 0

    @property
    def fits_any_size(self) -> bool:
        """Whether the net takes images of any size.

        With an InnerProduct it does not, nor with an INTERP to a size; an INTERP that shrinks, also
        one that enlarges again, is run and converted as one to the size that it makes, and so is
        what makes other axes of a blob's.
        """
        return all(layer.op.fits_any_size(len(layer.bottoms)) for layer in self.layers)

    def fitting_size(self, size: HW) -> HW:
        """The size (H, W) to which an image of this size is padded: at least the net's crop.

        Above the crop sizes are 64 pixels apart, so that photos have few different ones: a GPU sets
        the net up again for each. Where the scores are not as large as the input there, it is the
        next size at which they are. Raises ArgumentError where there is none, and NetError where
        the scores are no map.
        """
        self.check_map()
        found = self._fits.get(size)
        if found is None:
            # Each axis with the other at the crop: they do not depend on each other.
            found = self._next_fit(2, size[0]), self._next_fit(3, size[1])
            if len(self._fits) >= _SIZES_KEPT:
                self._fits.clear()
            self._fits[size] = found
        return found

    def _next_fit(self, axis: int, size: int) -> int:
        return next_fit(self.name, self.input_shape, self.output_shape, axis, size)

    def activation_bytes(self, input_shape: Shape) -> int:
        """Bytes of all blobs together at this input shape (float32; in-place layers count once)."""
        return 4 * sum(map(math.prod, self.blob_shapes(input_shape).values()))

    def fill_random(self, seed: int) -> None:
        """Give every layer seeded random weights that keep the scale of the blobs.

        Weights are gaussian with variance 2/fan-in (He et al. 2015), and biases zero. A layer that
        takes the image also scales its values, of about 64, down to 1.
        """
        rng = np.random.default_rng(seed)
        filled: dict[int, Layer] = {}  # what layers share is filled for the first of them
        for layer in self.layers:
            scale = 1 / 64 if self.input in layer.bottoms else 1
            for name, blob in zip(layer.blob_names, layer.blobs, strict=False):
                if filled.setdefault(id(blob), layer) is not layer:
                    continue
                if name in layer.op.starts_at:
                    blob.data = np.full(blob.shape, layer.op.starts_at[name], np.float32)
                else:
                    fan_in = layer.op.fan_in(blob.shape)
                    blob.data = rng.standard_normal(blob.shape, np.float32)
                    blob.data *= np.float32(scale * math.sqrt(2 / fan_in))
