"""How arguments are read: help with examples, and one-line errors that know what was meant."""

import argparse
import itertools
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from deeplab_repro.cli.examples import EXAMPLES
from deeplab_repro.errors import did_you_mean, one_line

PROGRAM = "deeplab-repro"

_WIDEST = 80
_FEW = 3


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str, **others: Any) -> None:
        """Lines of up to 80 columns, on a wider terminal too."""
        columns = min(_WIDEST, shutil.get_terminal_size().columns)
        super().__init__(prog, **{"width": columns - 2, **others})


def _broken(example: str) -> str:
    """A command line in lines of up to 80 columns, as a shell reads it; none ends in an option."""
    lines = ["  deeplab-repro"]
    for part in re.split(" (?=--)", example.removeprefix(f"{PROGRAM} ")):
        if len(f"{lines[-1]} {part} \\") > _WIDEST:
            lines.append(f"     {part}")
        else:
            lines[-1] += f" {part}"
    return " \\\n".join(lines)


class Parser(argparse.ArgumentParser):
    """Reads the arguments of one command; `cli.examples` has the end of its help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **settings})

    def format_help(self) -> str:
        """The help, with the command's examples at the end."""
        examples = "\n".join(map(_broken, EXAMPLES.get(self.command, ())))
        return f"{super().format_help()}\nexamples:\n{examples}\n"

    @property
    def command(self) -> str:
        """Its words after the program's name, as "segment" or "bench net"; "" for them all."""
        return self.prog.removeprefix(PROGRAM).strip()

    def error(self, message: str) -> NoReturn:
        """One line, as for every other error."""
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """After --help and --version too."""
        flush()
        super().exit(status, message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is none of an argument's choices, and name the nearest."""
        if action.choices is None or value in action.choices:
            return
        names = [str(name) for name in action.choices]
        # Of few all are told: who writes gpu may not mean cpu.
        near = did_you_mean(str(value), names) if len(names) > _FEW else ""
        expected = near or f", expected one of {', '.join(names)}"
        raise argparse.ArgumentError(action, f"invalid choice: '{value}'{expected}")

    @property
    def arguments(self) -> list[argparse.Action]:
        """Every argument, with options and --help."""
        return self._actions

    @property
    def options(self) -> list[str]:
        """The names of its options."""
        return [name for action in self.arguments for name in action.option_strings]

    @property
    def parts(self) -> dict[str, "Parser"]:
        """The parsers of its commands by their names; none for a command that has no parts."""
        for action in self.arguments:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}


def parse(program: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments as a command takes them.

    Ends the process with one line about a command or an option that there is not, as one with what
    is missing would say less.
    """
    parser, rest = program, list(arguments)
    while rest and rest[0] in parser.parts:
        parser = parser.parts[rest.pop(0)]
    if parser.parts:  # what comes after its options is no command
        rest = list(itertools.takewhile(lambda text: text.startswith("-"), rest))
    _check_options(program, parser, rest)
    found, left = program.parse_known_args(arguments)
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    _check_none_is_empty(parser, arguments)
    return found


def _check_options(program: Parser, parser: Parser, arguments: Sequence[str]) -> None:
    known = parser.options
    for name in _options_in(arguments):
        if name in ("-h", "--help"):
            return
        meant = [option for option in known if option.startswith(name)]
        if name in known or len(meant) == 1:
            continue
        if meant:
            parser.error(f"{name} may be {' or '.join(meant)}: write more of it")
        others = ", ".join(each.command for each in commands_of(program) if name in each.options)
        if others and parser.parts:
            parser.error(f"{name} is an option of {others}: write it after the command")
        if others:
            parser.error(f"{name} is an option of {others}, not of {parser.command}")
        parser.error(f"there is no option {name}{did_you_mean(name, known)}")


def _check_none_is_empty(parser: Parser, arguments: Sequence[str]) -> None:
    """End the process with one line about an empty argument.

    It would be taken for the current folder, or a default.
    """
    for before, each in zip(("", *arguments), arguments, strict=False):
        name, equals, value = each.partition("=")
        if not each or (name.startswith("--") and equals and not value):
            what = name or (before if before.startswith("--") else "an argument")
            parser.error(f"{what} is empty: is it a shell variable without a value?")


def _options_in(arguments: Sequence[str]) -> Iterator[str]:
    """The names of what argparse takes for options, though it may not know them."""
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0]
        if name.startswith("-") and name.lstrip("-")[:1].isalpha() and " " not in name:
            yield name


def commands_of(parser: Parser) -> Iterator[Parser]:
    """The parsers of all commands, those of a command's parts in place of its own."""
    for part in parser.parts.values():
        yield from commands_of(part) if part.parts else [part]


def flush() -> None:
    """Write out what was printed, so that a full disk or a closed pipe shows now."""
    if sys.stdout:  # None where the shell closed it
        sys.stdout.flush()
