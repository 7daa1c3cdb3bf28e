"""Reads and writes solverstates, the binary files from which Caffe's solver resumes."""

import re
from collections.abc import Iterator
from pathlib import Path

from deeplab_repro.caffe import deeplab_pb2, wire
from deeplab_repro.caffe.blobs import blob_pieces, read_blob
from deeplab_repro.caffe.names import shown
from deeplab_repro.caffe.wire import Field, Reader, read_binary
from deeplab_repro.errors import ArgumentError, FormatError, one_line
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.solver import SolverState

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4
# Ours. Caffe skips the fields that it does not know.
_DIGESTS = {1000: "learned_sha256", 1001: "training_sha256"}
_KINDS = {
    _ITER: wire.VARINT,
    _LEARNED_NET: wire.BYTES,
    _HISTORY: wire.BYTES,
    _CURRENT_STEP: wire.VARINT,
    **dict.fromkeys(_DIGESTS, wire.BYTES),
}
_LAYER = 100  # of a caffemodel in the current format
_LONGEST_PATH = 4096  # bytes
_MOST_ARRAYS = 10_000  # of the history; the longest known nets have three thousand
_LARGEST = 2**31 - 1  # of an int32
_MEND = "give the .solverstate that lies beside the caffemodel"


def read_solverstate(path: str | Path) -> SolverState:
    """Read a solverstate, ours or one of Caffe's of any age.

    An array of the history has the shape that the file gives it: the four legacy dims, ones in
    front, or BlobShape's. Raises FileError, FormatError where the file is cut off, broken or
    something else, and ResourceError where it is larger than the free memory.
    """
    return read_binary(path, "a solverstate", _read_state)


def write_solverstate(state: SolverState, path: str | Path) -> None:
    """Write a state in Caffe's format of 2014 (legacy dims), which every Caffe since reads.

    The digests are fields of our own, which Caffe skips.

    Raises FileError, and ArgumentError where the state could not be read again.
    """
    problem = _problem(state)
    if problem:
        raise ArgumentError(f"{one_line(path)}: {problem}")
    with write_atomically(path) as file:
        file.writelines(_chunks(state))


def _chunks(state: SolverState) -> Iterator[bytes | memoryview]:
    schema = deeplab_pb2.SolverState
    yield schema(iter=state.iteration, learned_net=state.learned_net).SerializeToString()
    for array in state.history:
        yield from blob_pieces(_HISTORY, array, current=False)
    yield schema(current_step=state.current_step).SerializeToString()
    for number, name in _DIGESTS.items():
        if digest := getattr(state, name):
            yield wire.prefix(number, len(digest)) + digest.encode()


def _problem(state: SolverState) -> str | None:
    """What is wrong with the state; None where nothing is."""
    for name, value in (("iter", state.iteration), ("current_step", state.current_step)):
        if not 0 <= value <= _LARGEST:
            return f"{name} is {value}, expected a number from 0 to {_LARGEST}"
    learned = state.learned_net
    if not learned.isprintable() or len(learned.encode(errors="replace")) > _LONGEST_PATH:
        return f"learned_net is {shown(learned)}, expected the path of a caffemodel"
    for name in _DIGESTS.values():
        if not re.fullmatch("([0-9a-f]{64})?", getattr(state, name)):
            return f"{name} is {shown(getattr(state, name))}, expected a SHA-256 in hex"
    return None


def _read_state(reader: Reader, size: int) -> SolverState:
    iteration = None
    state = SolverState(0, "")
    for field in reader.fields(0, size):
        _check_kind(field)
        if field.number == _ITER:
            iteration = wire.signed(field.value, 32)
        elif field.number == _LEARNED_NET:
            state.learned_net = _read_path(reader, field)
        elif field.number == _HISTORY:
            if len(state.history) == _MOST_ARRAYS:
                raise FormatError(f"broken: more than {_MOST_ARRAYS} arrays, too many for a net")
            try:
                state.history.append(read_blob(reader, field))
            except FormatError as error:
                where = f"history blob {len(state.history)} at byte {field.start}"
                raise FormatError(f"{where}: {error}") from None
        elif field.number == _CURRENT_STEP:
            state.current_step = wire.signed(field.value, 32)
        elif field.number in _DIGESTS:
            end = min(field.end, field.begin + _LONGEST_PATH)
            digest = reader.between(field.begin, end).decode("latin-1")
            setattr(state, _DIGESTS[field.number], digest)
    if iteration is None:
        raise FormatError(f"no iter in it, expected a solverstate: {_MEND}")
    state.iteration = iteration
    problem = _problem(state)
    if problem:
        raise FormatError(f"broken or something else: {problem}; {_MEND}")
    return state


def _check_kind(field: Field) -> None:
    if (field.number, field.kind) in ((_ITER, wire.BYTES), (_LAYER, wire.BYTES)):
        raise FormatError(f"this is a caffemodel, expected a solverstate: {_MEND}")
    if field.kind != _KINDS.get(field.number, field.kind):
        raise FormatError(
            f"broken or something else: field {field.number} at byte {field.start} is not a "
            f"solverstate's; {_MEND}"
        )


def _read_path(reader: Reader, field: Field) -> str:
    length = field.end - field.begin
    if length > _LONGEST_PATH:
        raise FormatError(
            f"learned_net is {length} bytes long, expected the path of a caffemodel; is this the "
            f"caffemodel itself? {_MEND}"
        )
    try:
        return reader.between(field.begin, field.end).decode()
    except UnicodeDecodeError:
        raise FormatError(
            f"learned_net is not text, expected the path of a caffemodel; {_MEND}"
        ) from None
