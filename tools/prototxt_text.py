"""The text format of prototxt files, as the scripts write it."""

from __future__ import annotations

Fields = list[tuple[str, object]]  # a value is text as it stands, a number, or a message's Fields


def quoted(text: str) -> str:
    return f'"{text}"'


def lines_of(fields: Fields, indent: str = "") -> list[str]:
    lines = []
    for key, value in fields:
        if key == "param" and isinstance(value, list):  # hundreds of short ones
            lines.append(f"{indent}param {{ {' '.join(lines_of(value))} }}")
        elif isinstance(value, list):
            lines += [f"{indent}{key} {{", *lines_of(value, indent + "  "), f"{indent}}}"]
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines


def layer(
    name: str, kind: str, bottoms: list[str], tops: list[str], fields: Fields, v1: bool = True
) -> list[str]:
    """A layer of the authors' first Caffe (V1), or of their second's, the current format."""
    head: Fields = [("name", quoted(name)), ("type", kind if v1 else quoted(kind))]
    head += [("bottom", quoted(bottom)) for bottom in bottoms]
    head += [("top", quoted(top)) for top in tops]
    return lines_of([("layers" if v1 else "layer", head + fields)])


def comment(text: str) -> list[str]:
    return ["", f"### {text}"]
