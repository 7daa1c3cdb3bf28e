"""deeplab-repro inspect: show what a prototxt, a caffemodel or a converted .npz holds."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from deeplab_repro.cli.console import print_table, table_console
from deeplab_repro.cli.options import add_variables
from deeplab_repro.errors import one_line

if TYPE_CHECKING:
    from deeplab_repro.caffe import Caffemodel
    from deeplab_repro.net.net import Net


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "inspect",
        help="show the layers, shapes and sizes of a prototxt, a caffemodel or a converted .npz",
        description="Show the layers of a prototxt or of a converted .npz, with shapes, or of a "
        "caffemodel, with weights.",
    )
    parser.add_argument("file", metavar="FILE", help="a prototxt, a caffemodel or a .npz")
    add_variables(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the description of the file."""
    from deeplab_repro.caffe import read_caffemodel, read_net
    from deeplab_repro.files.whole import open_to_read

    with open_to_read(arguments.file) as (file, _):
        is_binary = b"\0" in file.read(4096)
    if arguments.file.endswith(".npz"):
        from deeplab_repro.convert import read_npz

        description = describe_net(read_npz(arguments.file))
    elif is_binary:
        description = describe_caffemodel(read_caffemodel(arguments.file))
    else:
        description = describe_net(read_net(arguments.file, dict(arguments.variables)))
    if arguments.json:
        print(json.dumps(description, indent=1))
    else:
        _print_table(description)
    return 0


def describe_net(net: "Net") -> dict[str, Any]:
    """A net as plain data, shapes as lists."""
    return {
        "name": net.name,
        "dialect": net.dialect,
        "input": net.input,
        "input_shape": list(net.input_shape),
        "preprocessing": describe_preprocessing(net),
        "output": net.output,
        "output_shape": list(net.output_shape()),
        "output_stride": net.output_stride,
        "field_of_view": net.field_of_view,
        "parameters": net.parameters,
        "layers": [
            {
                "name": layer.name,
                "type": layer.type,
                "output_shape": list(tops[0]),
                "parameters": layer.parameters,
            }
            for layer, _, tops in net.walk()
        ],
    }


def describe_preprocessing(net: "Net") -> dict[str, Any]:
    """What the net is fed of an image, as plain data; `from_file` where its file says so."""
    from deeplab_repro.net.preprocess import VOCS, MeanImage

    how = net.preprocessing or VOCS
    return {
        "from_file": net.preprocessing is not None,
        "mean_bgr": None if isinstance(how.mean, MeanImage) else list(how.mean),
        "mean_file": how.mean_image and how.mean_image.file,
        "scale": how.scale,
        "resized_to": list(how.resized_to) if how.resized_to else None,
    }


def describe_caffemodel(model: "Caffemodel") -> dict[str, Any]:
    """A caffemodel as plain data: every layer with the shapes of its blobs."""
    layers = [
        {
            "name": layer.name,
            "type": layer.type,
            "blob_shapes": [list(blob.shape) for blob in layer.blobs],
            "parameters": sum(blob.size for blob in layer.blobs),
        }
        for layer in model.layers
    ]
    return {
        "name": model.name,
        "dialect": model.dialect,
        "parameters": sum(layer["parameters"] for layer in layers),
        "layers": layers,
    }


def _print_table(description: dict[str, Any]) -> None:
    from deeplab_repro.arrays import dims

    is_net = "output" in description
    rows = []
    for layer in description["layers"]:
        shapes = [layer["output_shape"]] if is_net else layer["blob_shapes"]
        named = ", ".join(map(dims, shapes))
        count = f"{layer['parameters']:,}" if layer["parameters"] else ""
        rows.append([layer["name"], layer["type"], named, count])
    print_table(
        ["layer", "type", "output shape" if is_net else "blobs", "parameters"], rows, left=3
    )
    console = table_console()
    lines = {
        "net": description["name"] or "(no name)",
        "dialect": description["dialect"],
        "parameters": f"{description['parameters']:,} ({description['parameters'] / 1e6:.1f}M)",
    }
    if is_net:
        for end in ("input", "output"):
            lines[end] = f"{description[end]} {dims(description[f'{end}_shape'])}"
        lines["pixels"] = _fed(description["preprocessing"])
        lines["output stride"] = f"{description['output_stride']} (before the scores are enlarged)"
        if description["field_of_view"]:
            lines["field of view"] = f"{description['field_of_view']} pixels"
    for name, value in lines.items():
        console.print(one_line(f"{name:<14} {value}"), soft_wrap=True)


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
