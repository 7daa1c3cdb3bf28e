"""Arrays as people give them: NumPy's, or tensors on the CPU, without loading what made these."""

from typing import Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.errors import ArgumentError, ArgumentTypeError, one_line

# What NumPy raises, or the library that is asked for the memory of one of its tensors.
_REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError, BufferError)
_DLPACK_CPU = 1

# Resizing with cubic or Lanczos kernels takes values a little beyond 0 and 1.
OVERSHOOT = 0.25


def as_array(name: str, value: object, expected: str, mend: str = "") -> npt.NDArray[Any]:
    """`value` as a plain NumPy array that shares its memory.

    Taken are arrays, and what offers its memory as one by `__array__`, DLPack or a buffer, as
    tensors on the CPU do. Raises ArgumentTypeError for all else; expected, mend: the words for it.
    """
    is_array = isinstance(value, (np.ndarray, np.generic, memoryview))
    try:
        if is_array or hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except _REFUSALS as error:
        calls = _calls_to_the_cpu(value)
        mend = f", use {name}{calls}" if calls else f"; NumPy cannot read it: {one_line(error)}"
    raise ArgumentTypeError(f"{name} is a {type(value).__name__}; {expected}{mend}")


def _calls_to_the_cpu(tensor: Any) -> str:
    """What makes an array for NumPy of a tensor with a gradient, in bfloat16 or on a GPU."""
    calls = ".detach()" if getattr(tensor, "requires_grad", False) else ""
    if "bfloat16" in str(getattr(tensor, "dtype", "")):
        calls += ".float()"
    try:
        is_on_cpu = tensor.__dlpack_device__()[0] == _DLPACK_CPU
    except _REFUSALS:
        is_on_cpu = str(getattr(tensor, "device", "cpu")) == "cpu"
    if is_on_cpu:
        return calls
    return calls + (".cpu()" if hasattr(tensor, "cpu") else ".get()")


def check_type(
    name: str, given: object, array: npt.NDArray[Any], dtype: npt.DTypeLike, expected: str
) -> None:
    """Raise ArgumentError unless `array`, which was made of `given`, is of this type."""
    wanted = np.dtype(dtype)
    if array.dtype == wanted:
        return
    is_array = isinstance(given, np.ndarray)
    if wanted == np.uint8:
        mend = f"use {_eight_bits(name if is_array else f'np.asarray({name})', array)}"
    elif is_array:
        mend = f"use {name}.astype(np.{wanted})"
    else:
        mend = f"use np.asarray({name}, np.{wanted})"
    raise ArgumentError(f"{name} is {array.dtype}; {expected}, {mend}")


def _eight_bits(name: str, image: npt.NDArray[Any]) -> str:
    """What makes a picture of 8 bits of another one, by what its values look like."""
    if image.dtype.kind not in "biuf" or not image.size:
        return "numbers from 0 to 255"
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        return f"np.nan_to_num({name}), if its values that are NaN or infinite mean black"
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return f"np.rint(255 * np.clip({name}, 0, 1)).astype(np.uint8)"
    if low < 0 or high > (0xFFFF if image.dtype.kind in "iu" else 255):
        return f"np.interp({name}, ({low:.6g}, {high:.6g}), (0, 255)).astype(np.uint8)"
    if image.dtype.kind == "f":
        return f"np.rint({name}).astype(np.uint8)"
    if high <= 255:
        return f"{name}.astype(np.uint8)"
    # A sensor's 10, 12 or 14 bits lose their last ones; of 16 bits 65,535 becomes 255.
    fewer = next((1 << bits - 8 for bits in (10, 12, 14) if high < 1 << bits), 257)
    return f"({name} // {fewer}).astype(np.uint8)"
