"""Checks of converted files, by onnxruntime, OpenCV's Caffe importer, or our own readers."""

import os
import sys

import cv2
import numpy as np
import pytest

from deeplab_repro.caffe import read_net
from deeplab_repro.convert import onnx_model_pb2, write_caffe, write_onnx
from deeplab_repro.engines.opencv import BY_CAFFE, OpenCVEngine
from deeplab_repro.errors import ConversionError, DeviceError, NetError
from deeplab_repro.jobs import convert, verify
from deeplab_repro.jobs.convert import ENDINGS
from deeplab_repro.jobs.verify import OnnxOptions, run_caffe, run_onnx
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Deconvolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
)
from deeplab_repro.net.net import Layer
from tests.conftest import assert_one_line
from tests.jobs.conversions import PHOTOS, assert_agree, checked, conv, layer, net_of

FORMATS = list(ENDINGS)

by_caffe = pytest.mark.skipif(not BY_CAFFE, reason="OpenCV 5 has no Caffe importer")


@pytest.fixture
def net(tiny):
    found = read_net(tiny)
    found.fill_random(0)
    return found


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(0, 50, (1, 3, 33, 41)).astype(np.float32)


def every_layer():
    """A net of every layer type, with several open ends and names that clash in OpenCV."""
    return net_of(
        Layer("conv", Convolution(4, (3, 3), pad=(1, 1)), ("data",), ("a",)),
        Layer("x", ReLU(), ("a",), ("a",)),
        Layer("x", Dropout(0.5), ("a",), ("a",)),
        Layer("pool", Pooling("MAX", (3, 3), (1, 1), (2, 2)), ("a",), ("pool",)),
        Layer("pad", Padding(2, 0), ("pool",), ("pad",)),
        Layer("s", Split(), ("pad",), ("s1", "s2")),
        Layer("ave", Pooling("AVE", (3, 3), (1, 1), (1, 1)), ("s1",), ("ave",)),
        Layer("sum", Eltwise("SUM", (1.0, -0.5)), ("ave", "s2"), ("sum",)),
        Layer("both", Concat(), ("sum", "pad"), ("both",)),
        Layer("up", Deconvolution(4, (4, 4), stride=(2, 2), group=4), ("both",), ("up",)),
        Layer("x", Interp(zoom_factor=2, pad_beg=-1), ("up",), ("zoomed",)),
        Layer("small", Interp(height=3, width=2), ("sum",), ("small",)),
        Layer("fc", InnerProduct(5), ("small",), ("fc",)),
        Layer("p", Softmax(), ("up",), ("p",)),
        shape=(1, 3, 33, 41),
    )


def assert_same(expected, found):
    for theirs, ours in zip(expected.values(), found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(1, theirs.std()))


def test_the_outputs_of_every_layer_type(tmp_path, data):
    net = every_layer()
    expected = OpenCVEngine(net, "cpu").blobs(data, net.outputs)
    assert list(expected) == ["zoomed", "fc", "p"]
    if BY_CAFFE:
        write_caffe(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
        what, found = run_caffe(tmp_path / "n.prototxt", tmp_path / "n.caffemodel", data)
        assert what == f"OpenCV {cv2.__version__}"
        assert_same(expected, found)
    onnxruntime = pytest.importorskip("onnxruntime")
    write_onnx(net, tmp_path / "n.onnx")
    what, found = run_onnx(tmp_path / "n.onnx", data)
    assert what == f"onnxruntime {onnxruntime.__version__}"
    assert_same(expected, found)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf_8(net, tmp_path, data):
    """Given such a path, OpenCV ends the process."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    if BY_CAFFE:
        write_caffe(net, folder / "n.prototxt", folder / "n.caffemodel")
        assert run_caffe(folder / "n.prototxt", folder / "n.caffemodel", data)[1]
    pytest.importorskip("onnxruntime")
    write_onnx(net, folder / "n.onnx")
    assert run_onnx(folder / "n.onnx", data)[1]


def test_onnxruntime_fails(net, tmp_path, data, capfd):
    version = f"onnxruntime {pytest.importorskip('onnxruntime').__version__}"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07 no model\n")
    write_onnx(net, tmp_path / "n.onnx")
    for path, given in (
        (broken, data),
        (tmp_path / "n.onnx", data[:, :2]),
        (tmp_path / "n.onnx", data.astype(np.float64)),
    ):
        with pytest.raises(NetError) as caught:
            run_onnx(path, given)
        assert_one_line(caught, f"{version} cannot run the converted net: ", "without verifying")
    assert capfd.readouterr() == ("", "")


def test_no_onnxruntime(tmp_path, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError) as caught:
        run_onnx(tmp_path / "n.onnx", data)
    assert_one_line(caught, "not installed", 'pip install "deeplab-repro[onnx]"')


@by_caffe
def test_opencv_fails(net, tmp_path, data, monkeypatch):
    prototxt, caffemodel = tmp_path / "n.prototxt", tmp_path / "n.caffemodel"
    write_caffe(net, prototxt, caffemodel)

    def error(given=data):
        with pytest.raises(NetError) as caught:
            run_caffe(prototxt, caffemodel, given)
        prefix, suffix = (
            f"OpenCV {cv2.__version__} cannot run the converted net: ",
            "without verifying",
        )
        assert_one_line(caught, prefix, suffix)
        return str(caught.value).removeprefix(prefix)

    assert error(data[:, :2])
    caffemodel.write_bytes(b"\xff")
    assert error().startswith("FAILED: ReadProtoFromBinary")
    # What bears no details of its own is not told with those of the error before.
    monkeypatch.setattr(cv2.dnn, "readNetFromCaffe", lambda *_: raised(cv2.error("bad_alloc")))
    assert error().startswith("bad_alloc; ")


@by_caffe
def test_a_pooling_that_opencv_does_otherwise(tmp_path):
    """The files are right, and OpenCV would make other numbers of them: they are read back."""
    pooling = Pooling("MAX", (5, 1), (3, 0), (3, 3))
    net = net_of(
        layer("p", pooling, "data", "p"),
        layer("up", Interp(height=20, width=26), "p", "up"),
        shape=(1, 3, 31, 14),
    )
    converted = checked(net, "caffe", tmp_path / "x")
    assert converted.checked_with == "what was read back"
    assert_agree(converted)


def raised(error):
    raise error


# --- every output of any net is checked


@pytest.mark.parametrize("to", FORMATS)
def test_every_open_end_is_checked(tmp_path, to):
    net = net_of(
        conv("c", "data", "c"),
        layer("a", ReLU(), "c", "a"),
        layer("b", Softmax(), "c", "b"),
        conv("d", "c", "d", stride=2),
    )
    converted = checked(net, to, tmp_path / "x")
    assert_agree(converted)
    assert [difference.output for difference in converted.differences] == ["a", "b", "d"]


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize(
    "net",
    [
        net_of(conv("c", "data", "x")),  # OpenCV calls it x
        net_of(conv("y", "data", "x"), conv("x", "data", "y", stride=2)),
        net_of(conv("c", "data", "x"), layer("r", ReLU(), "x", "x"), layer("r", ReLU(), "x", "y")),
        net_of(layer("data", ReLU(), "data", "data"), conv("c", "data", "x")),
        net_of(layer("s", Split(), "data", "a", "b"), conv("c", "a", "x")),
        net_of(conv("c", "data", "x"), layer("d", Dropout(0.5), "x", "y")),
        net_of(conv("größe/'\\", "data", "../x"), layer("r", ReLU(), "../x", "y z")),
        net_of(layer("fc", InnerProduct(7), "data", "fc"), shape=(2, 3, 4, 5)),
        net_of(conv("c", "data", "c"), layer("i", Interp(height=9, width=7), "c", "i")),
        net_of(conv("c", "data", "c"), layer("i", Interp(shrink_factor=3, pad_beg=-1), "c", "i")),
        net_of(conv("c", "data", "c"), shape=(3, 3, 8, 9)),
    ],
)  # fmt: skip
def test_any_net(tmp_path, net, to):
    converted = checked(net, to, tmp_path / "x")
    assert_agree(converted)
    assert [difference.output for difference in converted.differences] == list(net.outputs)


def test_photos_of_a_net_that_ends_in_softmax(tmp_path):
    """In the file it is the option's that is left."""
    net = net_of(conv("c", "data", "c"), layer("p", Softmax(), "c", "p"))
    for options, output in ((PHOTOS, "probs"), (OnnxOptions(rgb_uint8=True), "scores")):
        (difference,) = checked(net, "onnx", tmp_path / "x", onnx=options).differences
        assert difference.output == output
        assert difference.in_logarithms == (output == "probs")


@pytest.mark.parametrize("batch", [1, 3])
def test_photos_of_nets_that_fix_their_size(tmp_path, batch):
    fixed = layer("i", Interp(height=20, width=26), "c", "i")
    net = net_of(conv("c", "data", "c", stride=2), fixed, shape=(batch, 3, 20, 26))
    converted = checked(net, "onnx", tmp_path / "x", onnx=PHOTOS)
    assert_agree(converted)
    assert [difference.output for difference in converted.differences] == ["probs"]


def test_what_a_format_does_not_have_is_left_out(net, tmp_path):
    assert checked(net, "npz", tmp_path / "x", onnx=PHOTOS).differences[0].output == "up"


def test_what_ran_the_files(net, tmp_path, monkeypatch):
    assert checked(net, "npz", tmp_path / "x").checked_with == "what was read back"
    assert checked(net, "onnx", tmp_path / "x").checked_with.startswith("onnxruntime 1.")
    if BY_CAFFE:
        assert checked(net, "caffe", tmp_path / "x").checked_with.startswith("OpenCV 4.")
    monkeypatch.setattr(verify, "BY_CAFFE", False)  # as OpenCV 5
    converted = checked(net, "caffe", tmp_path / "x", interp=False)
    assert converted.checked_with == "what was read back"
    assert_agree(converted)


# --- what is judged, and by what


def scores_of_sixty():
    """A net that ends in Softmax, its scores so large that float32 keeps few probabilities.

    Allowed 1e-4 whatever the scores, its probabilities would differ: they do as the scores differ.
    """
    return net_of(
        Layer("c1", Convolution(16, (3, 3), (1, 1)), ("data",), ("c1",)),
        Layer("r1", ReLU(), ("c1",), ("c1",)),
        Layer("c2", Convolution(21, (3, 3), (1, 1)), ("c1",), ("s",)),
        Layer("big", Eltwise("SUM", (20.0, 20.0)), ("s", "s"), ("big",)),
        Layer("prob", Softmax(), ("big",), ("prob",)),
        shape=(1, 3, 33, 33),
    )


def narrow():
    """A net whose sums cancel: its scores are small beside what they are sums of."""
    layers = []
    bottom = "data"
    for number, channels in enumerate((4, 4, 8, 8, 16, 16, 32, 32, 4)):
        name = f"c{number}"
        hole = 1 if number < 6 else 2
        op = Convolution(channels, (3, 3), (hole, hole), hole=(hole, hole))
        layers += [
            Layer(name, op, (bottom,), (name,)),
            Layer(f"r{number}", ReLU(), (name,), (name,)),
        ]
        bottom = name
    up = Deconvolution(21, (4, 4), (1, 1), (2, 2), group=21, bias=False)
    layers += [conv("score", bottom, "score"), Layer("up", up, ("score",), ("up",))]
    layers[-2].op = Convolution(21, (1, 1))
    return net_of(*layers, shape=(1, 3, 33, 33))


@pytest.mark.parametrize("make", [scores_of_sixty, narrow])
def test_no_false_alarm(tmp_path, make):
    converted = checked(make(), "onnx", tmp_path / "x")
    assert_agree(converted)
    # No more than a tenth of what a fault would make, which is as large as the scores.
    assert converted.differences[0].tolerance < 1e-4 * 60


def test_no_false_alarm_where_rounding_is_all_there_is(tmp_path):
    """The difference of two branches that are nearly the same: float32 keeps few of its digits."""
    net = net_of(
        conv("a", "data", "a"),
        conv("b", "a", "b"),
        conv("c", "a", "c"),
        Layer("d", Eltwise("SUM", (1.0, -1.0)), ("b", "c"), ("d",)),
    )
    net.layers[2].blobs[0].data[:] = net.layers[1].blobs[0].data * np.float32(1 + 1e-5)
    (difference,) = checked(net, "onnx", tmp_path / "x").differences
    assert 0 < difference.largest <= difference.tolerance
    assert difference.of_engine > 0


def test_of_probabilities_the_logarithms_are_judged(tmp_path):
    """As these are the scores, whatever passes the probabilities on."""
    net = net_of(
        conv("c", "data", "c"),
        layer("p", Softmax(), "c", "p"),
        layer("s", Split(), "p", "a", "b"),
        layer("d", Dropout(), "a", "e"),
        layer("r", ReLU(), "b", "r"),
    )
    logs = {x.output: x.in_logarithms for x in checked(net, "onnx", tmp_path / "x").differences}
    assert logs == {"e": True, "r": False}
    converted = checked(net_of(conv("c", "data", "c")), "onnx", tmp_path / "x", onnx=PHOTOS)
    (difference,) = converted.differences
    assert difference.in_logarithms
    assert 0 < difference.tolerance < 1e-3


def run_with_error(monkeypatch, size):
    """Let OpenCV's run of a net be off, by this much of an output's standard deviation."""
    run = verify._run

    def off(net, data):
        return {name: values + size * values.std() for name, values in run(net, data).items()}

    monkeypatch.setattr(verify, "_run", off)


@pytest.mark.parametrize("size", [2e-4, 0.1])
def test_opencv_is_the_one_that_is_off(net, tmp_path, monkeypatch, size):
    run_with_error(monkeypatch, size)
    (difference,) = checked(net, "onnx", tmp_path / "x").differences
    assert difference.largest < 1e-5 < difference.of_engine
    # Twice what rounding makes of the net; but where OpenCV itself is wrong, a fault is one still.
    assert difference.tolerance == pytest.approx(
        min(2 * difference.of_engine, 10 * difference.of_engine * 1e-4 / size), rel=1e-2
    )


@pytest.mark.parametrize("size", [0, 2e-4, 0.1])
@pytest.mark.parametrize("make", [scores_of_sixty, narrow])
def test_a_real_fault_is_found(tmp_path, monkeypatch, make, size):
    """Whether OpenCV is right or off: a weight, and pads that leave the size as it is."""
    if size:
        run_with_error(monkeypatch, size)
    pytest.importorskip("onnxruntime")
    write = convert.write_onnx

    def weight(model):
        first = model.graph.initializer[0]
        values = np.frombuffer(first.raw_data, np.float32).copy()
        values[0] *= 1.01
        first.raw_data = values.tobytes()

    def pads(model):
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        node.attribute[[each.name for each in node.attribute].index("pads")].ints[:] = [0, 1, 2, 1]

    for change in (weight, pads):

        def write_changed(net, path, change=change, **options):
            write(net, path, **options)
            model = onnx_model_pb2.ModelProto.FromString(path.read_bytes())
            change(model)
            path.write_bytes(model.SerializeToString())

        monkeypatch.setattr(convert, "write_onnx", write_changed)
        with pytest.raises(ConversionError) as caught:
            checked(make(), "onnx", tmp_path / "x")
        assert_one_line(
            caught, "differs by", "from a run in float64", f"OpenCV {cv2.__version__} differs by"
        )
    assert not list(tmp_path.iterdir())


def test_a_single_score(tmp_path):
    """Its deviation is 0: what float32 resolves is allowed."""
    net = net_of(layer("fc", InnerProduct(1), "data", "fc"), shape=(1, 3, 20, 26))
    (difference,) = checked(net, "onnx", tmp_path / "x").differences
    assert difference.tolerance > 0
    assert difference.largest <= difference.tolerance


def test_nets_of_other_channels(tmp_path):
    for channels in (1, 4):
        net = net_of(conv("c", "data", "c"), shape=(2, channels, 20, 26))
        assert_agree(checked(net, "onnx", tmp_path / "x"))
