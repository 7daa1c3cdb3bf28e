"""Changes to the headers of .safetensors files, and to the net that is a text in them."""

import json
import random
import struct
from typing import Any

_VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2**31, 2**62, 2**63, 2**64, 1e300, 3.0, float("nan"), None, True),
    *("", "F16", "BF16", "F32", "F64", "I64", "0", "a\nb", "\ud800", "\u00e9", "x" * 300),
    *([], {}, [0, 0], [1], [2**40, 2**40], [[[]]]),
    {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
)
_NAMES = (
    *("a.weight", "weight", ".", ".weight", "a.", "mean", "\u00e9.weight"),
    *("conv1.running_mean", "conv1.running_var", "__metadata__", "net.json"),
)


def mutate_safetensors(data: bytes, rng: random.Random, seeds: list[bytes]) -> bytes:
    """A .safetensors with one to three parts of its header changed, and its length put right."""
    length = int.from_bytes(data[:8], "little")
    text, values = data[8 : 8 + length], data[8 + length :]
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        return rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        header = _changed(header, rng)
    text = json.dumps(header, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    length = len(text)
    if rng.random() < 0.05:
        length = rng.choice((0, 1, length - 1, length + 1, 2**40, 2**63, 2**64 - 1))
    return struct.pack("<Q", max(0, length)) + text + values


def _changed(value: Any, rng: random.Random) -> Any:
    """A value of JSON with one part of it put in, taken out or changed."""
    if rng.random() < 0.02:
        return rng.choice(_VALUES)
    if isinstance(value, dict) and value:
        made, key = dict(value), rng.choice(list(value))
        part = made.pop(key)
        choice = rng.random()
        if choice < 0.1:
            return made
        return made | {rng.choice(_NAMES) if choice < 0.2 else key: _changed(part, rng)}
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        parts = rng.choice(([], [_changed(value[at], rng)], [value[at], rng.choice(_VALUES)]))
        return [*value[:at], *parts, *value[at + 1 :]]
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.dumps(_changed(json.loads(value), rng))
        except ValueError:
            return value
    if type(value) in (int, float):
        return rng.choice((value, 1.5 * value, value + 1, value - 1, -value, float(value)))
    if isinstance(value, bool):
        return not value
    if isinstance(value, str) and rng.random() < 0.5:
        return value + rng.choice(("", "2", ".", "\u00e9", "\n"))
    return rng.choice(_VALUES)
