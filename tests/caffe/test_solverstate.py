"""Solverstates: Caffe's of every age, our own, and what is broken or something else."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeplab_repro.caffe import deeplab_pb2, read_solverstate, wire, write_solverstate
from deeplab_repro.caffe.blobs import legacy_dims
from deeplab_repro.errors import ArgumentError, FileError, ResourceError
from deeplab_repro.net.solver import SolverState
from tests.caffe.caffe_files import (
    DATA,
    FIXED32,
    FIXED64,
    LEGACY,
    VARINT,
    check_mutations,
    current_layer,
    field,
    floats,
    legacy,
    number,
    refused,
    shape,
    survives,
    v1_layer,
)

ITER = field(1, 2000, VARINT)
NET = field(2, "snap/train_iter_2000.caffemodel")


def read(tmp_path, data: bytes) -> SolverState:
    path = tmp_path / "a.solverstate"
    path.write_bytes(data)
    return read_solverstate(path)


# --- Caffe's, and ours


@pytest.mark.parametrize(
    ("blob", "expected"),
    [(LEGACY + DATA, (1, 1, 2, 3)), (shape(2, 3) + DATA, (2, 3)), (DATA + shape(6), (6,))],
)
@pytest.mark.parametrize("step", [b"", field(4, 3, VARINT)], ids=["", "step"])
def test_states_of_every_age(tmp_path, blob, expected, step):
    pieces = [ITER, NET, field(3, blob), field(3, blob), step, field(99, "?")]
    for data in (pieces, pieces[::-1]):
        state = read(tmp_path, b"".join(data))
        assert (state.iteration, state.current_step) == (2000, 3 if step else 0)
        assert state.learned_net == "snap/train_iter_2000.caffemodel"
        for array in state.history:
            assert (array.shape, array.dtype) == (expected, np.float32)
            np.testing.assert_array_equal(array.ravel(), np.arange(6))
        assert len(state.history) == 2


ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=st.floats(width=32)
)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    iteration=st.integers(0, 2**31 - 1),
    step=st.integers(0, 2**31 - 1),
    learned=st.text(st.characters(exclude_categories=("C", "Z")), max_size=30),
    history=st.lists(ARRAYS, max_size=4),
)
def test_any_state_is_written_as_caffe_writes_it(tmp_path, iteration, step, learned, history):
    path = tmp_path / "a.solverstate"
    write_solverstate(SolverState(iteration, learned, history, step), path)
    message = deeplab_pb2.SolverState(iter=iteration, learned_net=learned, current_step=step)
    for array in history:
        num, channels, height, width = legacy_dims(array.shape)
        message.history.add(
            num=num, channels=channels, height=height, width=width, data=array.ravel().tolist()
        )
    assert path.read_bytes() == message.SerializeToString()
    again = read_solverstate(path)
    assert (again.iteration, again.learned_net, again.current_step) == (iteration, learned, step)
    for array, found in zip(history, again.history, strict=True):
        assert found.tobytes() == array.tobytes()
        assert found.shape == legacy_dims(array.shape)
        assert found.flags.writeable


def test_digests_are_fields_that_caffe_skips(tmp_path):
    digests = {"learned_sha256": "0" * 64, "training_sha256": "ab" * 32}
    write_solverstate(SolverState(5, "net", [], 1, **digests), tmp_path / "a")
    again = read_solverstate(tmp_path / "a")
    assert {name: getattr(again, name) for name in digests} == digests
    message = deeplab_pb2.SolverState()
    message.ParseFromString((tmp_path / "a").read_bytes())
    assert (message.iter, message.learned_net, message.current_step) == (5, "net", 1)
    for digest in ("0" * 63, "G" * 64, "x" * 100_000):
        data = ITER + NET + field(1000, digest)
        refused(lambda data=data: read(tmp_path, data), "learned_sha256 is ")


def test_arrays_that_are_not_contiguous(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_solverstate(SolverState(1, "net", [array]), tmp_path / "a")
    np.testing.assert_array_equal(read_solverstate(tmp_path / "a").history[0][0, 0], array)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (SolverState(-1, "net"), "iter is -1, expected a number from 0 to 2147483647"),
        (SolverState(2**31, "net"), "iter is 2147483648, expected"),
        (SolverState(0, "net", [], -1), "current_step is -1, expected"),
        (SolverState(0, "a\nb"), r"learned_net is 'a\\nb', expected the path of a caffemodel"),
        (SolverState(0, "a" * 4097), "learned_net is 'a+...', expected the path"),
    ],
)
def test_a_state_that_could_not_be_read_again_is_not_written(tmp_path, state, problem):
    refused(lambda: write_solverstate(state, tmp_path / "a"), problem, ArgumentError)
    assert not list(tmp_path.iterdir())


def test_writing_is_atomic(tmp_path):
    path = tmp_path / "a.solverstate"
    write_solverstate(SolverState(1, "net", [np.zeros(3, np.float32)]), path)
    before = path.read_bytes()
    broken = SolverState(2, "net", [np.zeros(3, np.float32), "no array"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="could not convert"):
        write_solverstate(broken, path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    refused(
        lambda: write_solverstate(SolverState(1, "net"), tmp_path / "no/a"),
        "there is no folder",
        FileError,
    )


# --- what is refused

HEAD = ITER + NET
BROKEN = "broken or something else"
CAFFEMODEL = "this is a caffemodel, expected a solverstate: give the .solverstate that lies beside"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        # other kinds of files
        (b'train_net: "a"\nbase_lr: 1\n', "a text file, expected a solverstate .binary."),
        (b"<html>404</html>", "a web page, expected a solverstate: download it again"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file, expected a solverstate"),
        (field(1, "net") + v1_layer(LEGACY + DATA), CAFFEMODEL),
        (field(1, "net") + current_layer(LEGACY + DATA), CAFFEMODEL),
        (current_layer(LEGACY + DATA), CAFFEMODEL),
        (v1_layer(LEGACY + DATA), "learned_net is not text|no iter in it"),
        (
            v1_layer(legacy(1, 1, 1, 2000) + field(5, bytes(8000))),
            "learned_net is 80.. bytes long, .*is this the caffemodel itself",
        ),
        (LEGACY + DATA, f"{BROKEN}: field 2 at byte 2 is not a solverstate's"),
        (NET, "no iter in it, expected a solverstate"),
        # values
        (field(1, -1, VARINT) + NET, f"{BROKEN}: iter is -1, expected a number from 0"),
        (HEAD + field(4, -5, VARINT), f"{BROKEN}: current_step is -5, expected"),
        (ITER + field(2, "a\x1b[2Jb"), rf"{BROKEN}: learned_net is 'a\\x1b\[2Jb', expected the"),
        (ITER + field(2, b"\xff\xfe"), "learned_net is not text, expected the path"),
        (ITER + field(2, "a" * 4097), "learned_net is 4097 bytes long"),
        (HEAD + field(3, 1, VARINT), "field 3 at byte 36 is not a solverstate's"),
        (HEAD + field(4, 1, FIXED32), "field 4 at byte 36 is not a solverstate's"),
        # the end is missing, lengths are huge
        (HEAD + field(3, LEGACY + DATA)[:-1], "broken: field 3 at byte 36 asks for 34 bytes"),
        (HEAD + b"\x1a", "cut off or broken at byte 37"),
        (HEAD + b"\x1a" + number(2**62), "asks for 4611686018427387904 bytes, but 0 are left"),
        (HEAD + b"\x12" + b"\xff" * 9 + b"\x01", "asks for 18446744073709551615 bytes"),
        (HEAD + b"\x00" * 600, "no field has number 0"),
        # blobs
        (
            HEAD + field(3, LEGACY + DATA) + field(3, LEGACY + field(5, floats(0))),
            "history blob 1 at byte 72: 1 values for shape 1x1x2x3, expected 6",
        ),
        (HEAD + field(3, legacy(*[2**31 - 1] * 4) + DATA), "history blob 0 .*6 values for"),
        (HEAD + field(3, legacy(-1, 1, 1, 1)), "shape -1x1x1x1, expected sizes"),
        (HEAD + field(3, DATA + field(5, b"abc")), "3 bytes of data, expected a multiple"),
        (HEAD + field(3, field(5, 1, FIXED64)), "data of wire type 1, expected floats"),
        (HEAD + field(3, shape(*[1] * 33) + field(5, floats(1))), "more than 32 axes"),
        # files that are made to keep the reader busy
        (HEAD + b"\x1a\x00" * 9000, "broken: more than 5000 fields"),
        (HEAD + field(3, b"\x2a\x00" * 9000), "broken: more than 5000 fields"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_broken_file_is_named_with_its_fault(tmp_path, monkeypatch, data, problem):
    monkeypatch.setattr(wire, "_MOST_FIELDS", 5000)
    message = refused(lambda: read(tmp_path, data), problem)
    assert message.startswith(f"{tmp_path / 'a.solverstate'}: ")


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "empty").touch()
    refused(lambda: read_solverstate(tmp_path / "a\nb"), r"a\\nb: .*no such file", FileError)
    refused(lambda: read_solverstate(tmp_path), "is a folder: expected a file", FileError)
    refused(lambda: read_solverstate(tmp_path / "empty"), "is empty", FileError)


def test_a_file_larger_than_memory(tmp_path):
    path = tmp_path / "a.solverstate"
    with open(path, "wb") as file:
        file.write(ITER + b"\x1a" + number(2**50))
        try:
            file.truncate(2**43)
        except OSError:
            pytest.skip("this file system has no sparse files of 8 TB")
    refused(lambda: read_solverstate(path), "needs 8,796.1 GB of memory", ResourceError)


def test_memory_is_that_of_the_history(tmp_path):
    n = 3_000_000
    path = tmp_path / "a.solverstate"
    state = SolverState(1, "net", [np.ones(n, np.float32)])
    write_solverstate(state, path)
    tracemalloc.start()
    write_solverstate(state, path)
    assert tracemalloc.get_traced_memory()[1] < 4 * n / 10
    read_solverstate(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * 4 * n


# --- accidents


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(min_size=1, max_size=80))
def test_random_bytes(tmp_path, data):
    for inside in (data, HEAD + data, HEAD + field(3, data), ITER + field(2, data)):
        survives(lambda inside=inside: read(tmp_path, inside))


@pytest.mark.parametrize("dims", [LEGACY, shape(2, 3)], ids=["v1", "current"])
def test_mutations(tmp_path, dims):
    data = HEAD + field(3, dims + DATA) * 3
    check_mutations(tmp_path / "a.solverstate", data, read_solverstate)
