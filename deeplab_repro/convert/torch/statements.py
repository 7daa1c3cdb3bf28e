"""Writes the statements of a method: which layers share a line, and what variables are called."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deeplab_repro.convert.torch.code import WIDTH, Call, Expression, identifier, loop
from deeplab_repro.convert.torch.layers import WRAPPING, expression_of, shared_expression
from deeplab_repro.convert.torch.modules import is_of_channels
from deeplab_repro.convert.torch.steps import Item, Run, Step
from deeplab_repro.net.channel_layers import Scale
from deeplab_repro.net.shape_layers import Slice

_NAMES = """
    Any BN BatchNorm F I MEAN_BGR O Path Scale Tensor ValueError WEIGHTS crop dict float interp int
    isinstance key l len list load_file max n name nn os range safe_open self str suffix super torch
    tuple x y
"""
TAKEN = frozenset(_NAMES.split())
"""Names that no variable may have."""

INDENT = 8
"""Of the statements of a method."""


@dataclass
class _Line:
    """What becomes one statement: items that wrap each other, or a loop of runs of one method."""

    items: list[Item]

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.items[0].inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        return self.items[-1].outputs

    @property
    def is_loop(self) -> bool:
        return len(self.items) > 1 and all(
            isinstance(each, Run) and each.slot for each in self.items
        )


class Body:
    """The statements of a method: from the variables of its entries to what it returns."""

    def __init__(
        self,
        items: Sequence[Item],
        entries: dict[int, str],
        results: Sequence[int],
        names: dict[int, str],
        layers: dict[str, str],
    ) -> None:
        self._names, self._layers = names, layers  # of variables by value; of modules in a template
        self._entries, self._results = entries, list(results)
        self._variables = dict(entries)
        self._items = list(items)
        self._uses: dict[int, list[Item | None]] = {}
        for item in items:
            for value in item.inputs:
                self._uses.setdefault(value, []).append(item)
        for value in results:
            self._uses.setdefault(value, []).append(None)
        self._is_block = any("{key}" in layer for layer in layers.values())
        self._rows: list[_Line] = []
        self._is_short = True

    def lines(self) -> list[str]:
        """The statements, the return too."""
        found: list[str] = []
        for is_short in (True, False):  # the names of variables are short, mostly
            self._variables, self._is_short = dict(self._entries), is_short
            self._rows = list(self._grouped())
            self._name_variables()
            found = self._written()
            if max(map(len, found)) <= WIDTH:
                break
        return found

    def _written(self) -> list[str]:
        returns = " " * INDENT + "return "
        if not self._rows:
            return [returns + ", ".join(map(self._operand, self._results))]
        found: list[str] = []
        for row in self._rows[:-1]:
            found += self._statement(row)
        last = self._rows[-1]
        if list(last.outputs) == self._results and not last.is_loop:
            return [*found, *self._expression(last.items).lines(returns)]
        results = [self._variables[value] for value in self._results]
        shown = [returns + ", ".join(results)]
        if len(shown[0]) > WIDTH:
            blank = " " * INDENT
            shown = [f"{returns}(", *(f"{blank}    {each}," for each in results), f"{blank})"]
        return [*found, *self._statement(last), *shown]

    # --- which items make a statement

    def _grouped(self) -> Iterator[_Line]:
        line: list[Item] = []
        for item in self._items:
            if line and not self._goes_on(line, item):
                yield _Line(line)
                line = []
            line.append(item)
        if line:
            yield _Line(line)

    def _goes_on(self, line: list[Item], item: Item) -> bool:
        last = line[-1]
        if item.inputs != last.outputs or self._uses[last.outputs[0]] != [item]:
            return False
        if isinstance(item, Run) and item.slot:
            return isinstance(last, Run) and item.method is last.method
        if _Line(line).is_loop or (isinstance(item, Step) and not _wraps(item)):
            return False
        target = "x" if self._is_short else self._names[item.outputs[0]]
        is_returned = list(item.outputs) == self._results
        before = len("return " if is_returned else f"{target} = ")
        return INDENT + before + len(str(self._expression([*line, item]))) <= WIDTH

    # --- what the variables are called

    def _name_variables(self) -> None:
        """A value that only the next statement takes is x, or y where x still holds another."""
        last_use = {}
        for number, row in enumerate(self._rows):
            last_use.update(dict.fromkeys(row.inputs, number))
        last_use.update(dict.fromkeys(self._results, len(self._rows)))
        held = {name: value for value, name in self._variables.items()}
        for number, row in enumerate(self._rows):
            for value in row.outputs:
                name = self._names[value]
                uses = self._uses.get(value, [])
                following = (
                    self._rows[number + 1].items[0] if number + 1 < len(self._rows) else None
                )
                free = [
                    each
                    for each in ("x", "y")
                    if each not in held or last_use.get(held[each], -1) <= number
                ]
                if len(row.outputs) == 1 and uses and all(each is following for each in uses):
                    name = next(iter(free), name)
                elif self._is_block and "y" in free:
                    name = "y"  # the block's names say little of it
                # A layer in place may change a blob that another's value still is, by a Split.
                if name in held and last_use.get(held[name], -1) > number:
                    name = identifier(name, TAKEN | {*held, *self._names.values()}, "blob")
                self._variables[value] = name
                held[name] = value

    # --- statements

    def _statement(self, row: _Line) -> list[str]:
        blank = " " * INDENT
        made = [self._variables[value] for value in row.outputs]
        target = made[0] if len(made) == 1 else ", ".join(made)
        if not row.is_loop:
            first = row.items[0]
            if len(made) == 1 and isinstance(first, Step) and isinstance(first.layer.op, Slice):
                target = f"({target},)"
            return self._expression(row.items).lines(f"{blank}{target} = ")
        runs = [item for item in row.items if isinstance(item, Run)]
        found: list[str] = []
        if self._variables[row.inputs[0]] != target:  # the loop is on one variable
            found = self._expression(row.items[:1]).lines(f"{blank}{target} = ")
            runs = runs[1:]
        call = Call(f"self.{runs[0].method.name}", ("{}", *self._given(runs[0], target)))
        return found + loop([run.slot for run in runs], f"{target} = {call}", INDENT)

    def _given(self, item: Run, taken: str) -> tuple[str, ...]:
        """The arguments of a call but for the slot: those of a block in a trunk are the trunk's."""
        if not item.method.suffixes:
            return (taken,)
        return (taken, "suffix" if item.slot else f'"{item.suffix}"')

    def _expression(self, items: Sequence[Item]) -> Expression:
        """Items of which each takes what the one before makes."""
        made: Expression | None = None
        for step in items:
            operands = [str(made)] if made else [self._operand(value) for value in step.inputs]
            if isinstance(step, Run):
                slot = (f'"{step.slot}"',) if step.slot else ()
                made = Call(f"self.{step.method.name}", (*slot, *self._given(step, operands[0])))
                continue
            module = self._module(step)
            rule = expression_of if step.is_as_owner else shared_expression
            found = rule(step.place(module), operands)
            if step.name in self._layers and isinstance(found, Call) and found.function == module:
                name = f'f"{self._layers[step.name]}"'
                before: tuple[str | Call, ...] = (operands[0],)
                if isinstance(made, Call) and made.function == "self._run":
                    before = made.arguments
                found = Call("self._run", (*before, name))
            made = found
        assert made
        return made

    def _operand(self, value: int) -> str:
        return self._variables.get(value) or ("x" if self._is_short else self._names[value])

    def _module(self, step: Step) -> str:
        if step.name in self._layers:
            return f'self.get_submodule(f"{self._layers[step.name]}")'
        return f"self.{step.name}"


def _wraps(step: Step) -> bool:
    """Whether it is a call of its one bottom, which may itself be written there."""
    op = step.layer.op
    if isinstance(op, Scale):
        return is_of_channels(step.place(), op)
    return step.layer.type in WRAPPING
