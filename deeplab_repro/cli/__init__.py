"""The command line: arguments in, one library call, one printed answer. One command a file."""

import contextlib
import errno
import io
import logging
import os
import signal
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
    tune,
)
from deeplab_repro.cli.completion import complete
from deeplab_repro.cli.console import say
from deeplab_repro.cli.parser import PROGRAM, Parser, flush, parse
from deeplab_repro.errors import DeepLabError, one_line
from deeplab_repro.machine.heap import keep_freed_memory
from deeplab_repro.machine.home import drop_unexpanded
from deeplab_repro.version import __version__

COMMANDS = (
    demo,
    segment,
    crf,
    tune,
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

# As a shell reports a command that was ended by SIGINT, SIGPIPE or SIGTERM.
_INTERRUPTED, _NOBODY_READS, _TERMINATED = 130, 141, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as of a job scheduler: like Ctrl-C, it leaves no file half-written."""


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever file names are in it."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"deeplab-repro: {level}{one_line(record.getMessage())}"


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
    # What files of others were taken as is told; what else is there at this level, is not.
    logging.getLogger("deeplab_repro.files.given_scores").setLevel(logging.INFO)
    try:
        parser = all_arguments()
        complete(parser)
        arguments = parse(parser, sys.argv[1:] if argv is None else argv)
        status = arguments.run(arguments)
        flush()
        return status
    except DeepLabError as error:
        return _failed(str(error))
    except _Terminated:
        say("terminated")
        return _TERMINATED
    except KeyboardInterrupt:
        say("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go, and must not be tried at exit again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    except Exception as error:
        problem = _explained(error)
        if problem is None:
            raise
        return _failed(problem)


def _explained(error: Exception) -> str | None:
    """What is wrong with the machine or the installation; None where an error means a bug."""
    from deeplab_repro.machine.packages import blamed, mend_of, package_of
    from deeplab_repro.machine.shortage import shortage

    if problem := shortage(error):
        return f"this command {problem}"
    if package := blamed(error):
        return f"{package_of(package)} does not import: {one_line(error)}: {mend_of(package)}"
    if isinstance(error, ImportError):
        return f"{one_line(error)}: install it again, and see deeplab-repro doctor"
    if not isinstance(error, OSError):
        return None
    if error.errno is None:
        return one_line(error)
    # Those that name no file: there is no place to work in, or nothing can be printed.
    unnamed = "the current directory" if error.errno == errno.ENOENT else "the standard output"
    return f"{one_line(error.filename or unnamed)}: {error.strerror}"


def command() -> NoReturn:
    """`main` as a process of its own, which ends at once.

    By then everything is written. To take apart what Numba made would take a third of a second.
    """
    # Products of matrices are shared out among threads by ourselves (engines/product.py).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    keep_freed_memory()
    signal.signal(signal.SIGTERM, _terminate)
    status = main()
    for stream in (sys.stdout, sys.stderr):
        if stream:
            with contextlib.suppress(OSError):  # a closed pipe has been reported
                stream.flush()
    os._exit(status)


def _terminate(*_: object) -> NoReturn:
    # A library that is at work is waited for; to send it twice ends the process at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise _Terminated


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
