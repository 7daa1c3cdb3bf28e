"""Writes a net for PyTorch: model.py, as a person would write it, and model.safetensors.

A net passes these files in turn:

    steps.py       the net as steps: which values each takes and makes, and whose weights it has
    repeats.py     what it repeats, at several scales or in blocks, becomes methods
    statements.py  a method's steps become lines, and its values variables
    net_class.py   the class: the modules that __init__ makes, and its methods
    write.py       the file: the class, and what goes before and behind it, from parts.py

What a type of layer is in PyTorch is in modules.py (what holds its weights and settings) and in
layers.py (what computes its top). code.py lays out calls and sums in lines.
"""

from deeplab_repro.convert.torch.write import model_code, write_torch

__all__ = ["model_code", "write_torch"]
