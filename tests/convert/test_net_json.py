"""Descriptions of nets in a .npz that are none, refused on one line."""

import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_repro.errors import NetError
from tests.convert.npz_files import (
    assert_refused,
    on_disk,
    small_parts,
    traced_memory,
    use,
    zipped,
)


@pytest.fixture
def parts() -> dict[str, bytes]:
    """The members of the small net's file."""
    return small_parts()


@pytest.fixture
def refused(tmp_path):
    """Assert that a file of some content is refused on one line."""
    return partial(assert_refused, tmp_path / "net.npz")


GONE = object()


def edited(parts: dict[str, bytes], *changes: tuple[tuple[str | int, ...], object]) -> bytes:
    """The file with other values at these paths of its net.json."""
    document = json.loads(parts["net.json"])
    for (*path, last), value in changes:
        inner = document
        for key in path:
            inner = inner[key]
        if value is GONE:
            del inner[last]
        else:
            inner[last] = value
    return zipped({**parts, "net.json": json.dumps(document).encode()})


CONV, FC, LOSS = ("layers", 0), ("layers", 2), ("layers", 5)
MEAN = ("preprocessing", "mean_bgr")
OP = (*CONV, "parameters")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("version",), 2, "version is 2, expected 1: read it with the deeplab-repro that wrote it"),
        (("version",), GONE, "version is null, expected 1"),
        (("name",), 3, "name is 3, expected text that can be printed"),
        (("name",), "a\nb", "name is 'a\\nb', expected text"),
        (("input",), "a" * 201, "a name is 'aaa"),
        (("dialect",), None, "dialect is null, expected text"),
        (("input_shape",), [1, 3, 9], "input_shape is a list of 3, expected a list of 4"),
        (("input_shape",), "1339", "input_shape is '1339', expected a list of 4"),
        (("input_shape", 2), -9, "input_shape[2] is -9, expected a whole number from 0"),
        (("input_shape", 2), 2**31, "is 2147483648, expected a whole number from 0 to 2147483647"),
        (("input_shape", 2), 9.0, "input_shape[2] is 9.0, expected a whole number"),
        (("input_shape", 2), True, "input_shape[2] is true, expected a whole number"),
        (MEAN, [1, 2], "preprocessing.mean_bgr is a list of 2, expected a list of 3"),
        ((*MEAN, 0), 1e39, "mean_bgr[0] is 1e+39, expected a number from -3.403e+38 to"),
        ((*MEAN, 0), float("nan"), "mean_bgr[0] is NaN, expected a number"),
        ((*MEAN, 0), float("inf"), "mean_bgr[0] is Infinity, expected a number"),
        ((*MEAN, 0), 10**4000, "mean_bgr[0] is 1000"),
        (("preprocessing",), [], "preprocessing is a list of 0, expected an object"),
        (("preprocessing", "mean_file"), "m", "has mean_bgr and mean_file, or neither"),
        (MEAN, None, "has mean_bgr and mean_file, or neither"),
        (("preprocessing",), {"mean_file": ""}, "preprocessing.mean_file is '', expected"),
        (("labels",), [], "labels is a list of 0, expected an object"),
        (("labels", "label"), [], "labels.'label' is a list of 0, expected a list of 4"),
        (("labels", "a\nb"), [1, 1, 9, 9], "a name is 'a\\nb'"),
        (("data",), {}, "data has no field 'source', expected one"),
        (("data", "mirror"), 1, "data.mirror is 1, expected true or false"),
        (("data", "source"), "\0", "data.source is '\\x00', expected text"),
        (("dense_crf",), [], "dense_crf is a list of 0, expected an object"),
        (("dense_crf", "bi_w"), [{}], "dense_crf.bi_w[0] is an object, expected a number"),
        (("layers",), {}, "layers is an object, expected a list"),
        (("layers", 1), None, "layers[1] is null, expected an object"),
        (("more",), 1, "net.json has a field 'more', expected version, name,"),
        (("layers",), GONE, "net.json has no field 'layers'"),
        ((*CONV, "name"), GONE, "layers[0] has no field 'name'"),
        ((*CONV, "name"), "x" * 9999, "a name is 'xxx"),
        ((*CONV, "type"), "Magic", "layer 'a/conv': type is 'Magic', expected one of Convolution,"),
        ((*CONV, "type"), "Layer", "type is 'Layer', expected one of"),
        ((*CONV, "tops", 0), "\x1b[2J", "tops[0] is '\\x1b[2J', expected text"),
        ((*CONV, "strict_dim"), 0, "layer 'a/conv': strict_dim is 0, expected true or false"),
        ((*CONV, "bottoms"), "data", "layer 'a/conv': bottoms is 'data', expected a list"),
        ((*OP, "kernel"), 3, "layer 'a/conv': parameters.kernel is 3, expected a list of 2"),
        ((*OP, "kernel"), GONE, "layer 'a/conv': parameters has no field 'kernel'"),
        ((*OP, "kernal"), [1, 1], "parameters has a field 'kernal', expected num_output, kernel,"),
        ((*OP, "pad", 0), -1, "parameters.pad[0] is -1, expected a whole number from 0"),
        ((*OP, "pad", 0), 10**12, "parameters.pad[0] is 1000000000000, expected a whole number"),
        ((*CONV, "blobs", "scale"), {}, "blobs are 'weight, bias, scale', expected weight, bias"),
        ((*CONV, "blobs", "bias"), GONE, "blobs are 2x3x3x1, expected 2x3x3x1, 2"),
        ((*CONV, "blobs", "weight"), GONE, "blobs are 'bias', expected weight, bias"),
        ((*CONV, "blobs", "bias", "shape"), [3], "blobs are 2x3x3x1, 3, expected 2x3x3x1, 2"),
        ((*CONV, "blobs", "bias", "filler"), 0, "blobs.bias.filler is 0, expected an object"),
        ((*LOSS, "parameters", "ignore_label"), [1.5], "ignore_label[0] is 1.5, expected a whole"),
        (("layers", 1, "blobs"), {"weight": 0}, "layer 'relu': blobs.weight is 0"),
    ],
)
def test_descriptions_of_other_things(refused, parts, path, value, expected):
    refused(edited(parts, (path, value)), expected)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("layers",), [], "net 'small net' has no layers"),
        (("input_shape", 2), 0, "input 'data' has shape 2x3x0x9"),
        ((*CONV, "bottoms", 0), "nothing", "layer 'a/conv' takes 'nothing', which no layer"),
        ((*CONV, "bottoms"), [], "layer 'a/conv' (Convolution) has 0 bottoms"),
        ((*CONV, "tops"), [], "layer 'a/conv' (Convolution) has 0 tops, expected 1"),
        (("layers", 4, "tops"), [], "layer 'größe' (Split) has 0 tops, expected 1"),
        ((*OP, "num_output"), 0, "layer 'a/conv' (Convolution): num_output is 0, expected"),
        ((*OP, "kernel", 0), 0, "layer 'a/conv' (Convolution): kernel_size is 0, expected"),
        ((*OP, "stride", 1), 0, "layer 'a/conv' (Convolution): stride is 0, expected at least 1"),
        ((*OP, "hole"), [0, 0], "layer 'a/conv' (Convolution): dilation is 0, expected"),
        ((*OP, "group"), 0, "layer 'a/conv' (Convolution): group is 0"),
        ((*OP, "group"), 2, "layer 'a/conv' (Convolution): group 2 does not divide 3 channels"),
        (("layers", 3, "parameters", "method"), "MIN", "layer 'pool' (Pooling): Enum PoolMethod"),
        (("layers", 3, "parameters", "kernel"), [2, 0], "layer 'pool' (Pooling): kernel_size is 0"),
        (("layers", 3, "parameters", "pad"), [9, 9], "layer 'pool' (Pooling): pad is (9, 9)"),
        ((*FC, "blobs", "weight", "lr_mult"), -1, "layer 'fc' (InnerProduct): lr_mult is -1"),
        ((*FC, "blobs", "weight", "filler", "type"), "x", "weight_filler has type 'x', expected"),
        ((*FC, "blobs", "weight", "filler", "min"), 9, "weight_filler has min 9 and max 0.25"),
        (("preprocessing", "scale"), 0, "scale is 0, expected a finite number other than 0"),
        (("preprocessing", "resized_to"), [0, 5], "images of 0x5, expected both at least 1"),
        ((*FC, "name"), "a/conv", "two layers with weights are named 'a/conv'"),
    ],
)
def test_nets_that_do_not_hold_together(refused, parts, path, value, expected):
    refused(edited(parts, (path, value)), expected, NetError)


def test_sizes_of_interp_that_contradict(refused, parts):
    def interp(**parameters):
        return edited(
            parts,
            (("layers", 1, "type"), "Interp"),
            (("layers", 1, "parameters"), parameters),
            (("layers", 1, "tops"), ["i"]),
        )

    for sizes in ({"zoom_factor": 0}, {"shrink_factor": 0}, {"height": 0, "width": 1}):
        refused(interp(**sizes), "layer 'relu' (Interp): ", NetError)
        refused(interp(**{"height": 5, "width": 5, **sizes}), "layer 'relu' (Interp): ", NetError)
    refused(interp(height=5), "height is 5, which Caffe would take as None", NetError)
    refused(interp(zoom_factor=2, pad_beg=1), "pads 1, 0, expected none above 0", NetError)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "net.json is no JSON"),
        (b"[]", "net.json is a list of 0, expected an object"),
        (b"[" * 500_000, "net.json is no JSON"),
        (b'{"version": 1' + b"0" * 5000 + b"}", "net.json is no JSON"),
        (b'{"version": ' + b"[" * 500 + b"]" * 500 + b"}", "version is a list of 1, expected 1"),
        (b"\xff\xfe", "codec can't decode"),
        (b" " * 4_194_305, "net.json has 4,194,305 bytes, expected at most 4,194,304"),
    ],
)
def test_broken_json(refused, parts, content, expected):
    refused(zipped({**parts, "net.json": content}), expected)


def test_a_huge_layer_takes_no_memory(refused, parts):
    many = 2**31 - 1
    content = edited(
        parts,
        ((*FC, "parameters", "num_output"), many),
        ((*FC, "blobs", "weight", "shape"), [many, 162]),
    )
    with traced_memory() as peak:
        refused(content, "is 4x162 float32, expected 2147483647x162 float32")
        assert peak() < 5_000_000


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, 3, -1, 2**31 - 1, 10**12, 0.5, -0.0, 1e300, "", "data", "MAX"]),
    st.text(max_size=3),
    st.lists(st.integers(-1, 3), max_size=4),
    st.sampled_from(["{}", "[[]]", '{"weight": {}}']).map(json.loads),
)


@settings(parent=on_disk, max_examples=30)
@given(st.data())
def test_any_values_in_the_description(tmp_path, parts, data):
    document = json.loads(parts["net.json"])
    for _ in range(data.draw(st.integers(1, 3))):
        inner = document
        while True:
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(inner[key], dict | list) or data.draw(st.integers(0, 5)) == 0:
                inner[key] = data.draw(ANYTHING)
                break
            inner = inner[key]
    text = json.dumps(document).encode()
    (tmp_path / "a.npz").write_bytes(zipped({**parts, "net.json": text}))
    use(tmp_path / "a.npz")
