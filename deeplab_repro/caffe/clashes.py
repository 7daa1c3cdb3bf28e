"""Tells apart what the authors and BVLC gave one number in V1: a layer's content says which it is.

deeplab.proto has BVLC's meanings under numbers that no file uses. Type 39 is IMAGE_SEG_DATA or
DECONVOLUTION, and field 42 of a layer seg_accuracy_param or loss_param.
"""

from deeplab_repro.caffe.deeplab_pb2 import LayerParameter


def settle_type(layer: LayerParameter, has_weights: bool = False) -> None:
    """Make a V1 layer of type 39 what it is: a data layer takes nothing, and has no weights.

    So in text too, where tools of either side give the other's name to the number.
    """
    if layer.type not in (LayerParameter.IMAGE_SEG_DATA, LayerParameter.DECONVOLUTION):
        return
    brings_images = layer.HasField("image_data_param") or layer.HasField("transform_param")
    if has_weights or (layer.bottom and not brings_images) or layer.HasField("convolution_param"):
        layer.type = LayerParameter.DECONVOLUTION
    elif brings_images and not layer.bottom:
        layer.type = LayerParameter.IMAGE_SEG_DATA


def settle_binary(layer: LayerParameter, has_weights: bool) -> None:
    """Make a V1 layer of a binary file what it is: its type, and its field 42."""
    settle_type(layer, has_weights)
    if layer.HasField("seg_accuracy_param") and layer.type != LayerParameter.SEG_ACCURACY:
        layer.loss_param.MergeFromString(layer.seg_accuracy_param.SerializeToString())
        layer.ClearField("seg_accuracy_param")


def binary_layer(layer: LayerParameter) -> bytes:
    """The bytes of a V1 layer, with the type's number as files have it."""
    if layer.type != LayerParameter.DECONVOLUTION:
        return layer.SerializeToString()
    numbered = LayerParameter()
    numbered.CopyFrom(layer)
    numbered.type = LayerParameter.IMAGE_SEG_DATA
    return numbered.SerializeToString()
