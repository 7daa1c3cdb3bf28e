"""Python code as a person lays it out: as `ruff format` does, in lines of 100 characters."""

import keyword
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH = 100

# So that a line holds what is set equal to a call.
_LONGEST_NAME = 32


@dataclass(frozen=True)
class Call:
    """A function's name and its arguments, as code."""

    function: str
    arguments: tuple["str | Call", ...]

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"

    def lines(self, before: str, after: str = "") -> list[str]:
        """It between two texts on one line; else its arguments on the next, or a line for each."""
        arguments = ", ".join(map(str, self.arguments))
        inner = " " * (_indent(before) + 4)
        end = " " * _indent(before) + ")" + after
        if len(whole := f"{before}{self}{after}") <= WIDTH:
            return [whole]
        if len(inner + arguments) <= WIDTH:
            return [f"{before}{self.function}(", inner + arguments, end]
        lines = [f"{before}{self.function}("]
        for each in self.arguments:
            lines += each.lines(inner, ",") if isinstance(each, Call) else [f"{inner}{each},"]
        return [*lines, end]


@dataclass(frozen=True)
class Chain:
    """Terms of a sum or a product; all but the first begin with an operator and a blank."""

    terms: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.terms)

    def lines(self, before: str, after: str = "") -> list[str]:
        """It between two texts on one line, or else each term on its own."""
        if len(whole := f"{before}{self}{after}") <= WIDTH:
            return [whole]
        inner, end = " " * (_indent(before) + 4), " " * _indent(before) + ")" + after
        return [f"{before}(", *(inner + term for term in self.terms), end]


Expression = Call | Chain


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def number(value: float) -> str:
    """A number as code; of one that is a float32 no more digits than that has."""
    if isinstance(value, bool | int):
        return str(value)
    if not np.isfinite(value):
        return f'float("{value}")'
    short = float(str(np.float32(value)))
    return repr(short if float(np.float32(short)) == value else float(value))


def tuple_of(items: Iterable[str]) -> str:
    """A tuple as code."""
    found = list(items)
    return f"({found[0]},)" if len(found) == 1 else f"({', '.join(found)})"


def plain(text: str) -> str:
    """A text from outside as it may stand in a comment or a docstring: one line of ASCII."""
    return re.sub(r'["\\]', "'", ascii(text)[1:-1])[: WIDTH // 2]


def identifier(name: str, taken: Collection[str], otherwise: str) -> str:
    """A name that Python takes and that is not taken, as near to `name` as can be."""
    made = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:_LONGEST_NAME]
    if not made or made[0].isdigit():
        made = f"{otherwise}_{made}".rstrip("_")
    first, count = made, 2
    while made in taken or keyword.iskeyword(made):
        made = f"{first}_{count}"
        count += 1
    return made


def class_name(name: str, taken: Collection[str]) -> str:
    """A class's name made of a net's: DeepLab-LargeFOV becomes DeepLabLargeFOV."""
    words = re.findall(r"[A-Za-z0-9]+", name)
    made = "".join(word[0].upper() + word[1:] for word in words)[:_LONGEST_NAME]
    if not made or made[0].isdigit():
        made = f"Net{made}"
    return f"{made}Net" if made in taken or keyword.iskeyword(made) else made


def loop(names: Sequence[str], call: str, indent: int) -> list[str]:
    """Lines that run a call for each name; where {} stands in it, the name comes.

    Names that end in numbers that follow each other become a range.
    """
    blank = " " * indent
    if len(names) == 1:
        return [blank + call.format(f'"{names[0]}"')]
    numbered = [re.fullmatch(r"(.*?)(0|[1-9]\d{0,8})", name) for name in names]
    found = [(each[1], int(each[2])) for each in numbered if each]
    prefix, first = found[0] if found else ("", 0)
    if len(names) > 3 and found == [(prefix, first + index) for index in range(len(names))]:
        text = f'f"{prefix}{{n}}"' if prefix else "str(n)"
        head = f"{blank}for n in range({first}, {first + len(names)}):"
        return [head, f"{blank}    {call.format(text)}"]
    listed = Call("", tuple(f'"{name}"' for name in names)).lines(f"{blank}for key in ", ":")
    return [*listed, f"{blank}    {call.format('key')}"]
