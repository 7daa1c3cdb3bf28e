"""Into the current format and back: equal nets, equal arrays bit for bit, and again the same bytes.

What the current format does not keep: the dialect's name, and a DENSE_CRF's parameters, which are
written in neither format. `to_caffe` also says PADDING and INTERP in stock terms.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplab_repro.caffe import (
    load_weights,
    prototxt_text,
    read_caffemodel,
    read_net,
    read_train_net,
)
from deeplab_repro.convert.caffe import stock_net, to_caffe
from deeplab_repro.models.registry import MODELS
from deeplab_repro.net.layers import Padding
from deeplab_repro.net.net import Net

GOLDEN_NETS = [
    f"DeepLab{name}" for name in ("", "-LargeFOV", "-LargeFOV-513", "-MSc", "-MSc-LargeFOV")
]


def written_and_read(net: Net, folder: Path, read=read_net) -> Net:
    """The net after a round in the current format; the second round must give the same text."""
    path = folder / "current.prototxt"
    path.write_text(prototxt_text(net, current=True))
    again = read(path)
    assert prototxt_text(again, current=True) == path.read_text()
    return again


def as_current(net: Net) -> Net:
    return replace(net, dialect="Caffe", dense_crf=None)


@pytest.mark.parametrize("name", MODELS)
def test_our_test_nets(name, tmp_path):
    net = read_net(MODELS[name].test_prototxt)
    assert net.preprocessing
    assert written_and_read(net, tmp_path) == as_current(net)


@pytest.mark.parametrize("name", MODELS)
def test_our_train_nets(name, tmp_path):
    """With their rates, decays and fillers, and all of the data layer."""
    net = read_train_net(MODELS[name].train_prototxt)
    rates = {(blob.lr_mult, blob.decay_mult) for layer in net.layers for blob in layer.blobs}
    assert len(rates) > 1
    assert net.data
    assert written_and_read(net, tmp_path, read_train_net) == as_current(net)


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_golden_nets(golden, name, tmp_path):
    net = read_net(golden / "nets" / name / "deploy.prototxt")
    assert written_and_read(net, tmp_path) == as_current(net)


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_golden_nets_in_stock_terms(golden, name, tmp_path):
    folder = golden / "nets" / name
    net = read_net(folder / "deploy.prototxt")
    load_weights(net, folder / "weights.caffemodel")
    prototxt, caffemodel = to_caffe(net)
    (tmp_path / "net.prototxt").write_bytes(prototxt)
    (tmp_path / "net.caffemodel").write_bytes(caffemodel)

    again = read_net(tmp_path / "net.prototxt")
    empty = replace(stock_net(net), layers=[replace(x, blobs=[]) for x in stock_net(net).layers])
    assert again == empty
    kept = {layer.name: layer for layer in again.layers}
    for layer in net.layers:
        if not isinstance(layer.op, Padding):
            assert (kept[layer.name].op, kept[layer.name].tops) == (layer.op, layer.tops)
    assert len(kept) - len(net.layers) == (1 if name == "DeepLab" else 0)  # PADDING makes two

    load_weights(again, tmp_path / "net.caffemodel")
    originals = {x.name: x.blobs for x in read_caffemodel(folder / "weights.caffemodel").layers}
    for layer in (layer for layer in net.layers if layer.blobs):
        for blob, original in zip(kept[layer.name].blobs, originals[layer.name], strict=True):
            assert blob.data.tobytes() == original.tobytes()
    assert to_caffe(again) == (prototxt, caffemodel)
    for layer, stock in zip(again.layers, stock_net(net).layers, strict=True):
        for blob, expected in zip(layer.blobs, stock.blobs, strict=True):
            np.testing.assert_array_equal(blob.data, expected.data)
