"""Arrays as people give them: NumPy's, or tensors on the CPU, without loading what made these."""

import os
import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import UInt8, dims
from deeplab_repro.errors import ArgumentError, ArgumentTypeError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

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
    except Exception as error:  # of any kind: the value's own code runs here
        calls = _calls_to_the_cpu(value)
        mend = f", use {name}{calls}" if calls else f"; NumPy cannot read it: {one_line(error)}"
    raise ArgumentTypeError(f"{name} is a {type(value).__name__}; {expected}{mend}")


def check_image(image: object) -> UInt8:
    """An image as a plain array, HxWx3 uint8 RGB, that shares its memory.

    Raises ArgumentError, with a mend, for anything else.
    """
    expected = "expected a HxWx3 uint8 array (RGB, 0 to 255)"
    if isinstance(image, (str, os.PathLike)):
        raise ArgumentTypeError(f"image is a path; {expected}, use read_image(image)")
    if is_pillows(image):
        mend = 'use np.array(ImageOps.exif_transpose(image).convert("RGB"))'
        raise ArgumentTypeError(f"image is a picture of Pillow's; {expected}, {mend}")
    array = as_array("image", image, expected)
    check_type("image", image, array, np.uint8, expected)
    check_image_shape("image" if type(image) is np.ndarray else "np.asarray(image)", array)
    return array


def is_pillows(value: object) -> "TypeGuard[Image]":
    """Whether this is a picture of Pillow's, which need not be loaded."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def check_image_shape(name: str, image: npt.NDArray[Any], in_batch: bool = False) -> None:
    """Raise ArgumentError, with a mend, unless an image is HxWx3 and not empty.

    name: what the mend calls it. in_batch: whether the mend is for all of a batch.
    """
    if image.ndim == 3 and image.shape[2] == 3 and 0 not in image.shape:
        return
    mend = ""
    if 0 in image.shape or image.ndim not in (2, 3, 4):
        pass
    elif image.ndim == 4:
        which = f"use {name}[0]" if len(image) == 1 else "give one image at a time"
        mend = f"; if it is a batch, {which}"
    elif image.ndim == 2:
        mend = f"; if it is grey, use np.stack([{name}] * 3, axis=-1)"
    elif image.shape[2] == 1:
        mend = f"; of grey ones, use np.repeat({name}, 3, axis=-1)"
    elif image.shape[2] == 4:
        mend = f"; without opacity, use {name}[..., :3]"
    elif image.shape[2] == 2:
        mend = f"; of grey ones with opacity, use np.repeat({name}[..., :1], 3, axis=-1)"
    elif len(image) == 3:
        mend = f"; use {moved(name, (1, 2, 0), in_batch)}"
    elif len(image) == 1:
        grey = f"np.repeat({name}, 3, axis=-3)"
        mend = f"; of grey ones, use {moved(grey, (1, 2, 0), in_batch)}"
    elif len(image) == 4:
        mend = f"; without opacity, use {moved(f'{name}[..., :3, :, :]', (1, 2, 0), in_batch)}"
    raise ArgumentError(
        f"image has shape {dims(image.shape)}; expected HxWx3 (RGB, channels last, not empty){mend}"
    )


def moved(name: str, axes: tuple[int, ...], in_batch: bool = False) -> str:
    """How the axes come into this order; NumPy's function takes tensors too."""
    order = (0, *(axis + 1 for axis in axes)) if in_batch else axes
    return f"np.transpose({name}, {order})"


def _calls_to_the_cpu(tensor: Any) -> str:
    """What makes an array for NumPy of a tensor with a gradient, in bfloat16 or on a GPU."""
    calls = ".detach()" if getattr(tensor, "requires_grad", False) else ""
    if "bfloat16" in str(getattr(tensor, "dtype", "")):
        calls += ".float()"
    try:
        is_on_cpu = tensor.__dlpack_device__()[0] == _DLPACK_CPU
    except Exception:
        is_on_cpu = str(getattr(tensor, "device", "cpu")) == "cpu"
    if is_on_cpu:
        return calls
    return calls + (".cpu()" if hasattr(tensor, "cpu") else ".get()")


def check_type(
    name: str, given: object, array: npt.NDArray[Any], dtype: npt.DTypeLike, expected: str
) -> None:
    """Raise ArgumentError unless `array`, which was made of `given`, is of this type, unmasked."""
    if np.ma.is_masked(given):
        raise ArgumentError(f"{name} has masked values; {expected} without, use {name}.filled(0)")
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
    if image.dtype.kind == "V" and image.dtype.type is not np.void:  # bfloat16, float8
        return _eight_bits(f"{name}.astype(np.float32)", image.astype(np.float32))
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
