"""Writes a net's structure, without its weights: as a message of either dialect, as prototxt."""

from pathlib import Path
from typing import Any

import numpy as np

from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2
from deeplab_repro.caffe.learning import (
    SEG_ACCURACY,
    SOFTMAX_LOSS,
    write_learning,
    write_seg_accuracy,
    write_softmax_loss,
)
from deeplab_repro.caffe.names import unused_name
from deeplab_repro.caffe.parameters import V1_TYPES, write_parameters
from deeplab_repro.caffe.preprocessing import write_preprocessing
from deeplab_repro.errors import NetError
from deeplab_repro.files.marks import signed
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.layers import SegAccuracy, SoftmaxLoss
from deeplab_repro.net.net import Layer, Net
from deeplab_repro.net.other_layers import ImageSegData
from deeplab_repro.net.preprocess import MEAN_BGR, VOCS, Preprocessing

_TYPES_IN_V1 = {current: v1 for v1, current in (*V1_TYPES.items(), SOFTMAX_LOSS, SEG_ACCURACY)}


def prototxt_text(net: Net, current: bool = False) -> str:
    """The net's prototxt: V1 in the authors' dialect, or the current format.

    Raises NetError for a layer that V1 lacks.
    """
    from google.protobuf import text_format  # slow to load, and seldom needed

    return text_format.MessageToString(net_to_message(net, current))


def write_prototxt(net: Net, path: str | Path, current: bool = False) -> None:
    """Write the net's prototxt, atomically. Raises what `prototxt_text` raises, and FileError."""
    with write_atomically(path) as file:
        file.write(signed(prototxt_text(net, current)))


def net_to_message(net: Net, current: bool) -> Any:
    """The net as a message, without weights: current format, or V1 in the authors' dialect.

    A train net's data layer goes before its other layers; its tops lack data_dim, which no layer
    takes. Raises NetError for a layer that V1 does not have.
    """
    schema = bvlc_pb2 if current else deeplab_pb2
    message = schema.NetParameter(name=net.name)
    layers = message.layer if current else message.layers
    inputs = {net.input: net.input_shape, **net.labels}
    if net.data is not None:
        out = layers.add(name=net.input, top=inputs)
        out.type = "ImageSegData" if current else out.IMAGE_SEG_DATA
        _write_data(net.data, out)
        if net.preprocessing is not None:
            write_preprocessing(net.preprocessing, out, reads_files=True)
    elif current:
        for name, shape in inputs.items():
            layer = layers.add(name=name, type="Input", top=[name])
            layer.input_param.shape.add(dim=shape)
            if name == net.input and net.preprocessing is not None:  # Caffe does not look at it
                write_preprocessing(net.preprocessing, layer, reads_files=False)
    elif net.preprocessing is not None and not (_is_vocs(net.preprocessing) or net.labels):
        _write_memory_data(net, net.preprocessing, layers.add(name=net.input, top=[net.input]))
    else:
        message.input.extend(inputs)
        message.input_dim.extend(dim for shape in inputs.values() for dim in shape)
    for layer in net.layers:
        _write_layer(layer, layers.add(name=layer.name, bottom=layer.bottoms, top=layer.tops))
    return message


def _write_layer(layer: Layer, out: Any) -> None:
    kind = SOFTMAX_LOSS[1] if isinstance(layer.op, SoftmaxLoss) else layer.type
    is_v1 = isinstance(out, deeplab_pb2.LayerParameter)
    if is_v1 and kind not in _TYPES_IN_V1:
        raise NetError(f"layer '{layer.name}' ({kind}) has no type in V1: write the current format")
    out.type = out.LayerType.Value(_TYPES_IN_V1[kind]) if is_v1 else kind
    if isinstance(layer.op, SoftmaxLoss):
        write_softmax_loss(layer.op, out)
    elif isinstance(layer.op, SegAccuracy):
        write_seg_accuracy(layer.op, out)
    else:
        write_parameters(layer, out)
    write_learning(layer, out)
    if not layer.strict_dim:
        out.strict_dim = False


def _write_data(data: ImageSegData, out: Any) -> None:
    source, transform = out.image_data_param, out.transform_param
    source.source = data.source
    source.batch_size = data.batch_size
    source.label_type = source.PIXEL
    if data.root_folder:
        source.root_folder = data.root_folder
    if data.shuffle:
        source.shuffle = True
    if data.ignore_label != 255:
        source.ignore_label = data.ignore_label
    transform.crop_size = data.crop_size
    if data.mirror:
        transform.mirror = True


def _is_vocs(how: Preprocessing) -> bool:
    """Whether it is what a V1 file stands for that says nothing: of files numbers are float32."""
    blue, green, red = np.array(MEAN_BGR, np.float32).tolist()
    return how in (VOCS, Preprocessing((blue, green, red)))


def _write_memory_data(net: Net, how: Preprocessing, out: Any) -> None:
    """V1's `input` has no place for the preprocessing; a layer that is handed one image has."""
    names = {net.input, *(name for layer in net.layers for name in (layer.name, *layer.tops))}
    out.type = out.MEMORY_DATA
    out.top.append(unused_name("label", names))  # Caffe wants two tops
    memory, (_, *size) = out.memory_data_param, net.input_shape
    memory.batch_size = 1
    memory.channels, memory.height, memory.width = size
    write_preprocessing(how, out, reads_files=False)
