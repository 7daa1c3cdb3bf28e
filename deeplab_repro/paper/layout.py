"""Lays tables out as plain texts, the same for Markdown, HTML and the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from deeplab_repro.paper.tables import Cell, Column, Table

_Heading = list[tuple[str, str]]


@dataclass(frozen=True)
class TextTable:
    """A table as texts: a heading, lines of as many cells, and notes to put below.

    heading: for every column what it shows and whose it is, as ("val", "ours"); either may be "".
    notes: first those that marks in the cells, as [1], refer to.
    """

    heading: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


class _Notes:
    """Numbered notes; equal texts share a number."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self._texts:
            self._texts.append(text)
        return f"[{self._texts.index(text) + 1}]"

    def all(self) -> list[str]:
        return [f"[{number}] {text}" for number, text in enumerate(self._texts, start=1)]


def lay_out(table: Table) -> TextTable:
    """Put our numbers beside the paper's, or in a wide table on lines below."""
    marks = _Notes()
    heading, lines = (_below if table.is_wide else _beside)(table, marks)
    return TextTable(tuple(heading), tuple(map(tuple, lines)), (*marks.all(), *table.remarks))


def _beside(table: Table, marks: _Notes) -> tuple[_Heading, list[list[str]]]:
    heading = [(table.heading, "")]
    lines = [[name] for name, _ in table.rows]
    for index, column in enumerate(table.columns):
        cells = [cells[index] for _, cells in table.rows]
        heading.append((column.name, "paper"))
        _add(lines, [_text(cell.theirs, column) for cell in cells])
        if any(_has_ours(cell) for cell in cells):
            heading.append((column.name, "ours"))
            _add(lines, [_ours(cell, column, marks) for cell in cells])
        if column.is_score and any(cell.difference is not None for cell in cells):
            heading.append((column.name, "diff."))
            _add(lines, [_difference(cell, column) for cell in cells])
    return heading, lines


def _below(table: Table, marks: _Notes) -> tuple[_Heading, list[list[str]]]:
    lines = []
    for name, cells in table.rows:
        both = list(zip(cells, table.columns, strict=True))
        lines.append([name, "paper", *(_text(cell.theirs, column) for cell, column in both)])
        if any(cell.difference is not None for cell in cells):
            lines.append(["", "ours", *(_ours(cell, column, marks) for cell, column in both)])
            lines.append(["", "diff.", *(_difference(cell, column) for cell, column in both)])
        elif any(map(_has_ours, cells)):
            # The reason is the same for the whole line.
            reason = _ours(cells[0], table.columns[0], marks)
            lines.append(["", f"ours: {reason}", *[""] * len(cells)])
    names = (table.heading, "", *(column.name for column in table.columns))
    return [(name, "") for name in names], lines


def _add(lines: list[list[str]], texts: Sequence[str]) -> None:
    for line, text in zip(lines, texts, strict=True):
        line.append(text)


def _has_ours(cell: Cell) -> bool:
    return cell.ours is not None or cell.why_not is not None


def _ours(cell: Cell, column: Column, marks: _Notes) -> str:
    if cell.ours is None:
        if cell.why_not is None:
            return ""
        return f"{cell.why_not.partition(':')[0]} {marks.mark(cell.why_not)}"
    text = _text(cell.ours, column)
    return f"{text} {marks.mark(cell.remark)}" if cell.remark else text


def _difference(cell: Cell, column: Column) -> str:
    if cell.difference is None:
        return ""
    text = f"{cell.difference:+.{column.digits}f}"
    return text[1:] if float(text) == 0 else text  # neither +0.0 nor -0.0


def _text(value: float | str | None, column: Column) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.{column.digits}f}"
