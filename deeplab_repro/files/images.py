"""Read and write images and labels, make the net's input, and draw labels over an image.

Images are HxWx3 uint8 RGB, labels HxW uint8 (255: void). Pillow is imported when a file is read or
written, so that importing this module stays cheap.
"""

import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import dims
from deeplab_repro.errors import ArgumentError, ImageError, ResourceError, one_line
from deeplab_repro.files.whole import open_to_read, write_atomically
from deeplab_repro.machine.memory import require_memory

if TYPE_CHECKING:
    from PIL.Image import Image, Transpose

from deeplab_repro.arrays import UInt8

MEAN_BGR = (104.008, 116.669, 122.675)
"""Mean of the training images, in the order blue, green, red, on the scale 0..255."""

VOID = 255

# No format for which Pillow starts another program (EPS, WMF). The first five are built in: for the
# others Pillow imports all its plugins.
_IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000")

# Raised by Pillow on broken files, besides DecompressionBombError.
PILLOW_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

# Pillow's copies of a picture while it decodes, converts and turns it, and our array.
_BYTES_PER_PIXEL = 24

# warnings.catch_warnings is not safe in two threads at once.
_pillow_lock = threading.Lock()


def read_image(path: str | os.PathLike[str]) -> UInt8:
    """Read a picture as HxWx3 uint8 RGB, as an image viewer would show it.

    JPEG, PNG, GIF, BMP, PPM, TIFF, WebP and JPEG 2000; of several frames or pages the first.
    The orientation that a camera recorded (EXIF) is applied: labels have the upright size.
    Transparency is laid over white. 16-bit samples are scaled to 8 bits. Colour profiles are not
    applied.

    Raises FileError (missing, empty, a folder, unreadable), ImageError (not a picture, broken,
    cut short, or with samples of no fixed scale such as floats) or ResourceError (too large for
    the memory; found from the header, before anything is decoded).
    """
    return _read(path, _IMAGE_FORMATS, _to_rgb)


def read_labels(path: str | os.PathLike[str]) -> UInt8:
    """Read a PNG of labels as HxW uint8: palette indices as they are, or raw grey values.

    Raises what `read_image` raises; ImageError too for a PNG in colour.
    """
    return _read(path, ("PNG",), _to_labels)


def preprocess(
    image: UInt8, size: tuple[int, int], mean: tuple[float, float, float] = MEAN_BGR
) -> npt.NDArray[np.float32]:
    """Return the net's input for an image: 1x3xHxW float32, BGR minus the mean.

    `image` is hxwx3 uint8 RGB and lies in the top left corner of `size` = (H, W); it is not
    resized, and the rest is 0. `mean` is in the order blue, green, red, on the scale 0..255.

    Raises ArgumentError for another shape or dtype, or an image larger than `size`.
    """
    _check_rgb(image)
    height, width = image.shape[:2]
    if height > size[0] or width > size[1]:
        raise ArgumentError(
            f"image: is {height}x{width} (height x width), larger than the net's input of "
            f"{size[0]}x{size[1]}: use a smaller image or a larger input"
        )
    out = np.zeros((1, 3, *size), np.float32)
    # Caffe subtracts in float64 and rounds to float32. An integer up to 255 minus a float32 is
    # rounded once either way: the same bits.
    mean32 = np.asarray(mean, np.float32)
    if mean32.shape != (3,):
        raise ArgumentError(f"mean: has shape {mean32.shape}, expected three values (BGR)")
    for channel in range(3):
        region = out[0, channel, :height, :width]
        np.subtract(image[..., 2 - channel], mean32[channel], out=region, dtype=np.float32)
    return out


def palette() -> UInt8:
    """Return the colours of the labels 0..255: 256x3 uint8 RGB.

    The rule is VOCdevkit's (VOClabelcolormap.m): bits 0, 3 and 6 of a label are red's bits 7, 6
    and 5, bits 1, 4 and 7 are green's, bits 2 and 5 blue's.
    """
    labels = np.arange(256)[:, None]
    channels = np.arange(3)
    colours = np.zeros((256, 3), np.int64)
    for triple in range(3):
        colours |= (labels >> (3 * triple + channels) & 1) << (7 - triple)
    return colours.astype(np.uint8)


def overlay(image: UInt8, labels: UInt8) -> UInt8:
    """Lay the labels over the image in the VOC colours: HxWx3 uint8 RGB.

    `image` is HxWx3 uint8 RGB, `labels` HxW uint8. The background (0) leaves the image as it is,
    void (255) is whitish, and a white line runs along every boundary.

    Raises ArgumentError for other shapes or dtypes, or two different sizes.
    """
    _check_rgb(image)
    _check_labels(labels)
    if image.shape[:2] != labels.shape:
        raise ArgumentError(
            f"labels: are {labels.shape[0]}x{labels.shape[1]} (height x width), "
            f"expected the image's {image.shape[0]}x{image.shape[1]}"
        )
    opacity = np.full((256, 1), 0.55, np.float32)
    opacity[0], opacity[VOID] = 0, 0.7
    tint = palette() * opacity
    out = image * (1 - opacity[labels]) + tint[labels]
    out[_boundary(labels)] = 255
    return np.rint(out).astype(np.uint8)


def write_labels(path: str | os.PathLike[str], labels: UInt8) -> None:
    """Write labels (HxW uint8) as an indexed PNG with the VOC palette, atomically.

    Raises ArgumentError for another shape or dtype, FileError if the file cannot be written.
    """
    from PIL import Image

    _check_labels(labels)
    picture = Image.fromarray(labels)
    picture.putpalette(palette().tobytes())
    _save(path, picture, "PNG")


def write_image(path: str | os.PathLike[str], image: UInt8) -> None:
    """Write an image (HxWx3 uint8 RGB) as .png, or as .jpg or .jpeg of quality 92, atomically.

    Raises ArgumentError for another shape, dtype or extension, FileError if the file cannot be
    written.
    """
    from PIL import Image

    _check_rgb(image)
    extension = Path(path).suffix.lower()
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if extension not in formats:
        raise ArgumentError(
            f"{one_line(path)}: cannot write the format {extension or '(no extension)'!r}: "
            f"use one of {', '.join(formats)}"
        )
    _save(path, Image.fromarray(image), formats[extension])


def _save(path: str | os.PathLike[str], picture: "Image", file_format: str) -> None:
    # Encoded in memory first: Pillow would report a full disk as an encoder's error number.
    encoded = io.BytesIO()
    try:
        picture.save(encoded, file_format, quality=92)
    except OSError as error:
        shape = f"{picture.height}x{picture.width}"
        raise ArgumentError(
            f"{one_line(path)}: {file_format} cannot hold an image of {shape}: {one_line(error)}"
        ) from error
    with write_atomically(path) as file:
        file.write(encoded.getbuffer())


def _read(
    path: str | os.PathLike[str],
    formats: tuple[str, ...],
    convert: "Callable[[Image, str], UInt8]",
) -> UInt8:
    """Open, check and decode a file; Pillow's errors and warnings become our errors."""
    from PIL import Image, UnidentifiedImageError

    name = one_line(path)
    with open_to_read(path) as (file, file_size):
        is_png = file.read(4) == b"\x89PNG"
    # The likely format first: Pillow then loads nothing for the others.
    formats = tuple(sorted(formats, key=lambda each: is_png and each != "PNG"))
    with _pillow_lock, warnings.catch_warnings():
        # Only Pillow's: another thread may be warning of something else.
        warnings.filterwarnings("ignore", module=r"PIL\b")
        try:
            with Image.open(path, formats=formats) as picture:
                what = f"{name}: the image of {picture.height}x{picture.width} pixels"
                n_pixels = picture.width * picture.height
                require_memory(file_size + n_pixels * _BYTES_PER_PIXEL, what)
                pixels = convert(picture, name)
        except UnidentifiedImageError as error:
            raise ImageError(
                f"{name}: is not an image, or a broken one: expected {' or '.join(formats)}: "
                "save it as one of these"
            ) from error
        except Image.DecompressionBombError as error:
            raise ResourceError(
                f"{name}: {one_line(error)}: expected a photo: use a smaller image"
            ) from error
        except PILLOW_ERRORS as error:
            raise ImageError(
                f"{name}: cannot be decoded: {one_line(error)}: "
                "the file may be broken or cut short: get it again, or save it as an 8-bit PNG"
            ) from error
    return pixels


def _to_rgb(picture: "Image", name: str) -> UInt8:
    from PIL import Image

    picture.load()
    # Pillow has turned a TIFF already, but its EXIF may still say that it is to be turned.
    turn = None if picture.format == "TIFF" else _orientation(picture)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format != "TIFF"):
        # 16-bit grey: old Pillows hold it as I. 65535 = 255 * 257, so this is rounding.
        grey = (np.asarray(picture, np.int32) + 128) // 257
        picture = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if picture.mode in ("I", "F"):
        kind = "32-bit integers" if picture.mode == "I" else "floating-point numbers"
        raise ImageError(
            f"{name}: holds {kind}, whose white is not defined: expected 8 or 16 bits a sample: "
            "save it as an 8-bit PNG or JPEG"
        )
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    picture = picture.convert("RGB")
    if turn is not None:
        picture = picture.transpose(turn)
    return np.array(picture)


def _orientation(picture: "Image") -> "Transpose | None":
    """Return what turns a picture upright by its EXIF orientation; None if it is upright."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        return turns.get(picture.getexif().get(0x0112, 1))
    except PILLOW_ERRORS:
        return None  # broken EXIF beside sound pixels: shown as stored, as viewers do


def _to_labels(picture: "Image", name: str) -> UInt8:
    if picture.mode == "1":  # grey values 0 and 255 only
        return np.array(picture.convert("L"))
    if picture.mode not in ("P", "L"):
        raise ImageError(
            f"{name}: is a picture of mode {picture.mode}: labels are an indexed or 8-bit grey "
            "PNG: save it with the label numbers as its values"
        )
    return np.array(picture)


def _boundary(labels: UInt8) -> npt.NDArray[np.bool_]:
    """Return the boundaries, a line of 1 pixel for every 500 of the longer side: HxW bool."""
    edge = np.zeros(labels.shape, bool)
    for step in range(1, max(1, round(max(labels.shape) / 500)) + 1):
        edge[:, :-step] |= labels[:, :-step] != labels[:, step:]
        edge[:-step] |= labels[:-step] != labels[step:]
    return edge


def _check_rgb(image: UInt8) -> None:
    _check_array("image", image, image.ndim == 3 and image.shape[2] == 3, "HxWx3 uint8 RGB")


def _check_labels(labels: UInt8) -> None:
    _check_array("labels", labels, labels.ndim == 2, "HxW uint8")


def _check_array(what: str, array: UInt8, fits: bool, expected: str) -> None:
    if array.dtype != np.uint8 or not fits or array.size == 0:
        found = f"{dims(array.shape)} {array.dtype}"
        raise ArgumentError(f"{what}: is {found}, expected {expected}, not empty")
