"""Parameters of the layers of each value or channel, in both dialects; what is refused of them."""

import numpy as np
import pytest

from deeplab_repro.caffe import bvlc_pb2, load_weights, prototxt_text, read_net
from deeplab_repro.caffe.caffemodel import Caffemodel, ModelLayer
from deeplab_repro.errors import NetError, WeightsError
from deeplab_repro.net.channel_layers import (
    BN,
    ELU,
    LRN,
    AbsVal,
    BatchNorm,
    Bias,
    Exp,
    Log,
    Power,
    PReLU,
    Scale,
    Sigmoid,
    TanH,
)
from tests.caffe.caffe_files import INPUT, current, net, refused, v1


def model(**layers):
    """A caffemodel of layers with these arrays."""
    made = [ModelLayer(bvlc_pb2.LayerParameter(name=x), list(y)) for x, y in layers.items()]
    return Caffemodel("n", "Caffe", made)


IN_BOTH = [
    ("ABSVAL", "AbsVal", "", AbsVal()),
    ("EXP", "Exp", "", Exp()),
    ("EXP", "Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", Exp(2, 0.5, 1)),
    ("POWER", "Power", "", Power()),
    ("POWER", "Power", "power_param { power: 2 scale: 0.5 shift: 1 }", Power(2, 0.5, 1)),
    ("SIGMOID", "Sigmoid", "", Sigmoid()),
    ("TANH", "TanH", "", TanH()),
    ("LRN", "LRN", "", LRN()),
    (
        "LRN",
        "LRN",
        "lrn_param { local_size: 3 alpha: 0.5 beta: 2 norm_region: WITHIN_CHANNEL k: 4 }",
        LRN(3, 0.5, 2, "WITHIN_CHANNEL", 4),
    ),
]
CURRENT = [
    ("BatchNorm", "", BatchNorm()),
    ("BatchNorm", "batch_norm_param { eps: 0.5 use_global_stats: true }", BatchNorm(0.5, True)),
    (
        "BatchNorm",
        "batch_norm_param { moving_average_fraction: 0.5 }",
        BatchNorm(moving_average_fraction=0.5),
    ),
    ("BN", "bn_param { eps: 0.5 momentum: 0.25 frozen: true }", BN(0.5, 0.25, True)),
    ("Scale", "", Scale()),
    ("Scale", "scale_param { axis: -2 num_axes: -1 bias_term: true }", Scale(-2, -1, True)),
    ("Bias", "bias_param { axis: 0 num_axes: 0 }", Bias(0, 0)),
    ("PReLU", "", PReLU()),
    ("PReLU", "prelu_param { channel_shared: true }", PReLU(True)),
    ("ELU", "elu_param { alpha: 0.5 }", ELU(0.5)),
    ("Log", "", Log()),
    ("Log", "log_param { base: 10 scale: 0.5 shift: 1 }", Log(10, 0.5, 1)),
]


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"), [*CURRENT, *((kind, p, op) for _, kind, p, op in IN_BOTH)]
)
def test_current_format_there_and_back(tmp_path, kind, parameters, expected):
    found = net(tmp_path, INPUT + current(kind, parameters))
    assert found.layers[0].op == expected
    path = tmp_path / "again.prototxt"
    path.write_text(prototxt_text(found, current=True))
    assert read_net(path).layers[0].op == expected


@pytest.mark.parametrize(("kind", "_", "parameters", "expected"), IN_BOTH)
def test_v1_there_and_back(tmp_path, kind, _, parameters, expected):
    found = net(tmp_path, INPUT + v1(kind, parameters))
    assert found.layers[0].op == expected
    path = tmp_path / "again.prototxt"
    path.write_text(prototxt_text(found))
    assert read_net(path).layers[0].op == expected


@pytest.mark.parametrize(
    ("kind", "parameters", "problem"),
    [
        ("BatchNorm", "batch_norm_param { use_global_stats: false }", "use_global_stats is false"),
        ("BatchNorm", "batch_norm_param { eps: -1 }", "eps is -1, expected a number from 0"),
        ("BN", "bn_param { eps: nan }", "eps is nan, expected a finite number"),
        ("Scale", "scale_param { axis: 4 }", "axis 4 is not an axis of 1x3x9x9"),
        ("Scale", "scale_param { num_axes: 5 }", "num_axes 5 from axis 1 on"),
        ("ELU", "elu_param { alpha: inf }", "alpha is inf"),
        ("POWER", "power_param { shift: nan }", "shift is nan"),
        ("Exp", "exp_param { base: 0 }", "base is 0, expected a number above 0, or -1 for e"),
        ("Log", "log_param { base: -2 }", "base is -2, expected a number above 0"),
        ("Log", "log_param { base: 1 }", "base is 1, which has no logarithms"),
        ("LRN", "lrn_param { local_size: 4 }", "local_size is 4, expected an odd number"),
        ("LRN", "lrn_param { local_size: 4294967295 }", "expected an odd number up to 255"),
    ],
)
def test_values_that_do_not_run(tmp_path, kind, parameters, problem):
    layer = v1 if kind == "POWER" else current
    text = INPUT + layer(kind, parameters)
    refused(lambda: net(tmp_path, text), f"layer 'y' .*{problem}", NetError)


def test_a_scalar_as_caffe_writes_it(golden):
    """A blob without axes has no shape in the file."""
    folder = golden / "bvlc/prelu"
    found = read_net(folder / "net.prototxt")
    assert load_weights(found, folder / "weights.caffemodel") == []
    assert found.layers[3].blobs[0].data.shape == ()


def test_the_four_blobs_of_a_bn_have_any_axes_of_one(tmp_path):
    found = net(tmp_path, INPUT + current("BN"))
    arrays = [np.full(shape, 2, np.float32) for shape in [(3,), (1, 3), (1, 3, 1, 1), (3, 1)]]
    load_weights(found, model(y=arrays))
    assert [blob.data.shape for blob in found.layers[0].blobs] == [(1, 3, 1, 1)] * 4
    arrays[3] = np.ones(4, np.float32)
    with pytest.raises(WeightsError, match="the variance of layer 'y' is 1x1x1x4, expected"):
        load_weights(found, model(y=arrays))


def test_statistics_of_one_name_that_differ_are_kept_apart(tmp_path):
    """So Caffe runs v2's three scales: see docs/original.md."""
    shared = 'param { name: "m" } param { name: "v" } param { name: "f" }'
    text = INPUT + current("BatchNorm", shared, top="a") + current("BatchNorm", shared, top="b")
    statistics = [np.full(n, 2, np.float32) for n in (3, 3, 1)]
    other = [np.full(3, 5, np.float32), *statistics[1:]]

    def read(*arrays):
        found = net(tmp_path, text)
        load_weights(found, model(**dict(zip("ab", arrays, strict=False))))
        return [layer.blobs[0] for layer in found.layers]

    for first, second in (read(statistics), read(statistics, statistics)):
        assert first is second
    first, second = read(statistics, other)
    assert (first.data[0], second.data[0]) == (2, 5)
