"""Writes and reads .npz: a net and its weights in one file that NumPy reads, without pickle.

`numpy.load(path)["conv1_1/weight"]` is a float32 array. The file is a zip whose members are not
compressed:

    net.json             the net, see below
    <layer>/weight.npy   NumPy's format 1.0, C order, little-endian float32, in the shape that the
    <layer>/bias.npy     blob has in Caffe: a convolution's weight is num_output x C/group x kh x kw
    mean.npy             float32, 3xHxW: where the preprocessing has a mean_file, its values

net.json is UTF-8. Shapes are lists, NxCxHxW, and pairs (height, width):

    version      1
    name         of the net
    dialect      of the file that the net came from: "DeepLab v1", "Caffe V1" or "Caffe"
    input        the name of the image's blob
    input_shape  its shape
    labels       {name: shape} of the other inputs of a train net
    preprocessing  what the net is fed of each pixel, (pixel - mean) * scale, or null: VOC's mean
      mean_bgr     [blue, green, red] on the scale 0..255, or null
      mean_file    or the name of the file that had a mean for each pixel, else null
      scale        usually 1.0
      resized_to   [height, width] to which Caffe resizes images, or null
    dense_crf    null, or the values of a DENSE_CRF layer, under Caffe's names
    data         null, or the values of a train net's IMAGE_SEG_DATA layer, under Caffe's names
    layers       a list, in the order in which they run:
      name, type   type as upstream Caffe spells it: Convolution, Pooling, Interp, ...
      parameters   the fields of that class in deeplab_repro/net/*layers.py, which describe them
                   and have their defaults: num_output, kernel, pad, stride, hole, ...
      bottoms      the names of the blobs that it reads
      tops         the names of the blobs that it makes; one of its bottoms if it works in place
      strict_dim   false: weights of another shape but the same number of values fit as well
      blobs        {"weight": ..., "bias": ...}, {"weight": ...} or {}; other names where the class
                   has other blobs; each with
        shape        of its array
        lr_mult      a factor of the solver's learning rate, usually 1.0
        decay_mult   a factor of its weight decay
        filler       the values before training: type, value, mean, std, min, max, as in Caffe
        name         of its `param`, where it has one: layers that name it alike share one array,
                     which the first of them has

The shapes, orders and meanings are Caffe's: docs/original.md, section 1. `read_npz` also takes
other float types and Fortran's order, but nothing that is compressed.
"""

import math
import os
import zipfile
from dataclasses import replace
from typing import IO, BinaryIO

import numpy as np

from deeplab_repro.arrays import Shape, dims
from deeplab_repro.convert.half import as_half, is_halved
from deeplab_repro.convert.net_json import net_from_json, net_to_json
from deeplab_repro.errors import DeepLabError, FormatError, NetError, ResourceError, one_line
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.files.npy import ZIP_ERRORS, read_header
from deeplab_repro.files.whole import open_to_read, write_atomically
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.named_arrays import owned_blobs
from deeplab_repro.net.net import Blob, Layer, Net

_NET, _MEAN = "net.json", "mean.npy"
_MOST_AT_ONCE = 1 << 20  # bytes that are read; the zip's directory is no longer
_LONGEST_NET = 4 << 20  # of net.json; DeepLabv2-ResNet101's has 0.9 MB
_MEND = "save it with write_npz or numpy.savez"


def write_npz(net: Net, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Write a net and its weights; the same net gives the same bytes.

    half: weights and biases as float16, which takes half the bytes.

    Raises WeightsError where a layer has no weights, or none that fit float16, NetError for a net
    that no prototxt can hold and a mean_file that is not loaded, and FileError if the file cannot
    be written. Then no file is left behind.
    """
    description = net_to_json(net).encode()
    _check_length(len(description), NetError)
    with write_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.comment = MADE_BY.encode()
        archive.writestr(_entry(_NET), description)
        if net.preprocessing and net.preprocessing.mean_image:
            _write_array(archive, _MEAN, net.preprocessing.mean_image.loaded())
        members = _members(net)
        for layer in net.layers:
            for what, weights in layer.weights().items():
                if _member(layer, what) in members:
                    if half and is_halved(what):
                        weights = as_half(layer, what, weights)
                    _write_array(archive, _member(layer, what), weights)


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    """As little-endian float16 or float32."""
    data = np.asarray(array, "<f2" if array.dtype == np.float16 else "<f4", order="C")
    entry = _entry(name)
    entry.file_size = data.nbytes  # where it is above 2 GB, zipfile must know before
    with archive.open(entry, "w") as member:
        header = np.lib.format.header_data_from_array_1_0(data)
        np.lib.format.write_array_header_1_0(member, header)
        member.write(data.reshape(-1).view(np.uint8).data)


def read_npz(path: str | os.PathLike[str]) -> Net:
    """Read a net and its weights, as `write_npz` or others wrote them (float16 to float64).

    The net and its blobs are checked like those of a prototxt and a caffemodel, and the arrays are
    read straight into their places. Raises FileError, FormatError where the file is cut
    off, broken or something else, NetError where the net does not hold together, and ResourceError
    where it is larger than the free memory.
    """
    name = one_line(path)
    try:
        with open_to_read(path) as (file, size), zipfile.ZipFile(_InPieces(file)) as archive:
            return _read_net(archive, size)
    except (FormatError, NetError, ResourceError) as error:
        raise type(error)(f"{name}: {error}") from None
    except ZIP_ERRORS as error:
        raise FormatError(
            f"{name}: is not a .npz, or broken: {one_line(error)}: {_MEND}"
        ) from error


class _InPieces:
    """A file that refuses to read much at once.

    zipfile reads the whole directory of an archive, and takes ten times its size in memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_AT_ONCE:
            raise zipfile.BadZipFile(f"a header or its directory has over {_MOST_AT_ONCE:,} bytes")
        return self._file.read(_MOST_AT_ONCE if size < 0 else size)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # dated 1980-01-01
    entry.create_system = 3  # Unix, whatever it is
    return entry


def _member(layer: Layer, what: str) -> str:
    return f"{layer.name}/{what}.npy"


def _members(net: Net) -> dict[str, Blob]:
    """Every blob by its member's name; what layers share by a name is the first one's."""
    return {
        _member(layer, what): blob
        for layer, owned in owned_blobs(net)
        for what, blob in owned.items()
    }


def _read_net(archive: zipfile.ZipFile, size: int) -> Net:
    entries = {entry.filename: entry for entry in archive.infolist()}
    _check_entries(archive.infolist(), size)
    if _NET not in entries:
        raise FormatError(f"holds no {_NET}, expected a net: {_MEND}")
    _check_length(entries[_NET].file_size, FormatError)
    with archive.open(_NET) as member:
        net = net_from_json(b"".join(iter(lambda: member.read(_MOST_AT_ONCE), b"")).decode())
    members = _members(net)
    how = net.preprocessing
    mean = how and how.mean_image
    if mean and _MEAN in entries:
        with archive.open(entries[_MEAN]) as member:
            members[_MEAN] = _mean_blob(read_header(member, repr(_MEAN)).shape)
    elif mean:
        raise FormatError(f"holds no '{_MEAN}', expected the values of mean_file")
    for name in entries:
        if name not in members and name != _NET:
            raise FormatError(f"holds {name[:200]!a}, which is no blob of {_NET}: take it out")
    for name in members:
        if name not in entries:
            raise FormatError(f"holds no {name!a}, expected that blob of {_NET}")
    for name, blob in members.items():
        with archive.open(entries[name]) as member:
            _read_array(member, entries[name].file_size, blob, f"{name!a}")
    if how and mean:
        mean = replace(mean, values=members[_MEAN].data)
        if not np.isfinite(mean.loaded()).all():
            raise FormatError(f"'{_MEAN}' holds NaN or infinity, expected finite numbers")
        net.preprocessing = replace(how, mean=mean)
    return net


def _mean_blob(shape: Shape) -> Blob:
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        raise FormatError(f"'{_MEAN}' is {dims(shape)}, expected 3xHxW: blue, green, red")
    return Blob(shape)


def _check_length(n_bytes: int, kind: type[DeepLabError]) -> None:
    if n_bytes > _LONGEST_NET:
        raise kind(f"{_NET} has {n_bytes:,} bytes, expected at most {_LONGEST_NET:,}")


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    names = set()
    for entry in entries:
        if entry.filename in names:
            raise FormatError(f"holds {entry.filename[:200]!a} twice, expected it once: {_MEND}")
        if entry.compress_type != zipfile.ZIP_STORED:
            # Compressed zeros are a thousand times smaller: a small file could fill the memory.
            raise FormatError(
                f"{entry.filename[:200]!a} is compressed, expected it as it is: {_MEND}"
            )
        names.add(entry.filename)
    if sum(entry.file_size for entry in entries) > size:
        raise FormatError(f"its members claim more than its {size:,} bytes: it is broken: {_MEND}")


def _read_array(member: IO[bytes], n_bytes: int, blob: Blob, name: str) -> None:
    """Read one array, which is `n_bytes` long with its header, into the blob."""
    header = read_header(member, name)
    shape, dtype = header.shape, header.dtype
    what = f"{name} is {dims(shape)} {dtype}"[:300]
    if shape != blob.shape or not header.is_float:
        raise FormatError(f"{what}, expected {dims(blob.shape)} float32, as in {_NET}")
    left, wanted = n_bytes - member.tell(), math.prod(shape) * dtype.itemsize
    if left != wanted:
        raise FormatError(
            f"{what}, which has {wanted:,} bytes, but {left:,} are there: the file is broken"
        )
    require_memory(wanted, name, "check that it is the right file")
    values = np.empty(math.prod(shape), dtype)
    raw = values.view(np.uint8)
    for at in range(0, wanted, _MOST_AT_ONCE):
        piece = raw[at : at + _MOST_AT_ONCE]
        if member.readinto(piece) != len(piece):  # type: ignore[attr-defined]
            raise FormatError(f"{name} is cut short: the file is broken")
    with np.errstate(over="ignore"):  # of doubles: becomes infinite, as in Caffe
        blob.data = np.asarray(
            values.reshape(shape, order="F" if header.columns_first else "C"), "<f4", order="C"
        )
