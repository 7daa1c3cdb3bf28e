"""The command line: arguments in, one library call, one printed answer. One command a file."""

import contextlib
import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from deeplab_repro.cli import (
    bench,
    convert,
    crf,
    crossval,
    demo,
    doctor,
    evaluate,
    fetch,
    init,
    inspect,
    models,
    paper,
    predict,
    segment,
    toyvoc,
    train,
)
from deeplab_repro.cli.completion import complete
from deeplab_repro.cli.console import say
from deeplab_repro.cli.parser import PROGRAM, Parser, flush, parse
from deeplab_repro.errors import DeepLabError, one_line
from deeplab_repro.machine.home import drop_unexpanded
from deeplab_repro.version import __version__

COMMANDS = (
    demo,
    segment,
    crf,
    predict,
    evaluate,
    crossval,
    paper,
    models,
    fetch,
    convert,
    inspect,
    init,
    train,
    toyvoc,
    doctor,
    bench,
)

# As a shell reports a command that was ended by SIGINT or SIGPIPE.
_INTERRUPTED, _NOBODY_READS = 130, 141


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever file names are in it."""
        return f"deeplab-repro: {record.levelname.lower()}: {one_line(record.getMessage())}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0, or 2 after an error that the user can mend."""
    drop_unexpanded()
    # OpenCV would print its own account of what becomes a DeepLabError.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be in no encoding
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    try:
        parser = all_arguments()
        complete(parser)
        arguments = parse(parser, sys.argv[1:] if argv is None else argv)
        status = arguments.run(arguments)
        flush()
        return status
    except DeepLabError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("out of memory: use smaller images or a smaller net")
    except ImportError as error:
        return _failed(f"{error}: install it again, and see deeplab-repro doctor")
    except KeyboardInterrupt:
        say("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go, and must not be tried at exit again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    except OSError as error:
        # Those that name no file: there is no place to work in, or nothing can be printed.
        unnamed = "the current directory" if error.errno == errno.ENOENT else "the standard output"
        return _failed(f"{error.filename or unnamed}: {error.strerror}")


def command() -> NoReturn:
    """`main` as a process of its own, which ends at once.

    By then everything is written. To take apart what Numba made would take a third of a second.
    """
    # Products of matrices are shared out among threads by ourselves (engines/product.py).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status = main()
    for stream in (sys.stdout, sys.stderr):
        if stream:
            with contextlib.suppress(OSError):  # a closed pipe has been reported
                stream.flush()
    os._exit(status)


def all_arguments() -> Parser:
    """What reads the arguments of every command."""
    parser = Parser(prog=PROGRAM, description="Run the released DeepLab models without Caffe.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def _failed(problem: str) -> int:
    say(f"error: {problem}")
    return 2
