"""A photo as people give it: the path of a file, a picture of Pillow's, or an array."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

import numpy as np

from deeplab_repro.arrays import UInt8, dims
from deeplab_repro.errors import ArgumentError, ArgumentTypeError
from deeplab_repro.files.given_path import given_path, kind_of
from deeplab_repro.files.images import needs_turning, read_image, rgb_of
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.given import check_image, is_pillows

if TYPE_CHECKING:
    from PIL.Image import Image


# What NumPy makes an array of.
_OFFERS = ("__array__", "__array_interface__", "__dlpack__")


class HasArray(Protocol):
    """What NumPy makes an array of: an array, or a tensor on the CPU."""

    def __array__(self) -> np.ndarray: ...


PhotoLike: TypeAlias = Union[str, os.PathLike[str], "Image", HasArray]
"""The path of a file that `read_image` reads, a picture of Pillow's, or HxWx3 uint8 RGB."""


def given_photo(photo: PhotoLike) -> UInt8:
    """A photo as HxWx3 uint8 RGB of its own: what the caller does to his array changes nothing.

    A picture of Pillow's becomes what `read_image` makes of its file: upright, over white.

    Raises ArgumentError, with a mend, for what is no photo, and what `read_image` raises.
    """
    if isinstance(photo, (str, os.PathLike)):
        return read_image(given_path("image", photo))
    if is_pillows(photo):
        return check_image(rgb_of(photo))
    if not any(hasattr(photo, offer) for offer in _OFFERS) and not isinstance(photo, memoryview):
        raise ArgumentTypeError(
            f"image is {kind_of(photo)}; expected a path, a picture of Pillow's or an HxWx3 uint8 "
            f"array (RGB, 0 to 255){_mend(photo)}"
        )
    array = check_image(photo)
    require_memory(array.nbytes, f"an image of {dims(array.shape)}", "make it smaller")
    return np.array(array, order="C")


def path_of(photo: PhotoLike) -> Path | None:
    """The path of a photo's file, if it was given or Pillow knows it."""
    if is_pillows(photo):
        photo = getattr(photo, "filename", "")
    is_path = isinstance(photo, (str, os.PathLike)) and photo != ""
    return Path(given_path("image", photo)) if is_path else None


def pixels_of_picture(image: object) -> Any:
    """A picture of Pillow's as HxWx3 uint8 RGB; all else as it is.

    Raises ArgumentError for one that is to be turned: its probabilities may be of either way.
    """
    if not is_pillows(image):
        return image
    if needs_turning(image):
        raise ArgumentError(
            "image is a picture that its EXIF data says to turn; expected one that lies as probs "
            "do: use ImageOps.exif_transpose(image) if these are of the upright one, "
            'else np.array(image.convert("RGB"))'
        )
    return rgb_of(image)


def check_photos(photos: object) -> None:
    """Raise ArgumentError, with a mend, unless these are several photos, to be taken in turn."""
    if isinstance(photos, (str, os.PathLike)) and os.path.isdir(photos):
        mend = 'of a folder, give sorted(Path(photos).glob("*.jpg"))'
    elif (
        isinstance(photos, (str, os.PathLike))
        or is_pillows(photos)
        or len(getattr(photos, "shape", "?")) in (0, 2, 3)
    ):
        mend = "call the model itself with one photo, or give [photo]"
    elif isinstance(photos, (bytes, bytearray, io.IOBase)) or not isinstance(photos, Iterable):
        mend = "give a list of paths"
    else:
        return
    raise ArgumentTypeError(f"photos is {kind_of(photos)}; expected several photos: {mend}")


def _mend(value: object) -> str:
    """What to give in place of a thing that some take for a photo."""
    if value is None:
        return ": OpenCV's imread gives None for a file that it cannot read, give the file's path"
    if isinstance(value, (bytes, bytearray)):
        return ": of the content of a file, use PIL.Image.open(io.BytesIO(image))"
    if isinstance(value, io.TextIOBase):
        return ": give the file's path, or open it in binary and use PIL.Image.open(image)"
    if hasattr(value, "read"):
        return ": of an open file, use PIL.Image.open(image)"
    if isinstance(value, list) and value and isinstance(value[0], (list, int)):
        return ": of numbers from 0 to 255, use np.array(image, np.uint8)"
    if isinstance(value, Iterable):
        return ": of several photos, use model.stream(image)"
    return ""
