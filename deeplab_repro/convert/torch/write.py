"""Puts model.py together, and writes it and its model.safetensors.

The weights have the names of the layers in both. Where a layer's name is none of Python's, or one
of nn.Module's own, it gets another in both files, and a comment in model.py says so.
"""

import os
import re
from dataclasses import replace

from deeplab_repro.arrays import dims
from deeplab_repro.convert.onnx import fitting_sizes
from deeplab_repro.convert.safetensors import write_safetensors
from deeplab_repro.convert.torch import parts
from deeplab_repro.convert.torch.code import class_name, identifier, number, plain, tuple_of
from deeplab_repro.convert.torch.net_class import class_lines
from deeplab_repro.convert.torch.repeats import shared_trunk, with_blocks
from deeplab_repro.convert.torch.statements import TAKEN
from deeplab_repro.convert.torch.steps import Method, program_of
from deeplab_repro.errors import ArgumentError, NetError
from deeplab_repro.files.marks import signed
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.channel_layers import BatchNorm
from deeplab_repro.net.layers import Interp
from deeplab_repro.net.named_arrays import running_statistics
from deeplab_repro.net.net import Blob, Net
from deeplab_repro.net.preprocess import VOCS, Preprocessing
from deeplab_repro.version import __version__

# What nn.Module has under these names a layer must not replace.
_OF_MODULE = """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters register_backward_hook register_buffer register_forward_hook
    register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu
    zero_grad
"""


def write_torch(
    net: Net,
    weights: str | os.PathLike[str],
    code: str | os.PathLike[str],
    *,
    half: bool = False,
) -> None:
    """Write the net's weights as safetensors, and its code, which needs torch and safetensors.

    half: weights and biases in the file as float16; the net computes in float32 still.

    model.py has the class, `preprocess`, where the net takes colour images, and `from_pretrained`.

    Raises NetError for a layer type or an option that is not written for PyTorch, WeightsError
    where a layer has no weights, and FileError.
    """
    text = model_code(net)
    net, _ = _with_identifiers(net)
    write_safetensors(_with_running_statistics(net), weights, half=half)
    with write_atomically(code) as file:
        file.write(signed(text))


def _with_identifiers(net: Net) -> tuple[Net, list[str]]:
    """The net with names of layers that Python takes, and what the comments say of those."""
    layers, renamed = [], []
    taken = set(_OF_MODULE.split())
    for layer in net.layers:
        name = identifier(layer.name, taken, "layer")
        taken.add(name)
        layers.append(replace(layer, name=name))
        if name != layer.name and layer.blobs:
            renamed.append(f'{name} is "{plain(layer.name)}" in Caffe.')
    return replace(net, layers=layers), renamed


def _with_running_statistics(net: Net) -> Net:
    """The net with the statistics that PyTorch keeps in place of Caffe's sums and factors."""
    made: dict[int, Blob] = {}
    layers = []
    for layer in net.layers:
        if isinstance(layer.op, BatchNorm):
            mean, variance, factor = layer.weights().values()
            kept = (*running_statistics(mean, variance, factor), factor * 0 + 1)
            for blob, data in zip(layer.blobs, kept, strict=True):
                made.setdefault(id(blob), replace(blob, data=data))
            layer = replace(layer, blobs=[made[id(blob)] for blob in layer.blobs])
        layers.append(layer)
    return replace(net, layers=layers)


def model_code(net: Net) -> str:
    """The code of model.py. Raises NetError for what is not written for PyTorch."""
    net, renamed = _with_identifiers(net)
    program = program_of(net)
    items, trunk = shared_trunk(program.steps, program.results)
    blocks: list[Method] = []
    if trunk:
        trunk.name = "_trunk"
        trunk.steps, blocks = with_blocks(trunk.steps, [trunk.exit], trunk)
    items, further = with_blocks(items, program.results)
    name, how = class_name(net.name, TAKEN), net.preprocessing or VOCS
    preprocess = _preprocess(net, how)
    doc = _class_doc(net, takes_images=bool(preprocess))
    made = class_lines(name, doc, program, items, trunk, [*blocks, *further], renamed)
    text = "\n".join([*made, ""])
    load = parts.FROM_PRETRAINED_WITH_MEAN if how.mean_image else parts.FROM_PRETRAINED
    pieces = [*_helpers(net, text), text, *preprocess, load.format(net=name)]
    code = "".join(f"\n\n{piece}" for piece in pieces)
    usage = parts.USE_OF_DATA.format(shape=dims(net.input_shape))
    if preprocess:
        usage = parts.USE_OF_MAP if net.makes_map else parts.USE_OF_IMAGE
    head = parts.HEAD.format(
        net=plain(net.name), usage=usage, version=__version__, imports=_imports(code)
    )
    if preprocess and not how.mean_image:
        mean = tuple_of(number(each) for each in how.mean_values.reshape(-1).tolist())
        head += f"MEAN_BGR = {mean}\n"
    return head + code


def _class_doc(net: Net, takes_images: bool) -> str:
    """What the class's docstring says: the input, of which height and width may be others."""
    shape = net.input_shape
    axes = "x".join(["N", *map(str, shape[1:2]), *"HW"[: len(shape) - 2]])
    outputs = plain(" and ".join(net.outputs)) if len(net.outputs) < 3 else "its outputs"
    as_made = ", as preprocess makes it," if takes_images else ""
    return f"From {axes} float32{as_made} to {outputs}."


def _helpers(net: Net, code: str) -> list[str]:
    """The functions and classes that the net's own code calls."""
    shrinks = any(
        isinstance(layer.op, Interp) and layer.op.shrink_factor > 1 for layer in net.layers
    )
    found = {
        "interp": parts.SHRINKING_INTERP if shrinks else parts.INTERP,
        "crop": parts.CROP,
        "BatchNorm": parts.BATCH_NORM,
        "BN": parts.BN,
        "Scale": parts.SCALE,
    }
    return [piece for name, piece in found.items() if re.search(rf"\b{name}\(", code)]


def _preprocess(net: Net, how: Preprocessing) -> list[str]:
    """The function that makes the net's input of a photo; none where the net takes no photos."""
    shape = net.input_shape
    if len(shape) != 4 or shape[1] != 3:
        return []
    own = shape[2], shape[3]
    takes_any = all(
        layer.op.fits_any_size(len(layer.bottoms))
        or (isinstance(layer.op, Interp) and layer.op.height is None)
        for layer in net.layers
    )
    size = how.image_size or (None if takes_any else own)
    if not takes_any and size != own:
        return []
    padding, end = _padding(net)
    data = "pixels.flip(2).permute(2, 0, 1) - mean"
    code = parts.PREPROCESS.format(
        padding=padding,
        checked=parts.FIXED_SIZE.format(height=size[0], width=size[1]) if size else "",
        mean=parts.MEAN_IN_FILE if how.mean_image else parts.MEAN,
        data=data if how.scale == 1 else f"({data}) * {number(how.scale)}",
        end=end,
    )
    return [code]


def _padding(net: Net) -> tuple[str, str]:
    """What preprocess says of the padding, and how it ends."""
    if not net.makes_map:
        return "", parts.UNPADDED
    try:
        first, step = fitting_sizes(net)
    except (ArgumentError, NetError):  # its scores never have the size of its input
        return "", parts.UNPADDED
    text = parts.PADDING.format(first=dims(first), step=dims(step))
    return text, parts.PADDED.format(first=first, step=step)


def _imports(code: str) -> str:
    """The imports that the code needs, in groups."""
    standard = ["import os", "from pathlib import Path"]
    if re.search(r"\bAny\b", code):
        standard.append("from typing import Any")
    others = ["import torch"] if re.search(r"\btorch\.", code) else []
    others += ["import torch.nn.functional as F"] if re.search(r"\bF\.", code) else []
    others += ["from safetensors import safe_open"] if "safe_open(" in code else []
    others += ["from safetensors.torch import load_file", "from torch import Tensor, nn"]
    return "\n".join([*standard, "", *others])
