"""Reads and writes what a data layer makes of images: their size, the mean, the scale."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.caffe import wire
from deeplab_repro.caffe.blobs import blob_pieces, read_blob
from deeplab_repro.caffe.names import is_plain_name, shown
from deeplab_repro.caffe.wire import Field, Reader, read_binary
from deeplab_repro.errors import FileError, FormatError, NetError, one_line
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.net import Net
from deeplab_repro.net.preprocess import MEAN_BGR, MeanImage, Preprocessing, shown_mean

# What a net that names no size gets: the crop of the released nets.
_CROP = 513
NO_MEAN = (0.0, 0.0, 0.0)


def data_field(layer: Any, name: str) -> Any:
    """A field of a data layer's transform_param, or of where it stood before there was one."""
    for place in (layer.transform_param, layer.image_data_param, layer.data_param):
        if place.HasField(name):
            return getattr(place, name)
    return getattr(layer.transform_param, name)


def names_size(layer: Any) -> bool:
    """Whether a data layer names the size of its images."""
    images = layer.image_data_param
    return bool(
        layer.HasField("memory_data_param")
        or data_field(layer, "crop_size")
        or (images.new_height and images.new_width)
    )


def data_shape(layer: Any) -> Shape:
    """The shape of one image as a data layer gives it to the net, NxCxHxW."""
    if layer.HasField("memory_data_param"):
        memory = layer.memory_data_param
        return (1, memory.channels, memory.height, memory.width)
    images, transform = layer.image_data_param, layer.transform_param
    # V1's transform_param has no force_gray.
    is_grey = not images.is_color or getattr(transform, "force_gray", False)
    height = width = data_field(layer, "crop_size")
    if not height and images.new_height and images.new_width:
        height, width = images.new_height, images.new_width
    return (1, 1 if is_grey else 3, height or _CROP, width or _CROP)


def read_preprocessing(layer: Any, reads_files: bool) -> Preprocessing | None:
    """What a layer that brings images makes of them.

    reads_files: such a layer takes nothing off where it names no mean. Others are handed images;
    where they name no mean it is VOC's, and where they say nothing at all the result is None.
    `mirror` does not count: it is a toss of a coin, and leaves an image as it is or not. Nor does
    what chooses files. The mean_file is not read: see `load_mean`. Raises NetError.
    """
    transform, images = layer.transform_param, layer.image_data_param
    values, file = list(transform.mean_value), data_field(layer, "mean_file")
    scale, size = data_field(layer, "scale"), (images.new_height, images.new_width)
    if not (reads_files or values or file or scale != 1 or any(size)):
        return None
    if values and file:
        raise NetError("it sets both mean_value and mean_file, expected one of them")
    if any(size) and not all(size):
        raise NetError("it sets one of new_height and new_width, expected both or none")
    if len(values) not in (0, 1, 3):
        found = shown_mean(tuple(values[:5]))
        raise NetError(f"mean_value is {found}, expected one number, or three: blue, green, red")
    mean: tuple[float, float, float] | MeanImage = NO_MEAN if reads_files else MEAN_BGR
    if file:
        _check_name(file)
        mean = MeanImage(file)
    elif values:
        blue, green, red = values * (3 // len(values))  # one is for all channels
        mean = blue, green, red
    return Preprocessing(mean, scale, size if any(size) else None)


def write_preprocessing(how: Preprocessing, layer: Any, reads_files: bool) -> None:
    """Set the fields of a layer that `read_preprocessing` reads. Raises NetError."""
    transform = layer.transform_param
    if isinstance(how.mean, MeanImage):
        _check_name(how.mean.file)
        transform.mean_file = how.mean.file
    elif how.mean != NO_MEAN or not reads_files:
        transform.mean_value.extend(how.mean)
    if how.scale != 1:
        transform.scale = how.scale
    if how.resized_to:
        images = layer.image_data_param
        images.new_height, images.new_width = how.resized_to


def _check_name(file: str) -> None:
    if not is_plain_name(file):
        raise NetError(f"mean_file is {shown(file)}, expected a short name that can be printed")


# --- the mean_file


def load_mean(net: Net, prototxt: str | Path) -> None:
    """Read the mean_file that the net's prototxt names, if it names one, into the net.

    It is looked for in the working directory, as in Caffe, then beside the prototxt. One value a
    channel, and an image that is the same everywhere, become a mean of the channels. Raises
    FileError, FormatError and ResourceError, naming the file, and NetError where images are resized
    to another size than it has.
    """
    how = net.preprocessing
    if how is None or not isinstance(how.mean, MeanImage):
        return
    file, folder = how.mean.file, os.path.dirname(prototxt) or os.curdir
    beside = os.path.join(folder, file)
    path = next(filter(os.path.exists, (file, beside)), None)
    if path is None:
        raise FileError(
            f"{one_line(prototxt)}: there is no mean_file {shown(file)} in the working directory, "
            f"nor in {one_line(folder)}: put it there, or write mean_value in its place"
        )
    mean = _read_mean(file, path)
    if isinstance(mean, MeanImage) and how.resized_to not in (None, mean.loaded().shape[1:]):
        raise NetError(
            f"{one_line(prototxt)}: mean_file {shown(file)} is {dims(mean.loaded().shape[1:])}, "
            f"expected {dims(how.resized_to or ())} as new_height and new_width say"
        )
    net.preprocessing = replace(how, mean=mean)


def read_binaryproto(path: str | Path) -> np.ndarray:
    """Read a mean file or another BlobProto in a file of its own: float32, in the file's shape.

    Raises FileError, FormatError and ResourceError, naming the file.
    """

    def whole(reader: Reader, size: int) -> np.ndarray:
        return read_blob(reader, Field(0, wire.BYTES, 0, 0, size, 0))

    return read_binary(path, "a mean_file (.binaryproto)", whole)


def _read_mean(file: str, path: str) -> tuple[float, float, float] | MeanImage:
    found = read_binaryproto(path)
    shape = found.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if found.size != 3 and not (len(shape) == 3 and shape[0] == 3 and found.size):
        raise FormatError(
            f"{one_line(path)}: a mean of {dims(found.shape)}, expected 3xHxW, or three values: "
            "blue, green, red"
        )
    if not np.isfinite(found).all():
        raise FormatError(f"{one_line(path)}: holds NaN or infinity, expected finite numbers")
    values = found.reshape(3, *(shape[1:] if found.size != 3 else (1, 1)))
    first = values[:, :1, :1]
    if (values == first).all():
        blue, green, red = map(float, first.ravel())
        return blue, green, red
    return MeanImage(file, values)


def write_mean_file(mean: MeanImage, path: str | Path) -> None:
    """Write a mean_file, atomically, and marked as ours: a BlobProto with legacy dims.

    Raises NetError where the values are not loaded, and FileError.
    """
    _, *blob = blob_pieces(0, mean.loaded(), current=False)  # a file has no field in front
    with write_atomically(path) as file:
        file.writelines([*blob, wire.made_by()])
