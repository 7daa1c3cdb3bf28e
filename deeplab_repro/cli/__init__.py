"""The command line: arguments in, one library call, one printed answer. One command a file."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from deeplab_repro.cli import doctor, inspect, segment
from deeplab_repro.errors import DeepLabError

COMMANDS = (segment, inspect, doctor)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other error."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0, or 2 after an error that the user can mend."""
    parser = _Parser(
        prog="deeplab-repro",
        description="Run the released DeepLab v1 models (ICLR 2015) without Caffe.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="deeplab-repro: %(levelname)s: %(message)s", level=logging.WARNING)
    logging.addLevelName(logging.WARNING, "warning")
    try:
        return arguments.run(arguments)
    except DeepLabError as error:
        print(f"deeplab-repro: error: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print(
            "deeplab-repro: error: out of memory: use smaller images or a smaller net",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("deeplab-repro: interrupted", file=sys.stderr)
        return 130


def _version() -> str:
    from importlib.metadata import version

    return f"deeplab-repro {version('deeplab-repro')}"
