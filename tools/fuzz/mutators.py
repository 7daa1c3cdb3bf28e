"""Changes to prototxts and protobuf files that keep most of their structure.

Bytes changed at random seldom come past a parser; fields put in, taken out, moved and given other
values do.
"""

import random
import re
from collections.abc import Callable
from typing import Any

from headers import mutate_safetensors

from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2
from deeplab_repro.caffe.wire import BYTES, FIXED32, FIXED64, VARINT, varint

_TOKEN = re.compile(r'"[^"\n]*"|\w+|\s+|.', re.DOTALL)
_NUMBERS = (
    *("0", "1", "2", "3", "7", "9", "-1", "64", "513", "2147483647", "2147483648", "4294967295"),
    *("-2147483648", "18446744073709551615", "0x10", "010", "1e3", "0.5", "-0.0", "inf", "nan"),
    *("1e39", "1f", "99999999999999999999", "-4"),
)
_STRINGS = ('""', '"data"', '"y"', '"label"', '"${EXP}"', '"${A}"', r'"\x00"', r'"\377"', '"\xe9"')
_ODD = (*"{}[]<>:;,-#'\"\\\n\0$", "${NUM_LABELS}", "${A}", "layer", "layers", "true", "MAX", "\xff")
_VARINTS = (0, 1, 2, 4, 7, 127, 128, 2**31 - 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1)


def _collect(message: Any, into: dict[str, list[Any]], seen: set[str]) -> None:
    """Every message type below one, by the names of the fields that hold it."""
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        if field.message_type is not None:
            into.setdefault(field.name, []).append(field.message_type)
            _collect(field.message_type, into, seen)


_ROOTS = [schema.NetParameter.DESCRIPTOR for schema in (deeplab_pb2, bvlc_pb2)]
_ROOTS.append(deeplab_pb2.SolverParameter.DESCRIPTOR)
_MESSAGES: dict[str, list[Any]] = {}
for _root in _ROOTS:
    _collect(_root, _MESSAGES, set())
_WORDS = sorted({f.name for types in _MESSAGES.values() for t in types for f in t.fields})
_WORDS += deeplab_pb2.LayerParameter.LayerType.keys()


def mutate_prototxt(data: bytes, rng: random.Random, seeds: list[bytes]) -> bytes:
    """A prototxt with one to four things changed."""
    tokens = _TOKEN.findall(data.decode("utf-8", "replace"))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(tokens) + 1)
        length = min(rng.choice((1, 1, 2, 5, 20)), len(tokens) - at)
        choice = rng.randrange(8)
        if choice < 3:
            _put_field(tokens, rng)
        elif choice == 3:
            del tokens[at : at + length]
        elif choice == 4:
            there = rng.randrange(len(tokens) + 1)
            tokens[there:there] = tokens[at : at + length]
        elif choice == 5:
            start, end = _block(tokens, at)
            there = rng.randrange(len(tokens) + 1)
            tokens[there:there] = tokens[start:end] * rng.choice((1, 1, 2, 30))
        elif choice == 6 and rng.random() < 0.3:
            other = _TOKEN.findall(rng.choice(seeds).decode("utf-8", "replace"))
            start, end = _block(other, rng.randrange(len(other)))
            tokens[at:at] = other[start:end]
        elif at < len(tokens):
            tokens[at] = _other(tokens, at, rng)
    return "".join(tokens).encode("utf-8", "replace")


def _put_field(tokens: list[str], rng: random.Random) -> None:
    """Put a field in place behind an opening brace, one that its message knows."""
    at = rng.randrange(len(tokens) + 1)
    while at and tokens[at - 1] != "{":
        at -= 1
    names = [token for token in tokens[max(0, at - 4) : at] if token.isidentifier()]
    types = _MESSAGES.get(names[-1], _ROOTS) if names else _ROOTS
    tokens[at:at] = _TOKEN.findall(_field_text(rng.choice(types), tokens, rng, 0))


def _field_text(message: Any, tokens: list[str], rng: random.Random, depth: int) -> str:
    if not message.fields:
        return ""
    field = rng.choice(message.fields)
    if field.message_type is not None:
        inner = [
            _field_text(field.message_type, tokens, rng, depth + 1)
            for _ in range(rng.randrange(4 - depth) if depth < 3 else 0)
        ]
        return f" {field.name} {{ {' '.join(inner)} }} "
    value = _number(rng)
    if field.enum_type is not None:
        value = rng.choice(field.enum_type.values).name
    elif field.cpp_type == field.CPPTYPE_BOOL:
        value = rng.choice(("true", "false"))
    elif field.cpp_type == field.CPPTYPE_STRING:
        value = rng.choice([*_STRINGS, *(token for token in tokens if token[0] == '"')])
    return f" {field.name}: {value} "


def _number(rng: random.Random) -> str:
    return str(rng.randrange(6)) if rng.random() < 0.5 else rng.choice(_NUMBERS)


def _other(tokens: list[str], at: int, rng: random.Random) -> str:
    """Something in place of a token, mostly of its own kind."""
    token = tokens[at]
    if rng.random() < 0.1:
        return rng.choice(_ODD)
    if token[0] == '"':
        return rng.choice([*_STRINGS, *(other for other in tokens if other[0] == '"')])
    if token[0].isdigit():
        return _number(rng)
    return rng.choice(_WORDS) if token.isidentifier() else rng.choice(tokens)


def _block(tokens: list[str], at: int) -> tuple[int, int]:
    """The field in braces that begins at or before this token, and where it ends."""
    start = max(0, min(at, len(tokens) - 1))
    while start > 0 and not (tokens[start].isidentifier() and "{" in tokens[start + 1 : start + 3]):
        start -= 1
    depth, end = 0, start
    while end < len(tokens):
        depth += (tokens[end] == "{") - (tokens[end] == "}")
        end += 1
        if depth == 0 and tokens[end - 1] == "}":
            break
    return start, end


# --- protobuf's wire format

# [number, kind, value]: an int, bytes, or the fields of a message in a list.
_Field = list[Any]


def mutate_protobuf(data: bytes, rng: random.Random, seeds: list[bytes]) -> bytes:
    """A protobuf file with one to three fields changed; their lengths are put right, or nearly."""
    tree = _parsed(data, 0)
    for _ in range(rng.randint(1, 3)):
        fields = tree
        while True:  # go down at random
            inner = [field[2] for field in fields if isinstance(field[2], list)]
            if not inner or rng.random() < 0.25:
                break
            fields = rng.choice(inner)
        _change(fields, rng, seeds)
    wrong = 0.02 if rng.random() < 0.2 else 0
    return b"".join(_bytes(field, rng, wrong) for field in tree)


def _change(fields: list[_Field], rng: random.Random, seeds: list[bytes]) -> None:
    at = rng.randrange(len(fields) + 1)
    choice = rng.randrange(8)
    if choice == 0:
        del fields[at : at + 1]
    elif choice == 1:
        again = fields[at : at + rng.randint(1, 3)] * rng.choice((1, 1, 1, 2, 70))
        there = rng.randrange(len(fields) + 1)
        fields[there:there] = again
    elif choice == 2:
        kind = rng.choice((VARINT, BYTES, FIXED32, FIXED64))
        fixed = {VARINT: rng.choice(_VARINTS), FIXED32: b"\0\0\x80\x3f", FIXED64: bytes(8)}
        number = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 100, rng.randrange(1, 2**29)))
        fields.insert(at, [number, kind, fixed.get(kind, rng.randbytes(rng.randrange(9)))])
    elif choice == 3 and rng.random() < 0.3:
        fields.extend(_parsed(rng.choice(seeds), rng.randrange(2)))
    elif at < len(fields):
        field = fields[at]
        if choice == 4:
            field[0] = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 24, 26, 100, rng.randrange(1, 200)))
        elif choice == 5:
            field[1] = rng.choice((VARINT, BYTES, FIXED32, FIXED64))
        elif isinstance(field[2], int):
            field[2] = rng.choice((*_VARINTS, max(0, field[2] - 1), field[2] + 1))
        elif isinstance(field[2], bytes):
            field[2] = _other_bytes(field[2], rng)


def _other_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    choice = rng.randrange(4)
    if choice == 0 and changed:
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif choice == 1:
        del changed[rng.randrange(len(changed) + 1) :]
    elif choice == 2:
        changed *= rng.choice((0, 2, 3))
    else:
        changed += rng.randbytes(rng.choice((1, 4, 8)))
    return bytes(changed)


def _parsed(data: bytes, depth: int) -> list[_Field]:
    """The fields of a message; what does not parse is one field of number 0, written as it is."""
    fields: list[_Field] = []
    at = 0
    while at < len(data):
        try:
            tag, payload = _read_varint(data, at)
            number, kind = tag >> 3, tag & 7
            value: Any
            if kind == VARINT:
                value, after = _read_varint(data, payload)
            else:
                length = {FIXED32: 4, FIXED64: 8}.get(kind)
                if length is None:
                    length, payload = _read_varint(data, payload)
                after = payload + length
                value = data[payload:after]
                is_message = kind == BYTES and (depth, number) in _NESTED
                value = _parsed(value, depth + 1) if is_message else value
            if kind not in (VARINT, BYTES, FIXED32, FIXED64) or after > len(data):
                raise IndexError
        except IndexError:
            return [*fields, [0, BYTES, data[at:]]]
        fields.append([number, kind, value])
        at = after
    return fields


# Layers, blobs, and a blob's shape; a solverstate's history counts as a layer.
_NESTED = {(0, 2), (0, 3), (0, 100), (1, 6), (1, 7), (2, 7)}


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def _bytes(field: _Field, rng: random.Random, wrong: float) -> bytes:
    number, kind, value = field
    if isinstance(value, list):
        value = b"".join(_bytes(inner, rng, wrong) for inner in value)
    if isinstance(value, int):
        kind, value = VARINT, varint(value % 2**64)
    if number == 0:
        return value
    if kind != BYTES:
        return varint(number << 3 | kind) + value
    length = len(value)
    if rng.random() < wrong:
        length = rng.choice((0, max(0, length - 1), length + 1, *_VARINTS))
    return varint(number << 3 | kind) + varint(length) + value


MUTATORS: dict[str, Callable[[bytes, random.Random, list[bytes]], bytes]] = {
    "prototxt": mutate_prototxt,
    "caffemodel": mutate_protobuf,
    "solverstate": mutate_protobuf,
    "safetensors": mutate_safetensors,
}
"""By the kind of file: what changes one, given others to take parts of."""
