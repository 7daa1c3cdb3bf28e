"""What the tests of caffe/ share: nets at random, hand-made bytes, the checks of errors."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from deeplab_repro.caffe import Caffemodel, deeplab_pb2, read_caffemodel, read_net
from deeplab_repro.caffe.blobs import legacy_dims
from deeplab_repro.errors import DeepLabError, FormatError, NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Dropout,
    Eltwise,
    InnerProduct,
    Interp,
    LayerType,
    Padding,
    Pooling,
    ReLU,
    Softmax,
    Split,
)
from deeplab_repro.net.net import Layer, Net

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared" / "golden"
GOLDEN_NETS = tuple(
    f"DeepLab{name}" for name in ("", "-LargeFOV", "-LargeFOV-513", "-MSc", "-MSc-LargeFOV")
)


def golden(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that compares with the original software."""
    absent = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"there is no {GOLDEN}")
    return pytest.mark.golden(absent(test))


INPUT = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9\n'
CONV = "convolution_param { num_output: 2 kernel_size: 3 pad: 1 }"


def v1(kind: str, parameters: str = "", bottom: str = "data", top: str = "y") -> str:
    """A V1 layer named as its top."""
    taken = f'bottom: "{bottom}"' if bottom else ""
    return f'layers {{ name: "{top}" type: {kind} {taken} top: "{top}" {parameters} }}\n'


def current(kind: str, parameters: str = "", bottom: str = "data", top: str = "y") -> str:
    """A layer of the current format named as its top."""
    taken = f'bottom: "{bottom}"' if bottom else ""
    return f'layer {{ name: "{top}" type: "{kind}" {taken} top: "{top}" {parameters} }}\n'


def net(tmp_path: Path, text: str, **variables: str) -> Net:
    """The net of a prototxt of this text."""
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return read_net(path, variables)


def refused(
    call: Callable[[], object], pattern: str, kind: type[DeepLabError] = FormatError
) -> str:
    """The message of the error that the call must raise: one line that matches the pattern."""
    with pytest.raises(kind, match=pattern) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.isprintable()
    assert len(message) < 1000
    return message


# --- nets at random

SIDE = st.integers(1, 3)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NAMES = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=12
).filter(lambda name: "${" not in name)


def _pairs(values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(values, values)


def _operations(channels: int) -> st.SearchStrategy[tuple[LayerType, int, int]]:
    """(what it does, how many bottoms, how many tops)."""
    group = st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0])
    convolution = group.flatmap(
        lambda n: st.builds(
            Convolution,
            num_output=st.integers(1, 3).map(lambda outputs: outputs * n),
            kernel=_pairs(SIDE),
            pad=_pairs(st.integers(0, 3)),
            stride=_pairs(SIDE),
            hole=_pairs(SIDE),
            group=st.just(n),
            bias=st.booleans(),
        )
    )
    pooling = st.builds(
        Pooling,
        method=st.sampled_from(["MAX", "AVE"]),
        kernel=_pairs(st.integers(2, 4)),
        pad=_pairs(st.integers(0, 1)),
        stride=_pairs(SIDE),
    ) | st.builds(Pooling, method=st.sampled_from(["MAX", "AVE"]), kernel=st.just((0, 0)))
    crop = {"pad_beg": st.integers(-2, 0), "pad_end": st.integers(-2, 0)}
    interp = (
        st.builds(Interp, zoom_factor=SIDE, **crop)
        | st.builds(Interp, shrink_factor=SIDE, **crop)
        | st.builds(Interp, height=st.integers(1, 20), width=st.integers(1, 20), **crop)
    )
    grown = st.builds(Padding, st.integers(0, 3), st.integers(0, 3))
    cropped = st.builds(Padding, st.integers(-3, 0), st.integers(-3, 0))
    single = st.one_of(
        convolution,
        pooling,
        interp,
        grown | cropped,
        st.builds(InnerProduct, st.integers(1, 4), st.booleans()),
        st.builds(ReLU, FLOATS),
        st.builds(Dropout, FLOATS),
        st.just(Softmax()),
    )
    eltwise = st.builds(Eltwise, st.sampled_from(["PROD", "MAX"])) | st.builds(
        Eltwise, coeff=st.just(()) | st.tuples(FLOATS, FLOATS)
    )
    return st.one_of(
        single.map(lambda op: (op, 1, 1)),
        eltwise.map(lambda op: (op, 2, 1)),
        st.builds(Concat, st.integers(0, 3)).map(lambda op: (op, 2, 1)),
        st.integers(1, 3).map(lambda tops: (Split(), 1, tops)),
    )


@st.composite
def nets(draw: st.DrawFn) -> Net:
    """A small net, without weights, of up to eight layers of every type that runs."""
    some = draw(st.lists(NAMES, min_size=6, max_size=6, unique=True))
    names = iter(dict.fromkeys([*some, *(f"{i} {name}" for i in range(6) for name in some)]))
    start = next(names)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 4)), *draw(_pairs(st.integers(5, 24))))
    net = Net(draw(NAMES), start, shape, [Layer(next(names), ReLU(), (start,), (next(names),))])
    for _ in range(draw(st.integers(0, 7))):
        shapes = net.blob_shapes()
        bottom = draw(st.sampled_from(list(shapes)))
        op, n_bottoms, n_tops = draw(_operations(shapes[bottom][1]))
        tops = tuple(next(names) for _ in range(n_tops))
        layer = Layer(next(names), op, (bottom,) * n_bottoms, tops, [], draw(st.booleans()))
        try:
            larger = Net(net.name, start, shape, [*net.layers, layer])
        except NetError:  # the image has become too small for it
            continue
        if larger.parameters + larger.activation_bytes(shape) < 200_000:
            net = larger
    return net


# --- bytes by hand

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def number(value: int) -> bytes:
    """A varint; a negative number takes ten bytes, as protobuf writes it."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(tag: int, value: int | float | bytes | str, kind: int = BYTES) -> bytes:
    """One field of a message."""
    head = number(tag << 3 | kind)
    if isinstance(value, str):
        value = value.encode()
    if kind == VARINT:
        return head + number(int(value))
    if kind == BYTES:
        assert isinstance(value, bytes)
        return head + number(len(value)) + value
    return head + np.array(value, "<f4" if kind == FIXED32 else "<f8").tobytes()


def floats(*values: float) -> bytes:
    """Packed floats, without tag and length."""
    return np.array(values, "<f4").tobytes()


def v1_layer(*blobs: bytes, name: str = "conv") -> bytes:
    """A NetParameter with one V1 layer."""
    described = field(4, name) + field(5, 4, VARINT)
    return field(2, described + b"".join(field(6, blob) for blob in blobs))


def current_layer(*blobs: bytes, name: str = "conv") -> bytes:
    """A NetParameter with one layer of the current format."""
    described = field(1, name) + field(2, "Convolution")
    return field(100, described + b"".join(field(7, blob) for blob in blobs))


def legacy(*dims: int) -> bytes:
    """The four dims of old."""
    return b"".join(field(tag, dim, VARINT) for tag, dim in zip((1, 2, 3, 4), dims, strict=True))


def shape(*dims: int) -> bytes:
    """A BlobShape."""
    return field(7, b"".join(field(1, dim, VARINT) for dim in dims))


LEGACY = legacy(1, 1, 2, 3)
DATA = field(5, floats(0, 1, 2, 3, 4, 5))


def read(tmp_path: Path, data: bytes) -> Caffemodel:
    """What the reader makes of a caffemodel of these bytes."""
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    return read_caffemodel(path)


def protobuf_net(schema, names: list[str], arrays: list[np.ndarray], is_legacy: bool):
    """A NetParameter with one layer a name, and all arrays in each."""
    net = schema.NetParameter(name="net")
    for name in names:
        is_v1 = schema is deeplab_pb2
        layer = (net.layers if is_v1 else net.layer).add(name=name)
        layer.type = 4 if is_v1 else "Convolution"
        layer.convolution_param.num_output = 3
        for array in arrays:
            blob = layer.blobs.add()
            if array.dtype == np.float64 and not is_v1:
                blob.double_data.extend(array.ravel().tolist())
            else:
                blob.data.extend(array.ravel().tolist())
                blob.diff.extend(array.ravel().tolist())
            if is_legacy or is_v1:
                dims = legacy_dims(array.shape)
                blob.num, blob.channels, blob.height, blob.width = dims
            else:
                blob.shape.dim.extend(array.shape)
    return net


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The data after a few accidents: flipped bits, bytes lost, added or doubled, the end gone."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        some = rng.choice([1, 2, 9, 100, len(out) // 3])
        accident = rng.randrange(6)
        if accident == 0:
            out[at : at + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in out[at : at + 1])
        elif accident == 1:
            del out[at : at + some]
        elif accident == 2:
            out[at:at] = rng.randbytes(min(some, 300))
        elif accident == 3:
            out[at:at] = out[max(0, at - some) : at]
        elif accident == 4:
            del out[at:]
        else:
            out[at : at + 1] = rng.choice([b"\x00", b"\xff", b"\x80", b'"', b"\\", b"{", b"}"])
    return bytes(out)


def survives(call: Callable[[], object]) -> bool:
    """Whether the call returned; it may only fail with one line of ours."""
    try:
        call()
    except DeepLabError as error:
        message = str(error)
    else:
        return True
    assert message.isprintable()
    return False


def check_mutations(path: Path, original: bytes, call: Callable[[Path], object]) -> None:
    """Some broken copies of a file are read, and some are refused; nothing else happens."""
    rng, good = random.Random(1), 0
    for _ in range(100):
        path.write_bytes(mutated(original, rng))
        good += survives(lambda: call(path))
    assert 0 < good < 100
