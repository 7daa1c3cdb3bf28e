"""Finds what a net repeats, so that its code says it once.

Layers that run on several scales of an image, with the same weights, become one method that is
called for each. Blocks of layers that differ in a part of their names alone, and in numbers of
channels, strides and holes, become one method that makes their layers, and one that runs them.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from deeplab_repro.convert.torch.modules import VARYING
from deeplab_repro.convert.torch.steps import Item, Method, Run, Step
from deeplab_repro.net.channel_layers import BatchNorm

# So many blocks are worth a method, with so many layers that learn, and no longer than this.
_FEWEST, _LEAST_LEARNING, _LONGEST = 4, 3, 24


# --- layers that run several times


@dataclass
class _Copy:
    """Steps that do what others did: by their values, those of the others; and by the others.

    own: the others' BatchNorms for which it has its own, whose names end in the suffix.
    """

    values: dict[int, int]
    steps: dict[Step, Step]
    own: set[Step] = field(default_factory=set)
    suffix: str = ""

    def may_be_own(self, step: Step, original: Step) -> bool:
        """Whether a step has a BatchNorm of this copy's own."""
        begins, suffix = step.name.startswith(original.name), step.name[len(original.name) :]
        return begins and suffix != "" and self.suffix in ("", suffix)


def shared_trunk(steps: Sequence[Step], results: Sequence[int]) -> tuple[list[Item], Method | None]:
    """The steps with all that several scales share replaced by calls of a method, if there is."""
    copies = _copies(steps)
    if not copies:
        return list(steps), None
    first, *others = copies
    body = [step for step in first.steps if all(step in copy.steps for copy in others)]
    made = {value for step in body for value in step.outputs}
    runs = [{value: value for step in body for value in (*step.inputs, *step.outputs)}]
    runs += [copy.values for copy in copies]
    inside = {*body, *(copy.steps[step] for step in body for copy in copies)}
    outside = {value for step in steps if step not in inside for value in step.inputs}
    outside.update(results)
    entries = {value for step in body for value in step.inputs} - made
    exits = {run[value] for run in runs for value in run if value in outside} & made
    if len(body) < _LEAST_LEARNING or len(entries) != 1 or len(exits) != 1:
        return list(steps), None
    (entry,), (exit_,) = entries, exits
    method = Method(list(body), entry, exit_, times=1 + len(copies))
    if any(copy.own for copy in copies):
        norms = {step for step in steps if isinstance(step.layer.op, BatchNorm)} & set(body)
        after = steps[steps.index(body[-1]) :]
        others_before = {step for step in steps if step not in inside and step not in after}
        if any(copy.own != norms for copy in copies) or any(
            isinstance(step.layer.op, BatchNorm) for step in others_before
        ):
            return list(steps), None
        method.suffixes = ("", *(copy.suffix for copy in copies))
        method.layers = {step.name: f"{step.name}{{suffix}}" for step in norms}
    calls = {}
    for run, suffix in zip(runs, method.suffixes or [""] * len(runs), strict=True):
        backward = {ours: value for value, ours in run.items()}
        calls[backward[exit_]] = Run(method, (backward[entry],), (backward[exit_],), suffix=suffix)
    resized = _of_the_image(steps, {call.inputs[0] for call in calls.values()})
    found: list[Item] = []
    for step in steps:
        if call := calls.get(step.outputs[0]):
            found += [*resized.get(call.inputs[0], []), call]
        elif step not in inside and step.outputs[0] not in resized:
            found.append(step)
    return found, method


def _of_the_image(steps: Sequence[Step], entries: set[int]) -> dict[int, list[Step]]:
    """The steps that make these values of the net's input, and may stand where those are taken.

    They may where nobody else takes the value, and the input's blob never holds another.
    """
    uses = [value for step in steps for value in step.inputs]
    written = {blob for step in steps for blob in step.layer.tops}
    return {
        step.outputs[0]: [step]
        for step in steps
        if step.outputs[0] in entries
        and step.inputs == (0,)
        and uses.count(step.outputs[0]) == 1
        and step.layer.bottoms[0] not in written
    }


def _copies(steps: Sequence[Step]) -> list[_Copy]:
    """Each begins with a layer whose weights an earlier one owns, and goes on as that did."""
    originals: dict[Hashable, Step] = {}
    copies: list[_Copy] = []
    for step in steps:
        for copy in copies:
            taken = [copy.values.get(value) for value in step.inputs]
            original = originals.get((*taken, step.does))
            if original and original not in copy.steps:
                break
            original = originals.get((*taken, step.layer.op))
            if original and original not in copy.steps and copy.may_be_own(step, original):
                copy.own.add(original)
                copy.suffix = step.name[len(original.name) :]
                break
        else:
            owner = step.owner
            if not owner or owner is step or not step.is_as_owner:
                originals.setdefault((*step.inputs, step.does), step)
                if isinstance(step.layer.op, BatchNorm):
                    originals.setdefault((*step.inputs, step.layer.op), step)
                continue
            copy, original = _Copy(dict(zip(step.inputs, owner.inputs, strict=True)), {}), owner
            copies.append(copy)
        copy.steps[original] = step
        copy.values.update(zip(step.outputs, original.outputs, strict=True))
    return copies


# --- blocks


@dataclass
class _Block:
    """Steps from `start` on, and the name that each of their modules has but for the slot."""

    start: int
    slot: str
    steps: list[Step]


def with_blocks(
    items: list[Item], results: Sequence[int], trunk: Method | None = None
) -> tuple[list[Item], list[Method]]:
    """The items with all blocks replaced by calls of methods, and these methods.

    trunk: the method whose items they are, if they are one's.
    """
    methods = []
    while found := _most_repeated(items, results):
        layers, blocks = found
        method = _method(blocks, layers, trunk)
        methods.append(method)
        at = {block.start: block for block in blocks}
        left: list[Item] = []
        covered = 0
        for index, item in enumerate(items):
            if block := at.get(index):
                last = block.steps[-1]
                entry = (block.steps[0].inputs[0],)
                left.append(Run(method, entry, last.outputs, block.slot))
                covered = index + len(block.steps)
            elif index >= covered:
                left.append(item)
        items = left
    return items, methods


def _method(blocks: list[_Block], layers: tuple[str, ...], trunk: Method | None) -> Method:
    steps = blocks[0].steps
    names = [step.name for step in steps if step.name]
    called = {name: layer.format("{key}") for name, layer in zip(names, layers, strict=True)}
    own = [name for name in called if trunk and name in trunk.layers]
    called.update({name: f"{called[name]}{{suffix}}" for name in own})
    return Method(
        list(steps),
        steps[0].inputs[0],
        steps[-1].outputs[0],
        {block.slot: block.steps for block in blocks},
        called,
        trunk.suffixes if trunk and own else (),
    )


def _most_repeated(
    items: Sequence[Item], results: Sequence[int]
) -> tuple[tuple[str, ...], list[_Block]] | None:
    """The blocks that are worth most as one method: their modules' names, and where they are."""
    alike: dict[Hashable, list[tuple[int, list[Step]]]] = defaultdict(list)
    for start, steps in _closed(items, results):
        alike[_shape(steps)].append((start, steps))
    best: tuple[tuple[int, bool, int], tuple[str, ...], list[_Block]] | None = None
    for windows in alike.values():
        if len(windows) < _FEWEST:
            continue
        templates: dict[tuple[str, ...], list[_Block]] = defaultdict(list)
        for start, steps in windows:
            for layers, slot in _templates([step.name for step in steps if step.name]):
                templates[layers].append(_Block(start, slot, steps))
        for layers, found in templates.items():
            blocks = _apart(found)
            if len(blocks) < _FEWEST:
                continue
            slots = "".join(block.slot for block in blocks)
            worth = len(blocks) * len(blocks[0].steps), slots.isalnum(), len(slots)
            if best is None or worth > best[0]:
                best = worth, layers, blocks
    return best and best[1:]


def _closed(items: Sequence[Item], results: Sequence[int]) -> Iterator[tuple[int, list[Step]]]:
    """Steps in a row, with where they begin, that make one value of one and learn enough."""
    last_use: dict[int, int] = dict.fromkeys(results, len(items))
    for index, item in enumerate(items):
        for value in item.inputs:
            last_use[value] = max(index, last_use.get(value, 0))
    for start in range(len(items)):
        steps: list[Step] = []
        inside: set[int] = set()
        entries: set[int] = set()
        for index in range(start, min(start + _LONGEST, len(items))):
            step = items[index]
            # A block's own module is not shared with others, or its name would not be its own.
            if not isinstance(step, Step) or (step.owner and step.owner is not step):
                break
            entries |= set(step.inputs) - inside
            if len(entries) > 1 or len(step.outputs) > 1 or (not steps and not step.layer.blobs):
                break
            steps.append(step)
            inside |= set(step.outputs)
            leave = [value for value in inside if last_use.get(value, 0) > index]
            learning = sum(bool(each.layer.blobs) for each in steps)
            if leave == [step.outputs[0]] and learning >= _LEAST_LEARNING:
                yield start, list(steps)


def _shape(steps: Sequence[Step]) -> Hashable:
    """What blocks of one method have in common: all but names, and numbers that may vary."""
    place = {steps[0].inputs[0]: -1}
    place.update((step.outputs[0], index) for index, step in enumerate(steps))
    parts: list[Hashable] = []
    for step in steps:
        does: Hashable = step.layer.op
        if step.module:
            does = (
                step.module.kind,
                tuple(
                    (each.name, None if each.name in VARYING else each.value)
                    for each in step.module.arguments
                ),
            )
        parts.append((step.layer.type, does, tuple(place[value] for value in step.inputs)))
    return tuple(parts)


def _templates(names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The names with {} for a part that all of them have, and that part: some words of theirs."""
    first = names[0]
    ends = [*(word.start() for word in re.finditer(r"\d+|[^\W\d_]+|_", first)), len(first)]
    parts = {first[begin:end] for begin, end in itertools.combinations(ends, 2)}
    for part in sorted(parts):
        if all(part in name for name in names):
            made = {
                tuple("{}".join(name.split(part, 1)) for name in names),
                tuple("{}".join(name.rsplit(part, 1)) for name in names),
            }
            for layers in sorted(made):
                if len(set(layers)) == len(layers):
                    yield layers, part


def _apart(blocks: Sequence[_Block]) -> list[_Block]:
    """Those that do not overlap, the first of each; a slot counts once."""
    found: list[_Block] = []
    slots = set()
    end = 0
    for block in sorted(blocks, key=lambda block: block.start):
        if block.start >= end and block.slot not in slots:
            found.append(block)
            slots.add(block.slot)
            end = block.start + len(block.steps)
    return found
