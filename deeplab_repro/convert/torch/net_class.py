"""Writes the class of a net: its modules, and the methods that run them."""

import itertools
from collections.abc import Sequence

from deeplab_repro.convert.torch.code import Call, identifier, loop, tuple_of
from deeplab_repro.convert.torch.modules import VARYING, text_of
from deeplab_repro.convert.torch.parts import RUN
from deeplab_repro.convert.torch.statements import INDENT, TAKEN, Body
from deeplab_repro.convert.torch.steps import Item, Method, Program, Run, Step
from deeplab_repro.net.layers import Eltwise, ReLU


def class_lines(
    name: str,
    doc: str,
    program: Program,
    items: Sequence[Item],
    trunk: Method | None,
    blocks: Sequence[Method],
    head: Sequence[str],
) -> list[str]:
    """The class of a net, as lines. head: comments before its modules."""
    _name_methods(blocks)
    data = identifier(program.blobs[0], TAKEN, "data")
    names = _variable_names(program, data)
    lines = [f"class {name}(nn.Module):", f'    """{doc}"""', ""]
    lines += ["    def __init__(self) -> None:", "        super().__init__()"]
    lines += [" " * INDENT + f"# {line}" for line in head]
    lines += _init(items)
    for method in blocks:
        lines += ["", *_add_method(method)]
    made = "Tensor" if len(program.results) == 1 else "tuple[Tensor, ...]"
    lines += ["", f"    def forward(self, {data}: Tensor) -> {made}:"]
    lines += Body(items, {0: data}, program.results, names, {}).lines()
    for method in [trunk, *blocks] if trunk else blocks:
        slot = next(iter(method.runs), "")
        key = "key: str, " if slot else ""
        suffix = ", suffix: str" if method.suffixes else ""
        lines += ["", f"    def {method.name}(self, {key}x: Tensor{suffix}) -> Tensor:"]
        if method is trunk:
            lines += [
                f'        """The layers that run {trunk.times} times, with the same weights."""'
            ]
        names = _variable_names(program, data, slot)
        body = Body(method.steps, {method.entry: "x"}, [method.exit], names, method.layers)
        lines += body.lines()
    if any("self._run(" in line for line in lines):
        lines += ["", *RUN.splitlines()]
    return lines


def _variable_names(program: Program, data: str, slot: str = "") -> dict[int, str]:
    """A variable's name for each value, made of its blob's without the slot.

    Layers that work in place give a blob several values, of which one at a time is wanted.
    """
    names = {program.blobs[0]: data}
    taken = {*TAKEN, data}
    for blob in program.blobs:
        if blob not in names:
            names[blob] = identifier(blob.replace(slot, "") if slot else blob, taken, "blob")
            taken.add(names[blob])
    return {value: names[blob] for value, blob in enumerate(program.blobs)}


def _name_methods(blocks: Sequence[Method]) -> None:
    used: dict[str, int] = {}
    for method in blocks:
        name = _kind(method)
        used[name] = used.get(name, 0) + 1
        method.name = f"_{name}" + (f"_{used[name]}" if used[name] > 1 else "")


def _kind(method: Method) -> str:
    """What people call such a block."""
    steps = [step for step in method.steps if isinstance(step, Step)]
    last = steps[-2] if isinstance(steps[-1].layer.op, ReLU) else steps[-1]
    if not isinstance(last.layer.op, Eltwise):
        return "branch"
    return "residual" if method.entry in last.inputs else "projection"


def _init(items: Sequence[Item]) -> list[str]:
    """The statements that make the modules."""
    blank = " " * INDENT
    lines: list[str] = []
    made: set[Method] = set()
    for method, group in itertools.groupby(
        items, lambda item: item.method if isinstance(item, Run) else None
    ):
        if method is None:
            for step in group:
                if isinstance(step, Step) and step.module and step.owner is step:
                    lines += step.module.call().lines(f"{blank}self.{step.name} = ")
            continue
        if not method.runs:  # the trunk
            if method not in made:
                lines += [*_init(method.steps), *_norms_of_copies(method.suffixes[1:])]
            made.add(method)
            continue
        *_, values = _parameters(method)
        slots = (item.slot for item in group if isinstance(item, Run))
        for given, same in itertools.groupby(slots, values.__getitem__):
            call = Call(f"self._add{method.name}", ("{}", *given))
            lines += loop(list(same), str(call), INDENT)
    return lines


def _norms_of_copies(suffixes: Sequence[str]) -> list[str]:
    """The statements that make the BatchNorms of those times that have their own."""
    if not suffixes:
        return []
    listed = (f'"{suffix}"' for suffix in suffixes)
    is_norm = "isinstance(norm, BatchNorm)"
    code = f"""\
        norms = {{name: norm for name, norm in self.named_children() if {is_norm}}}
        for suffix in {tuple_of(listed)}:  # with statistics of their own
            for name, norm in norms.items():
                self.add_module(name + suffix, BatchNorm(len(norm.running_mean), norm.eps))"""
    return code.splitlines()


def _add_method(method: Method) -> list[str]:
    """The method that makes the modules of one block."""
    texts, names, _ = _parameters(method)
    arguments = ("self", "key: str", *(f"{each}: int" for each in names))
    lines = Call(f"_add{method.name}", arguments).lines("    def ", " -> None:")
    lines += [f'        """Make the layers that {method.name} runs for a key."""']
    modules = [step for step in method.steps if isinstance(step, Step) and step.module]
    for step, row in zip(modules, texts, strict=True):
        assert step.module
        layer = f'f"{method.layers[step.name].replace("{suffix}", "")}"'
        call = Call("self.add_module", (layer, str(step.module.call(row))))
        lines += call.lines(" " * INDENT)
    return lines


def _parameters(method: Method) -> tuple[list[list[str]], list[str], dict[str, tuple[str, ...]]]:
    """The arguments of a block's modules as code, the parameters among them, and these by slot."""
    runs = [[step.module for step in steps if step.module] for steps in method.runs.values()]
    # By module and argument: what it is in each of the blocks.
    columns = [
        [
            (first.name, tuple(text_of(module.arguments[at].value) for module in modules))
            for at, first in enumerate(modules[0].arguments)
        ]
        for modules in zip(*runs, strict=True)
    ]
    ends = [(steps[0].bottoms[0], steps[-1].tops[0]) for steps in method.runs.values()]
    channels, out = (tuple(str(shape[1]) for shape in each) for each in zip(*ends, strict=True))
    called = {out: "out", channels: "channels"}
    names: dict[tuple[str, ...], str] = {}
    for kind in VARYING:
        for argument, texts in itertools.chain(*columns):
            if argument == kind and len(set(texts)) > 1 and texts not in names:
                first = called.get(texts, "inner") if kind in ("channels", "out") else kind
                names[texts] = identifier(first, names.values(), first)
    shown = [[names.get(texts, texts[0]) for _, texts in column] for column in columns]
    given = {slot: tuple(texts[at] for texts in names) for at, slot in enumerate(method.runs)}
    return shown, list(names.values()), given
