"""What tools/fuzz/readers.py does with every input, and what it calls a finding.

An input is the contents of a file. It goes through the readers of its kind, and their results go
through the functions that users call next. Whatever the bytes are, each call must end within a
second of CPU time in a result or in a DeepLabError of one printable line. It must not take more
memory than four times the file's bytes and what `allowed` adds for Python's own objects.
"""

import contextlib
import io
import json
import logging
import time
import tracemalloc
import zlib
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from deeplab_repro.caffe import (
    load_weights,
    prototxt_text,
    read_caffemodel,
    read_net,
    read_solver,
    read_solverstate,
    read_train_net,
    read_weights,
    write_solverstate,
)
from deeplab_repro.cli import descriptions, inspect
from deeplab_repro.convert.safetensors import read_safetensors
from deeplab_repro.errors import DeepLabError
from deeplab_repro.net.net import Net

SECONDS = 1.0
_LONGEST_MESSAGE = 2000

# The layers of every caffemodel among the seeds.
SMALL_NET = """
name: "small" input: "data" input_dim: [1, 3, 9, 9]
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  convolution_param { num_output: 2 kernel_size: 3 pad: 2 hole: 2 } }
layers { name: "fc" type: CONVOLUTION bottom: "conv1" top: "fc" strict_dim: false
  convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
"""


def allowed(size: int) -> int:
    """Bytes of memory that a call may take for a file of `size` bytes.

    Layers are Python objects; the words of a large prototxt make more of them.
    """
    return 4 * size + (2 << 20 if size <= 1 << 16 else 16 << 20)


class Finding(Exception):  # noqa: N818
    """What must not happen; `key` is the same for inputs that end in the same way."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


def check(kind: str, data: bytes, folder: Path, thorough: bool | None = None) -> str:
    """Give the bytes to the readers of a kind of file; Finding where they fail.

    The bytes are written to a file in the folder. `thorough` also measures the memory and prints
    tables, which is slow; None takes the choice from the bytes, one in 16. Returns "read", or the
    reader's error.
    """
    if not data:
        return "empty"
    path = folder / f"fuzzed.{kind}"
    path.write_bytes(data)
    if thorough is None:
        thorough = zlib.crc32(data) % 16 == 0
    with _Watch(len(data), thorough) as watch:
        return TARGETS[kind](path, watch)


class _Watch(logging.Handler):
    """Calls a function and checks its result, its error, its time and its memory."""

    def __init__(self, size: int, thorough: bool) -> None:
        super().__init__()
        self.size, self.thorough = size, thorough
        self.error = ""  # of the last call

    def __enter__(self) -> "_Watch":
        logging.getLogger("deeplab_repro").addHandler(self)
        logging.getLogger("deeplab_repro").propagate = False
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger("deeplab_repro").removeHandler(self)
        logging.getLogger("deeplab_repro").propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        self._check_text("a warning", record.getMessage())

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The function's result, None where it raises a DeepLabError; Finding for all else."""
        name = getattr(function, "__name__", str(function))
        self.error = ""
        if self.thorough:
            tracemalloc.start()
        start = time.process_time()
        try:
            return function(*arguments, **options)
        except DeepLabError as error:
            self.error = str(error)
            self._check_text(name, self.error)
        except Finding:
            raise
        except Exception as error:
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}"  # type: ignore[union-attr]
            raise Finding(f"{type(error).__name__} at {place}", f"{name}: {error}") from error
        finally:
            seconds = time.process_time() - start
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if seconds > SECONDS * (5 if self.thorough else 1):
                raise Finding(f"slow {name}", f"{seconds:.1f} s for {self.size} bytes")
            if peak > allowed(self.size):
                raise Finding(f"memory of {name}", f"{peak} bytes for {self.size}")
        return None

    def _check_text(self, name: str, text: str) -> None:
        if not text.isprintable() or len(text) > _LONGEST_MESSAGE:
            raise Finding(f"message of {name}", f"{len(text)} characters: {text[:300]!r}")


def _prototxt(path: Path, watch: _Watch) -> str:
    watch.call(read_solver, path)
    train_net = watch.call(read_train_net, path)
    if train_net is not None:
        watch.call(_read_back, path, train_net, False, read_train_net)
    net = watch.call(read_net, path)
    if net is None:
        return watch.error
    for ask in ("output_stride", "field_of_view", "coarse_output", "parameters", "outputs"):
        watch.call(getattr, net, ask)
    watch.call(net.output_shape)
    watch.call(net.activation_bytes, net.input_shape)
    watch.call(_described, net)
    for current in (False, True):
        watch.call(_read_back, path, net, current, read_net)
    ending = watch.call(net.ending_in_scores)
    if ending is not None and len(ending.layers) > len(net.layers):
        watch.call(_read_back, path, ending, False, read_net)
    if watch.thorough:  # it may try 128 sizes
        watch.call(net.fitting_size, (40, 50))
    _inspected(path, watch)
    return "read"


def _described(net: Net) -> str:
    return json.dumps(descriptions.describe_net(net))


def _read_back(path: Path, net: Net, current: bool, reader: Callable[[Path], Net]) -> None:
    """Check that what is written is read again as the same."""
    text = prototxt_text(net, current)
    path = path.with_suffix(".again")
    path.write_text(text)
    try:
        again = prototxt_text(reader(path), current)
    except DeepLabError as error:
        raise Finding("what was written is refused", str(error)) from error
    if again != text:
        raise Finding("what was written is read otherwise", f"{text[:500]} {again[:500]}")


def _inspected(path: Path, watch: _Watch) -> None:
    if watch.thorough:
        with contextlib.redirect_stdout(io.StringIO()):
            watch.call(inspect.run, Namespace(file=str(path), variables=[], json=False))


@cache
def _small_net(path: Path) -> Net:
    path.write_text(SMALL_NET)
    return read_net(path)


def _caffemodel(path: Path, watch: _Watch) -> str:
    model = watch.call(read_caffemodel, path)
    message = watch.error
    if model is not None:
        net = _small_net(path.with_suffix(".net"))
        watch.call(descriptions.describe_caffemodel, model)
        watch.call(getattr, model, "training_list")
        _inspected(path, watch)
        for partial in (False, True):
            watch.call(load_weights, net, model, partial)
            watch.call(load_weights, net, path, partial)
    return message or "read"


def _solverstate(path: Path, watch: _Watch) -> str:
    state = watch.call(read_solverstate, path)
    if state is None:
        return watch.error
    again = path.with_suffix(".again")
    # Legacy dims, which we write, hold four axes.
    if all(array.ndim <= 4 for array in state.history):
        watch.call(write_solverstate, state, again)
        watch.call(read_solverstate, again)
    return "read"


def _safetensors(path: Path, watch: _Watch) -> str:
    for weights in (True, False):
        net = watch.call(read_safetensors, path, weights)
        message = watch.error
        if net is not None:
            watch.call(_described, net)
            watch.call(prototxt_text, net, True)
    model = watch.call(read_weights, path)
    if model is not None:
        for partial in (False, True):
            watch.call(load_weights, _small_net(path.with_suffix(".net")), model, partial)
    _inspected(path, watch)
    return message or "read"


TARGETS: dict[str, Callable[[Path, _Watch], str]] = {
    "prototxt": _prototxt,
    "caffemodel": _caffemodel,
    "solverstate": _solverstate,
    "safetensors": _safetensors,
}
