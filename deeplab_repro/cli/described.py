"""Prints what `descriptions` tell of a file: a table, and a line for each thing else."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deeplab_repro.arrays import dims
from deeplab_repro.cli.console import print_table, table_console
from deeplab_repro.errors import one_line

_MOST_LISTED = 3  # names in one cell


def print_description(description: dict[str, Any]) -> None:
    """Print what `describe_file` returns."""
    _PRINTED[description["kind"]](description)


def _print_net(net: dict[str, Any]) -> None:
    rows = []
    for layer in net["layers"]:
        geometry = [_pair(layer[name]) for name in ("kernel", "stride", "hole", "pad")]
        count = _count(layer["parameters"])
        if layer["shares_weights_of"]:
            count = f"as {layer['shares_weights_of']}"
        bottoms = _listed(layer["bottoms"])
        shapes = _listed(dict.fromkeys(map(dims, layer["tops"].values())))
        rows.append([layer["name"], layer["type"], shapes, count, *geometry, bottoms])
    heading = ["layer", "type", "output shape", "parameters", "kernel", "stride", "hole", "pad"]
    print_table([*heading, "bottoms"], rows, left=3)
    lines = {
        "net": net["name"] or "(no name)",
        "dialect": net["dialect"],
        "parameters": _all_parameters(net),
    }
    for end in ("input", "output"):
        lines[end] = f"{net[end]} {dims(net[f'{end}_shape'])}"
    lines["pixels"] = _fed(net["preprocessing"])
    lines["output stride"] = f"{round(net['output_stride'], 3)} (before the scores are enlarged)"
    if net["field_of_view"]:
        lines["field of view"] = f"{net['field_of_view']} pixels"
    _print_lines(lines)


def _print_caffemodel(model: dict[str, Any]) -> None:
    rows = [
        [
            layer["name"],
            layer["type"],
            ", ".join(map(dims, layer["blob_shapes"])),
            _count(layer["parameters"]),
        ]
        for layer in model["layers"]
    ]
    print_table(["layer", "type", "blobs", "parameters"], rows, left=3)
    lines = {"net": model["name"] or "(no name)", "dialect": model["dialect"]}
    _print_lines({**lines, "parameters": _all_parameters(model)})


def _print_solver(solver: dict[str, Any]) -> None:
    _print_lines({name: _text(value) for name, value in solver["settings"].items()})
    for problem in solver["does_not_train"]:
        _print_lines({"train": f"would refuse it: {problem}"})


def _print_solverstate(state: dict[str, Any]) -> None:
    rows = [
        [str(number), dims(shape)] for number, shape in enumerate(state["history_shapes"], start=1)
    ]
    print_table(["blob", "momentum"], rows, left=2)
    lines = {name: _text(state[name]) for name in ("iteration", "current_step", "learned_net")}
    for name in ("learned_sha256", "training_sha256"):
        if state[name]:
            lines[name] = state[name]
    _print_lines({**lines, "parameters": _all_parameters(state)})


def _print_blob(blob: dict[str, Any]) -> None:
    lines = {"shape": dims(blob["shape"])}
    if blob["channel_means"]:
        lines["mean"] = f"{_text(blob['channel_means'])} (of each channel)"
    _print_lines({**lines, "values": f"{_text(blob['least'])} to {_text(blob['largest'])}"})


def _print_onnx(model: dict[str, Any]) -> None:
    rows = [
        [
            node["name"] or _listed(node["outputs"]),
            node["type"],
            ", ".join(map(dims, node["weights"])),
            _count(node["parameters"]),
            _listed(node["inputs"]),
        ]
        for node in model["nodes"]
    ]
    print_table(["node", "type", "arrays", "parameters", "inputs"], rows, left=3)
    lines = {"net": model["name"] or "(no name)", "made by": model["producer"] or "(not told)"}
    lines |= {"opset": str(model["opset"]), "parameters": _all_parameters(model)}
    for end in ("input", "output"):
        lines[end] = ", ".join(map(_value, model[f"{end}s"]))
    _print_lines({**lines, **model["metadata"]})


_PRINTED = {
    "net": _print_net,
    "caffemodel": _print_caffemodel,
    "weights": _print_caffemodel,
    "solver": _print_solver,
    "solverstate": _print_solverstate,
    "blob": _print_blob,
    "onnx": _print_onnx,
}


def _print_lines(lines: Mapping[str, str]) -> None:
    console = table_console()
    width = max(14, *map(len, lines)) if lines else 14
    for name, value in lines.items():
        console.print(one_line(f"{name:<{width}} {value}"), soft_wrap=True)


def _value(value: dict[str, Any]) -> str:
    """An input or output of ONNX."""
    axes = "any shape" if value["axes"] is None else _text(value["axes"], "x")
    return f"{value['name']} {axes} {value['type']}"


def _count(parameters: int) -> str:
    return f"{parameters:,}" if parameters else ""


def _all_parameters(description: dict[str, Any]) -> str:
    return f"{description['parameters']:,} ({description['parameters'] / 1e6:.1f}M)"


def _pair(pair: Sequence[int] | None) -> str:
    """Height and width, once where they are the same."""
    if pair is None:
        return ""
    return str(pair[0]) if pair[0] == pair[1] else dims(pair)


def _listed(names: Iterable[str]) -> str:
    first, *others = [*names] or [""]
    shown = [first, *others[: _MOST_LISTED - 1]]
    more = len(others) + 1 - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _text(value: Any, between: str = ", ") -> str:
    """A value of JSON in words."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return between.join(map(_text, value))
    return "not a number" if value is None else str(value)


def _fed(how: dict[str, Any]) -> str:
    """What the net is fed of each pixel."""
    mean = how["mean_file"] and f"mean_file {how['mean_file']}"
    mean = mean or ", ".join(f"{value:g}" for value in how["mean_bgr"])
    text = f"less {mean}"
    if how["mean_bgr"]:
        text += " (blue, green, red)" if how["from_file"] else " (VOC's: the file names none)"
    if how["scale"] != 1:
        text += f", times {how['scale']:g}"
    if how["resized_to"]:
        height, width = how["resized_to"]
        text += f", of images of {height}x{width}"
    return text
