"""The first weights of a net, made from those of a classification net such as VGG-16.

Layers are matched by name. The paper decimates fc6: every second or third of its 7x7 taps is kept,
which leaves 4x4 or 3x3 (section 3.2), and for LargeFOV every fourth of the 4096 channels of fc6 and
fc7 (section 5), with the matching inputs of the next layer.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.caffe import Caffemodel, ModelLayer, read_weights, write_caffemodel
from deeplab_repro.convert.torchvision import FIRST, from_torchvision, is_torchvisions
from deeplab_repro.errors import NetError, WeightsError, one_line
from deeplab_repro.net.channel_layers import BN, BatchNorm, Bias, PReLU, Scale
from deeplab_repro.net.layers import Convolution, Deconvolution
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.preprocess import VOCS

COPIED = "copied"
BY_FILLER = "not in the file: by its filler"
TURNED = ", from torchvision's RGB"
_BY_CHANNEL = BN | BatchNorm | Bias | PReLU | Scale


@dataclass(frozen=True)
class Initialised:
    """How each of the net's layers was initialised, and the file's layers that were not used."""

    layers: dict[str, str]
    unused: list[str]


@dataclass(frozen=True)
class _Kept:
    """Which channels of the file's net our blob holds, and how many that net has."""

    indices: np.ndarray
    of: int


def initialise(net: Net, weights: Caffemodel | str | Path) -> Initialised:
    """Fill the net's layers that the file has, decimated where the net's are smaller.

    Layers that the file lacks are left without weights. Layers of the same size are copied, also
    from an InnerProduct to the convolution that replaces it. The file is a caffemodel or a
    .safetensors, with the names of Caffe's layers or of torchvision's VGG-16, whose conv1_1 is
    turned to what the net is fed.

    Raises WeightsError, naming the layer, if the net has more outputs or taps than the file, if
    their channels do not fit, or if no layer is in both; the net is then unchanged. Raises what
    `read_weights` raises.
    """
    source = "the caffemodel" if isinstance(weights, Caffemodel) else one_line(weights)
    model = weights if isinstance(weights, Caffemodel) else read_weights(weights)
    turned = is_torchvisions(model)
    if turned:
        try:
            model = from_torchvision(model, net.preprocessing or VOCS)
        except (NetError, WeightsError) as error:
            raise type(error)(f"{source}: {error}") from None
    # As in Caffe, the last of several layers with the same name counts.
    by_name = {layer.name: layer for layer in model.layers if layer.blobs}
    features = _features(net)
    kept: dict[str, _Kept] = {}  # by blob; all channels for a blob that is not in it
    filled: list[tuple[Layer, list[np.ndarray]]] = []
    done = {}
    for layer, bottoms, _ in net.walk():
        if not layer.blobs:
            if len(layer.bottoms) == 1 and layer.bottoms[0] in kept:
                kept.update(dict.fromkeys(layer.tops, kept[layer.bottoms[0]]))
            continue
        if layer.name not in by_name:
            owners = [x.name for x, _ in filled if any(b is layer.blobs[0] for b in x.blobs)]
            done[layer.name] = f"as '{owners[0]}', whose weights it shares" if owners else BY_FILLER
            continue
        channels = bottoms[0][1]
        bottom = kept.get(layer.bottoms[0], _Kept(np.arange(channels), channels))
        try:
            decimation = _Decimation.of(layer, bottoms[0], by_name[layer.name], bottom)
            if layer.name not in features:
                _check_labels(decimation)
        except WeightsError as error:
            raise WeightsError(f"{source}: layer '{layer.name}' {error}") from None
        filled.append((layer, decimation.blobs))
        kept[layer.tops[0]] = _Kept(decimation.outputs, decimation.source[0])
        done[layer.name] = decimation.told
        if turned and layer.name == FIRST:
            done[layer.name] += TURNED
    if not filled:
        theirs, ours = (", ".join(map(repr, list(names)[:3])) for names in (by_name, done))
        raise WeightsError(
            f"{source}: has none of the net's layers ({ours or 'it has none with weights'}), but "
            f"{theirs or 'no weights at all'}: use the weights of a net with the same names"
        )
    for layer, arrays in filled:
        for blob, array in zip(layer.blobs, arrays, strict=True):
            blob.data = array
    return Initialised(done, [name for name in by_name if name not in done])


def write_initialised(net: Net, path: str | Path) -> None:
    """Write the layers that have weights as a caffemodel in the net's own format, atomically.

    The others are left out, so that training fills them by their fillers. Raises FileError if the
    file cannot be written.
    """
    # Not a new Net: that would check that the layers hold together, and these need not.
    part = copy.copy(net)
    part.layers = [layer for layer in net.layers if layer.blobs and layer.blobs[0].data is not None]
    write_caffemodel(part, path, current=net.dialect == "Caffe", marked=True)


def regular_taps(new: int, old: int) -> np.ndarray:
    """Which `new` of `old` taps are kept: the first, the last, and regular steps between.

    4 of 7: 0, 2, 4, 6; 3 of 7: 0, 3, 6; 3 of 4: 0, 2, 3, rounded half up. One: the middle.
    """
    if new == 1:
        return np.array([old // 2])
    steps = new - 1
    return (2 * np.arange(new) * (old - 1) + steps) // (2 * steps)


def regular_channels(new: int, old: int) -> np.ndarray:
    """Which `new` of `old` channels are kept; 1024 of 4096: 0, 4, 8, ..."""
    return np.arange(new) * old // new


@dataclass(frozen=True)
class _Decimation:
    """A layer's blobs made from the file's. Its errors do not name the layer."""

    blobs: list[np.ndarray]
    source: Shape  # of the file's filters: outputs x inputs x height x width
    outputs: np.ndarray  # which of its outputs are kept
    told: str

    @classmethod
    def of(cls, layer: Layer, bottom: Shape, found: ModelLayer, inputs: _Kept) -> "_Decimation":
        if isinstance(layer.op, Deconvolution):
            raise WeightsError("is a Deconvolution, which does not learn here: use a net without")
        if len(found.blobs) != len(layer.blobs):
            raise WeightsError(
                f"has {len(found.blobs)} blobs, expected {len(layer.blobs)}: "
                "use the net that it was made for, or one made from it"
            )
        if isinstance(layer.op, _BY_CHANNEL):
            return cls._of_channels(layer, found, inputs)
        is_conv = isinstance(layer.op, Convolution)
        # An inner product is a convolution whose kernel is the size of its bottom.
        target = (
            layer.blobs[0].shape if is_conv else (layer.blobs[0].shape[0], *(*bottom, 1, 1)[1:4])
        )
        if target[1] != bottom[1]:  # in groups: each has inputs of its own
            inputs = _Kept(np.arange(target[1]), target[1])
        filters = _filters(found, target, inputs.of)
        _check_fit(filters.shape, target, inputs.of)
        outputs = regular_channels(target[0], filters.shape[0])
        taps = [regular_taps(*sides) for sides in zip(target[2:], filters.shape[2:], strict=True)]
        weight = filters  # without a copy where nothing is left out: VGG's fc6 has 400 MB
        if filters.shape != target:
            weight = filters[np.ix_(outputs, inputs.indices, *taps)]
        weight = weight.reshape(layer.blobs[0].shape)
        biases = [blob.reshape(-1) for blob in found.blobs[1:]]
        if any(len(bias) != len(filters) for bias in biases):
            raise WeightsError(
                f"has {len(filters)} outputs and {len(biases[0])} biases, expected as many: the "
                "file is broken"
            )
        blobs = [weight, *(bias[outputs] for bias in biases)]
        told = _told(filters.shape, target)
        if not told:
            shape = found.blobs[0].shape
            same = shape[-weight.ndim :] == weight.shape
            told = COPIED if same else f"{COPIED} from {dims(shape)}"
        return cls(blobs, filters.shape, outputs, told)

    @classmethod
    def _of_channels(cls, layer: Layer, found: ModelLayer, inputs: _Kept) -> "_Decimation":
        """Of a layer with a number for each channel of its bottom, which its top has too."""
        blobs = []
        for blob, data in zip(layer.blobs, found.blobs, strict=True):
            size = math.prod(blob.shape)
            values = data.reshape(-1)
            if values.size == inputs.of and size == len(inputs.indices):
                values = values[inputs.indices]
            if values.size != size:
                raise WeightsError(
                    f"has {values.size} values, expected {inputs.of}: use the weights of a net "
                    "with the same layers before it"
                )
            blobs.append(values.reshape(blob.shape))
        source, target = (inputs.of, 1, 1, 1), (len(inputs.indices), 1, 1, 1)
        return cls(blobs, source, inputs.indices, _told(source, target) or COPIED)


def _features(net: Net) -> set[str]:
    """The layers whose outputs go to other layers with weights; the rest are classifiers."""
    taken: set[str] = set()
    names = set()
    for layer in reversed(net.layers):
        is_taken = not taken.isdisjoint(layer.tops)
        if is_taken and layer.blobs:
            names.add(layer.name)
        if is_taken or layer.blobs:
            taken.update(layer.bottoms)
    return names


def _filters(found: ModelLayer, target: Shape, inputs: int) -> np.ndarray:
    """The file's weights as outputs x inputs x height x width, also those of an inner product."""
    data = found.blobs[0]
    is_matrix = data.ndim == 2 or found.type in ("INNER_PRODUCT", "InnerProduct")
    if data.ndim == 4 and not (is_matrix and data.shape[:2] == (1, 1)):
        return data
    if not is_matrix or data.ndim not in (2, 4):
        raise WeightsError(
            f"has a weight of {dims(data.shape)}, expected a convolution's or an inner product's: "
            "use other weights"
        )
    rows, columns = data.shape[-2:]
    if inputs == target[1] and columns == math.prod(target[1:]):
        return data.reshape(rows, *target[1:])
    side = math.isqrt(columns // inputs)
    if side * side * inputs != columns:
        raise WeightsError(
            f"has {columns} inputs, expected {inputs} channels of a square of taps: use the "
            "weights of a net with the same layers before it"
        )
    return data.reshape(rows, inputs, side, side)


def _check_fit(source: Shape, target: Shape, inputs: int) -> None:
    if source[1] != inputs:
        raise WeightsError(
            f"takes {source[1]} channels, expected {inputs}: use the weights of a net with the "
            "same layers before it"
        )
    if source[0] < target[0]:
        raise WeightsError(
            f"has {source[0]} outputs, expected {target[0]} or more: a layer can be made smaller "
            "but not larger; use a narrower net or other weights"
        )
    if source[2] < target[2] or source[3] < target[3]:
        raise WeightsError(
            f"has filters of {dims(source[2:])}, expected {dims(target[2:])} or more: a filter "
            "can be made smaller but not larger; use a net with a smaller kernel or other weights"
        )


def _check_labels(decimation: _Decimation) -> None:
    found, wanted = decimation.source[0], len(decimation.outputs)
    if found != wanted:
        raise WeightsError(
            f"has {found} outputs, expected {wanted}: labels, unlike features, cannot be left out; "
            "rename the layer in the net, so that its filler fills it"
        )


def _told(source: Shape, target: Shape) -> str:
    """The change from the file's shape to the net's, in words; "" if there is none."""
    changes = [
        f"{what}{dims(old)} -> {dims(new)}"
        for what, old, new in (
            ("", source[2:], target[2:]),
            ("outputs ", source[:1], target[:1]),
            ("inputs ", source[1:2], target[1:2]),
        )
        if old != new
    ]
    return f"decimated {', '.join(changes)}" if changes else ""
