"""Nets as .npz that several test files need: a small one, its parts, and how it is refused."""

import io
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from deeplab_repro.convert.npz import read_npz, write_npz
from deeplab_repro.errors import DeepLabError, FormatError
from deeplab_repro.net.layers import (
    Convolution,
    InnerProduct,
    Pooling,
    ReLU,
    SegAccuracy,
    SoftmaxLoss,
    Split,
)
from deeplab_repro.net.net import Filler, Layer, Net
from deeplab_repro.net.other_layers import DenseCrfParameter, ImageSegData
from deeplab_repro.net.preprocess import Preprocessing
from tests.conftest import assert_one_line

on_disk = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def small() -> Net:
    """A train net with every field set, and weights."""
    conv = Convolution(2, kernel=(3, 1), pad=(1, 0), hole=(1, 2))
    net = Net(
        "small net",
        "data",
        (2, 3, 9, 9),
        [
            Layer("a/conv", conv, ("data",), ("x",), strict_dim=False),
            Layer("relu", ReLU(0.25), ("x",), ("x",)),
            Layer("fc", InnerProduct(4, bias=False), ("x",), ("fc",)),
            Layer("pool", Pooling("AVE", (0, 0)), ("x",), ("pool",)),
            Layer("größe", Split(), ("x",), ("y", "z")),
            Layer("loss", SoftmaxLoss((255, -1), 0.5), ("y", "label"), ("loss",)),
            Layer("accuracy", SegAccuracy((255,)), ("z", "label"), ("accuracy",)),
        ],
        dialect="Caffe",
        preprocessing=Preprocessing((104.0, 116.66899871826172, 122.675), 0.5, (9, 11)),
        dense_crf=DenseCrfParameter(10, (3.0,), (3.0,), (50.0, 0.1), (3.0,), (5.0,)),
        labels={"label": (2, 1, 9, 9)},
        data=ImageSegData("list ${x}.txt", "/root", 2, 9, True, True, 0),
    )
    net.fill_random(0)
    net.layers[0].blobs[0].data[0, 0] = [[np.nan], [-0.0], [np.inf]]
    net.layers[0].blobs[1].lr_mult = 2.5
    net.layers[0].blobs[1].decay_mult = 0.0
    net.layers[0].blobs[0].filler = Filler("gaussian", std=0.01)
    net.layers[2].blobs[0].filler = Filler("uniform", min=-0.1, max=0.25)
    return net


def assert_same(found: Net, net: Net) -> None:
    """Equal in everything, the arrays bit for bit."""
    for ours, theirs in zip(found.layers, net.layers, strict=True):
        for blob, expected in zip(ours.blobs, theirs.blobs, strict=True):
            assert blob.data.tobytes() == expected.data.tobytes()
            assert (blob.data.shape, blob.data.dtype) == (expected.shape, np.float32)
            assert blob.data.flags.c_contiguous
            assert blob.data.flags.writeable
    assert without_weights(found) == without_weights(net)


def without_weights(net: Net) -> Net:
    bare = [
        replace(layer, blobs=[replace(blob, data=None) for blob in layer.blobs])
        for layer in net.layers
    ]
    return replace(net, layers=bare)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def weights(net: Net) -> dict[str, np.ndarray]:
    return {
        f"{layer.name}/{what}.npy": blob.data
        for layer in net.layers
        for what, blob in zip(("weight", "bias"), layer.blobs, strict=False)
    }


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@cache
def small_parts() -> dict[str, bytes]:
    """The members of the small net's file."""
    with tempfile.TemporaryDirectory() as folder:
        write_npz(small(), Path(folder) / "small.npz")
        with zipfile.ZipFile(Path(folder) / "small.npz") as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def assert_refused(
    path: Path, content: bytes, expected: str, kind: type[DeepLabError] = FormatError
) -> None:
    """A file of this content at `path` is refused on one line."""
    path.write_bytes(content)
    with pytest.raises(kind) as error:
        read_npz(path)
    assert type(error.value) is kind
    assert str(error.value).count(f"{path.name}: ") == 1
    assert len(str(error.value)) < 1000
    assert_one_line(error, expected)


def use(path) -> None:
    """A file is refused in one line, or what it holds is a net."""
    try:
        net = read_npz(path)
    except DeepLabError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 1000
        return
    assert net.blob_shapes()[net.output] == net.output_shape()
    assert net.output_stride > 0
    assert all(blob.data.shape == blob.shape for layer in net.layers for blob in layer.blobs)


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """The most bytes of memory that were taken at once inside."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
