"""Parses prototxt, the text files of both dialects, into protobuf messages.

The grammar is protobuf's text format. Protobuf's own parser lacks three things that these files
need: ${VARIABLES}, unknown fields that are left out with a warning, and positions in every message.
"""

import codecs
import difflib
import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from deeplab_repro.caffe import bvlc_pb2, deeplab_pb2
from deeplab_repro.caffe.clashes import settle_type
from deeplab_repro.caffe.names import shown
from deeplab_repro.errors import FormatError, did_you_mean, one_line
from deeplab_repro.files.whole import open_to_read

log = logging.getLogger(__name__)

# The released weights were made with these; they name and size the classifier.
VARIABLES = {"EXP": "voc12", "NUM_LABELS": "21"}
_VARIABLE = re.compile(r"\$\{(\w+)\}")

# The longest known net has a few hundred thousand characters; a net of a thousand layers has about
# 40,000 words and signs. The limits bound the time and the memory that a hostile file can take.
_LONGEST_FILE = 2_000_000
_MOST_TOKENS = 100_000
_MOST_MESSAGES = 5_000  # in one list, such as a net's layers
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_TOKEN = re.compile(
    r"""(?P<blank>\s+|\#[^\n]*)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<number>-?\s*(?:\.?\d[\w.]*(?:(?<=[eE])[-+]\d+)?f?|inf(?:inity)?\b|nan\b))
      | (?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*){0,999}"|'[^'\\\n]*(?:\\.[^'\\\n]*){0,999}')
      | (?P<sign>[{}<>\[\]:;,])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(rb"\\(?:[xX]([\da-fA-F]{1,2})|([0-7]{1,3})|([abfnrtv?\\'\"])|)")
_ESCAPED = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
_MOST_NESTED = 32
_SOLVERS = {"base_lr", "max_iter", "lr_policy", "train_net", "net"}  # fields of solvers alone
_MOST_UNKNOWN_NAMED = 10
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_BOOLEANS = {"true": True, "false": False, "t": True, "f": False, "1": True, "0": False}


class _Token(NamedTuple):
    kind: str  # word, number, string, sign or end
    text: str
    at: int  # in the file's text


def parse_prototxt(
    path: str | Path, variables: Mapping[str, str] | None = None
) -> deeplab_pb2.NetParameter | bvlc_pb2.NetParameter:
    """Read a net's prototxt into a message of the dialect that it is written in.

    `variables` are put in place of ${NAME} before reading, besides EXP=voc12 and NUM_LABELS=21;
    a variable without a value stays as it is inside of quotes. Unknown fields are left out with a
    warning that names them. Raises FileError, and FormatError with line and column.
    """
    text = read_text(path, variables)
    names = _top_level_names(text, path)
    file = one_line(path)
    if "layer" in names and "layers" in names:
        raise FormatError(
            f"{file}: both 'layers' (V1) and 'layer' (current) at the top level, expected one"
        )
    if not names & {"layer", "layers"}:
        _Parser(text, path).parse(None)  # a mistake in the syntax goes first
        if names & _SOLVERS:
            raise FormatError(f"{file}: this is a solver, expected a net: give the file it names")
        raise FormatError(f"{file}: no layers in it, expected the prototxt of a net")
    if "layer" in names:
        return _Parser(text, path).parse(bvlc_pb2.NetParameter())
    net = _Parser(text, path).parse(deeplab_pb2.NetParameter())
    for layer in net.layers:
        settle_type(layer)
    return net


def is_solver(path: str | Path, variables: Mapping[str, str] | None = None) -> bool:
    """Whether a prototxt is a solver's, and no net. Raises FileError, and FormatError."""
    names = _top_level_names(read_text(path, variables), path)
    return bool(names & _SOLVERS) and not names & {"layer", "layers"}


def parse_solver(
    path: str | Path, variables: Mapping[str, str] | None = None
) -> deeplab_pb2.SolverParameter:
    """Read a solver's prototxt; variables and errors as in `parse_prototxt`."""
    text = read_text(path, variables)
    if _top_level_names(text, path) & {"layer", "layers"}:
        raise FormatError(f"{one_line(path)}: this is a net, expected a solver")
    solver = _Parser(text, path).parse(deeplab_pb2.SolverParameter())
    if not solver.ListFields():
        raise FormatError(f"{one_line(path)}: no settings in it, expected a solver")
    return solver


def read_text(path: str | Path, variables: Mapping[str, str] | None = None) -> str:
    """A prototxt's text with its ${VARIABLES} replaced."""
    values = {**VARIABLES, **(variables or {})}
    known = re.compile("|".join(re.escape(f"${{{name}}}") for name in values))
    return known.sub(lambda match: str(values[match[0][2:-1]]), _text_as_it_is(path))


def warn_of_unused(variables: Iterable[str], *paths: str | Path) -> None:
    """Warn of variables that are in none of these files: a mistyped one changes nothing."""
    if not variables:
        return
    there = {name for path in paths for name in _VARIABLE.findall(_text_as_it_is(path))}
    for name in variables:
        if name not in there:
            log.warning(
                "--set %s changes nothing: there is no ${%s} in %s, only %s%s",
                name,
                name,
                " or ".join(map(one_line, paths)),
                one_line(", ".join(f"${{{each}}}" for each in sorted(there)) or "none", 200),
                did_you_mean(name, there),
            )


def _text_as_it_is(path: str | Path) -> str:
    name = one_line(path)
    with open_to_read(path) as (file, size):
        data = file.read(_LONGEST_FILE)
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=size == len(data))
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise FormatError(
            f"{name}: this is a binary file, expected a prototxt (text); "
            "is it the caffemodel in the wrong place?"
        )
    if size > _LONGEST_FILE:
        raise FormatError(
            f"{name}: {size / 1e6:.0f} MB of text, expected a prototxt of at most "
            f"{_LONGEST_FILE // 10**6} MB"
        )
    return text


def _error(text: str, path: str | Path, at: int, problem: str) -> FormatError:
    column = at - text.rfind("\n", 0, at)
    return FormatError(f"{one_line(path)}:{_line(text, at)}:{column}: {problem}")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _tokens(text: str, path: str | Path) -> Iterator[_Token]:
    """The text's tokens, without blanks and comments; last an end token."""
    at = count = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _error(text, path, at, _no_token(text, at))
        if match.lastgroup != "blank":
            count += 1
            if count > _MOST_TOKENS:
                problem = f"more than {_MOST_TOKENS} words and signs, too many for a net"
                raise _error(text, path, at, problem)
            yield _Token(str(match.lastgroup), match[0], at)
        at = match.end()
    yield _Token("end", "", at)


def _no_token(text: str, at: int) -> str:
    """The reason why no token begins here."""
    variable = _VARIABLE.match(text, at)
    if variable:
        return (
            f"variable {shown(variable[0])} has no value; "
            f"give one with --set {shown(variable[1])[1:-1]}=VALUE"
        )
    if text[at] in "\"'":
        return "this string has no closing quote on its line, or a thousand escapes"
    return f"{text[at]!r} is not prototxt"


def _top_level_names(text: str, path: str | Path) -> set[str]:
    names, depth = set(), 0
    for token in _tokens(text, path):
        if token.kind == "sign":
            depth = max(0, depth + (token.text in "{<") - (token.text in "}>"))
        elif token.kind == "word" and depth == 0:
            names.add(token.text)
    return names


class _Parser:
    """Recursive descent over the tokens, filling a message by its descriptor."""

    def __init__(self, text: str, path: str | Path) -> None:
        self.text, self.path = text, path
        self.tokens = _tokens(text, path)
        self.token = next(self.tokens)
        self.unknown: dict[str, int] = {}  # the field's name and where it is first

    def parse(self, message: Any) -> Any:
        """Fill the message; None checks the syntax only."""
        self._fields(message, closing="", depth=0)
        if self.unknown:
            named = [
                f"{shown(name)} (line {_line(self.text, at)})"
                for name, at in itertools.islice(self.unknown.items(), _MOST_UNKNOWN_NAMED)
            ]
            if len(self.unknown) > len(named):
                named.append(f"and {len(self.unknown) - len(named)} more")
            file = one_line(self.path)
            log.warning("%s: unknown fields left out: %s", file, ", ".join(named))
        return message

    def _error(self, problem: str, token: _Token | None = None) -> FormatError:
        return _error(self.text, self.path, (token or self.token).at, problem)

    def _next(self) -> _Token:
        token = self.token
        self.token = next(self.tokens, token)  # behind the end is the end
        return token

    def _skip(self, *signs: str) -> bool:
        found = self.token.kind == "sign" and self.token.text in signs
        if found:
            self._next()
        return found

    def _found(self) -> str:
        return shown(self.token.text) if self.token.text else "the end of the file"

    def _fields(self, message: Message | None, closing: str, depth: int) -> None:
        """Read fields up to `closing` into the message; None only checks them."""
        if depth > _MOST_NESTED:
            raise self._error(f"more than {_MOST_NESTED} messages inside each other")
        while self.token.text != closing or self.token.kind not in ("sign", "end"):
            if self.token.kind != "word":
                wanted = f"a field or '{closing}'" if closing else "a field"
                raise self._error(f"found {self._found()}, expected {wanted}")
            name = self._next()
            field = None
            if message is not None:
                field = message.DESCRIPTOR.fields_by_name.get(name.text)
                if field is None:
                    self.unknown.setdefault(name.text, name.at)
            colon = self._skip(":")
            is_message = field is None or field.message_type is not None
            opening = "{<[" if is_message else "{<"
            if not colon and not (self.token.kind == "sign" and self.token.text in opening):
                raise self._error(f"found {self._found()}, expected ':' after {shown(name.text)}")
            if self._skip("["):
                while not self._skip("]"):
                    self._value(message, field, name, depth)
                    self._skip(",")
            else:
                self._value(message, field, name, depth)
            self._skip(";", ",")
        self._next()

    def _value(self, message: Any, field: FieldDescriptor | None, name: _Token, depth: int) -> None:
        opening = self.token
        if self._skip("{", "<"):
            inner = None
            if field is not None:
                if field.message_type is None:
                    raise self._error(f"'{name.text}' takes a value, not a message", opening)
                if field.message_type.name == "V0LayerParameter":
                    raise self._error(
                        "a layer in the V0 format of 2013, expected V1 or later: upgrade the file "
                        "with Caffe's upgrade_net_proto_text",
                        name,
                    )
                target = getattr(message, name.text)
                if hasattr(target, "add"):
                    if len(target) == _MOST_MESSAGES:
                        raise self._error(f"more than {_MOST_MESSAGES} '{name.text}'", name)
                    inner = target.add()
                else:
                    self._once(message, name)
                    target.SetInParent()
                    inner = target
            self._fields(inner, closing="}" if opening.text == "{" else ">", depth=depth + 1)
            return
        if self.token.kind not in ("word", "number", "string"):
            raise self._error(f"found {self._found()}, expected a value for {shown(name.text)}")
        value = self._next()
        strings = [value.text]
        while value.kind == "string" and self.token.kind == "string":
            strings.append(self._next().text)
        if field is None:
            return
        if field.message_type is not None:
            raise self._error(f"'{name.text}' takes a message in braces", value)
        converted = self._convert(field, value, strings)
        target = getattr(message, name.text)
        if hasattr(target, "append"):
            target.append(converted)
        else:
            self._once(message, name)
            setattr(message, name.text, converted)

    def _once(self, message: Message, name: _Token) -> None:
        if message.HasField(name.text):
            raise self._error(f"'{name.text}' is given twice, expected once", name)

    def _convert(self, field: FieldDescriptor, value: _Token, strings: list[str]) -> Any:
        """A token as the field's Python value."""
        text = value.text

        def wrong(expected: str) -> FormatError:
            return self._error(f"'{field.name}' is {shown(text)}, expected {expected}", value)

        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            if value.kind != "string":
                raise wrong("text in quotes")
            try:
                return b"".join(_unescape(part[1:-1]) for part in strings).decode()
            except ValueError:
                raise wrong("text in UTF-8 with valid escapes") from None
        if value.kind == "string":
            raise wrong("a value without quotes")
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            values = field.enum_type.values_by_name
            if text in values:
                return values[text].number
            if re.fullmatch(r"[0-9]{1,9}", text) and int(text) in field.enum_type.values_by_number:
                return int(text)
            raise wrong(f"one of {', '.join(_nearest(text, list(values)))}")
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            if text.lower() in _BOOLEANS:
                return _BOOLEANS[text.lower()]
            raise wrong("true or false")
        if field.cpp_type in _INTEGERS:
            low, high = _INTEGERS[field.cpp_type]
            match = re.fullmatch(r"(-?)\s*(0[xX][\da-fA-F]{1,16}|0[0-7]{0,22}|[1-9]\d{0,19})", text)
            if match is None:
                raise wrong(f"a whole number from {low} to {high}")
            digits = match[2]
            base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
            number = int(match[1] + digits, base)
            if not low <= number <= high:
                raise wrong(f"a whole number from {low} to {high}")
            return number
        try:
            if "_" in text:
                raise ValueError
            real = float(re.sub(r"\s|(?<=[\d.])[fF]$", "", text))
        except ValueError:
            raise wrong("a number") from None
        if abs(real) > _LARGEST_FLOAT and "inf" not in text.lower():
            raise wrong(f"a number up to {_LARGEST_FLOAT:.4g}")
        return real


def _unescape(text: str) -> bytes:
    """The bytes of a string in quotes. Raises ValueError for an unknown escape."""

    def one(match: re.Match[bytes]) -> bytes:
        if match[1] or match[2]:
            return bytes([int(match[1], 16) if match[1] else int(match[2], 8)])
        if match[3]:
            return bytes([_ESCAPED.get(match[3][0], match[3][0])])
        raise ValueError("unknown escape")

    return _ESCAPE.sub(one, text.encode())


def _nearest(text: str, known: list[str]) -> list[str]:
    """The known words that are most like this one; all of them where they are few."""
    if len(known) <= 8:
        return known
    return difflib.get_close_matches(text[:40], known, n=4, cutoff=0) or known
