"""A net as steps of a program: which values each takes and makes, and whose module it calls."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from deeplab_repro.arrays import Shape
from deeplab_repro.convert.torch.modules import Module, Place, module_of
from deeplab_repro.errors import NetError
from deeplab_repro.net.channel_layers import Power
from deeplab_repro.net.layers import Eltwise, Split
from deeplab_repro.net.net import Layer, Net


@dataclass(eq=False)
class Step:
    """A layer that runs. Values are numbers; the net's input is 0.

    module: what holds its weights or settings, if any. owner: the step whose module that is, itself
    but for shared weights.
    """

    layer: Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bottoms: Sequence[Shape]
    tops: Sequence[Shape]
    module: Module | None = None
    owner: "Step | None" = None

    @property
    def name(self) -> str:
        """The name of the module that it calls, "" for none."""
        return self.owner.layer.name if self.owner else ""

    @property
    def is_as_owner(self) -> bool:
        """Whether its settings are those of the module that it calls."""
        return self.owner is None or self.owner.module == self.module

    @property
    def does(self) -> Hashable:
        """What it does of its inputs, the same for steps that do the same."""
        if self.layer.blobs:
            return self.name, self.module
        return self.layer.op, len(self.outputs)

    def place(self, module: str = "") -> Place:
        """The layer as its rules want it; `module`: as the code calls that."""
        return Place(self.layer, self.bottoms, self.tops, module)


@dataclass(eq=False)
class Method:
    """Steps that run more than once, and so become a method, from one value to another.

    runs: the slots and the steps of each block that it makes, where it makes the blocks of a
    template; else its layers run more than once. layers: the names of the modules in the steps that
    are not the same in all runs, with {key} for the slot, and {suffix}. suffixes: what the names of
    the BatchNorms end in, where each time has its own.
    """

    steps: list["Item"]
    entry: int
    exit: int
    runs: dict[str, list[Step]] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    suffixes: tuple[str, ...] = ()
    times: int = 0
    name: str = ""


@dataclass(eq=False)
class Run:
    """A call of a method: of a template's for the block of one slot, or with a suffix."""

    method: Method
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    slot: str = ""
    suffix: str = ""


Item = Step | Run


@dataclass
class Program:
    """A net's steps, the blobs' names by value, and the values that it returns."""

    steps: list[Step]
    blobs: list[str]
    results: list[int]


def program_of(net: Net) -> Program:
    """A net as steps. Raises NetError where layers share weights as no module can."""
    blobs, steps = [net.input], []
    current = {net.input: 0}
    owners: dict[int, Step] = {}
    for layer, bottoms, tops in net.walk():
        if missing := set(layer.bottoms) - current.keys():
            raise NetError(
                f"layer '{layer.name}' ({layer.type}) takes '{min(missing)}', which a train net "
                "has beside the image: convert its test net"
            )
        inputs = tuple(current[bottom] for bottom in layer.bottoms)
        if _passes_on(layer):
            current.update(dict.fromkeys(layer.tops, inputs[0]))
            continue
        outputs = tuple(range(len(blobs), len(blobs) + len(layer.tops)))
        blobs += layer.tops
        current.update(zip(layer.tops, outputs, strict=True))
        step = Step(layer, inputs, outputs, bottoms, tops)
        step.module = module_of(step.place())
        if step.module:
            step.owner = _owner(step, owners)
        steps.append(step)
    return Program(steps, blobs, [current[name] for name in net.outputs])


def _passes_on(layer: Layer) -> bool:
    """Whether its tops are its bottom, so that it becomes no code."""
    op = layer.op
    is_lone = isinstance(op, Eltwise) and len(layer.bottoms) == 1 and op.coeff in ((), (1.0,))
    return is_lone or op == Power() or isinstance(op, Split)


def _owner(step: Step, owners: dict[int, Step]) -> Step:
    """The step whose weights these are: the first that has them."""
    blobs = [id(blob) for blob in step.layer.blobs]
    first = {id(owner): owner for blob in blobs if (owner := owners.get(blob))}
    if not first:
        owners.update(dict.fromkeys(blobs, step))
        return step
    (owner, *others) = first.values()
    if others or [id(blob) for blob in owner.layer.blobs] != blobs:
        raise step.place().refuse("only a part of another layer's weights")
    return owner
