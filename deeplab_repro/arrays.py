"""Shapes and array types that every room uses."""

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Shape = tuple[int, ...]
HW = tuple[int, int]

# Of a list, and of anything else, in a short line.
_MOST_SHOWN, _LONGEST_SHOWN = 6, 80


def dims(shape: Sequence[int]) -> str:
    """A shape for people: 1x3x513x513."""
    return "x".join(map(str, shape)) or "scalar"


def in_brief(record: Any) -> str:
    """A dataclass on one short line, to be its `__repr__`.

    Arrays are told by shape and type, and fields that are as by default are left out.
    """
    values = [(each, getattr(record, each.name)) for each in fields(record) if each.repr]
    shown = [f"{each.name}={_brief(value)}" for each, value in values if not _is_usual(each, value)]
    return f"{type(record).__name__}({', '.join(shown)})"


def _is_usual(of: Field, value: object) -> bool:
    if isinstance(value, np.ndarray):
        return False
    return value == (of.default if of.default_factory is MISSING else of.default_factory())


def _brief(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"<{dims(value.shape)} {value.dtype}>"
    if isinstance(value, list | tuple | dict) and len(value) > _MOST_SHOWN:
        return f"<{len(value)} items>"
    if isinstance(value, list):
        return f"[{', '.join(map(_brief, value))}]"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def same_content(one: Any, other: Any) -> bool:
    """Whether two dataclasses are equal, to be their `__eq__`: arrays are by their values."""
    if type(one) is not type(other):
        return NotImplemented
    pairs = ((getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
    return all(
        np.array_equal(*pair)
        if any(isinstance(value, np.ndarray) for value in pair)
        else pair[0] == pair[1]
        for pair in pairs
    )
