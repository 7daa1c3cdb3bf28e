"""Write pictures: labels with VOC's palette, overlays and photos. All whole, or not at all."""

import io
import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplab_repro.arrays import UInt8, dims
from deeplab_repro.errors import ArgumentError, one_line
from deeplab_repro.files.images import VOID
from deeplab_repro.files.lettering import write_names
from deeplab_repro.files.made_of import MadeOf, marked
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.net.given import check_image

if TYPE_CHECKING:
    from PIL.Image import Image


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


def overlay(
    image: UInt8, labels: UInt8, names: Sequence[str] = (), *, alpha: float = 0.55
) -> UInt8:
    """Lay the labels over the image in the VOC colours: HxWx3 uint8 RGB.

    `image` is HxWx3 uint8 RGB, `labels` HxW uint8. The background (0) leaves the image as it is,
    void (255) is whitish, and a white line runs along every boundary. `names` (by label) are
    written where the classes are, each on its largest region unless that is small. alpha: how
    opaque the colours are, from 0 to 1.

    Raises ArgumentError for other shapes or dtypes, two different sizes, or another alpha.
    """
    if not (isinstance(alpha, Real) and 0 <= alpha <= 1):
        raise ArgumentError(f"alpha is {alpha!r}, expected a number from 0 to 1, say 0.55")
    check_image(image)
    _check_labels(labels)
    if image.shape[:2] != labels.shape:
        raise ArgumentError(
            f"labels: are {labels.shape[0]}x{labels.shape[1]} (height x width), "
            f"expected the image's {image.shape[0]}x{image.shape[1]}"
        )
    opacity = np.full((256, 1), alpha, np.float32)
    opacity[0], opacity[VOID] = 0, 0.7
    tint = palette() * opacity
    out = image * (1 - opacity[labels]) + tint[labels]
    out[_boundary(labels)] = 255
    laid = np.rint(out).astype(np.uint8)
    return write_names(laid, labels, names) if names else laid


def write_labels(
    path: str | os.PathLike[str],
    labels: UInt8,
    made_of: MadeOf | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write labels (HxW uint8) as an indexed PNG with the VOC palette, atomically.

    made_of: for a mark in the PNG (see `files.made_of`), or None for no mark. texts: what else the
    PNG is to say, in ASCII, by keyword.

    Raises ArgumentError for another shape or dtype, FileError if the file cannot be written.
    """
    from PIL import Image

    _check_labels(labels)
    picture = Image.fromarray(labels)
    picture.putpalette(palette().tobytes())
    _save(path, picture, "PNG", made_of, texts)


def write_cutout(path: str | os.PathLike[str], image: UInt8, mask: npt.NDArray[np.bool_]) -> None:
    """Write a photo as a PNG that is transparent where the mask is not set, atomically.

    image: HxWx3 uint8 RGB. mask: HxW bool. Raises FileError if the file cannot be written.
    """
    from PIL import Image

    alpha = np.where(mask, np.uint8(255), np.uint8(0))
    _save(path, Image.fromarray(np.dstack([image, alpha])), "PNG")


def write_image(path: str | os.PathLike[str], image: UInt8) -> None:
    """Write an image (HxWx3 uint8 RGB) as .png, or as .jpg or .jpeg of quality 92, atomically.

    Raises ArgumentError for another shape, dtype or extension, FileError if the file cannot be
    written.
    """
    from PIL import Image

    check_image(image)
    extension = Path(path).suffix.lower()
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if extension not in formats:
        raise ArgumentError(
            f"{one_line(path)}: cannot write the format {extension or '(no extension)'!r}: "
            f"use one of {', '.join(formats)}"
        )
    _save(path, Image.fromarray(image), formats[extension])


def own_mark(file_format: str, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Options of Pillow's `save` that mark a PNG or JPEG as this tool's: see `marks.made_here`.

    texts: what else a PNG is to say.
    """
    from PIL.PngImagePlugin import PngInfo

    if file_format == "JPEG":
        return {"comment": MADE_BY}
    info = PngInfo()
    for keyword, text in {"Software": MADE_BY, **(texts or {})}.items():
        info.add_text(keyword, text)
    return {"pnginfo": info}


def _save(
    path: str | os.PathLike[str],
    picture: "Image",
    file_format: str,
    made_of: MadeOf | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    # Encoded in memory first: Pillow would report a full disk as an encoder's error number.
    encoded = io.BytesIO()
    try:
        picture.save(encoded, file_format, quality=92, **own_mark(file_format, texts))
    except OSError as error:
        shape = f"{picture.height}x{picture.width}"
        raise ArgumentError(
            f"{one_line(path)}: {file_format} cannot hold an image of {shape}: {one_line(error)}"
        ) from error
    content = encoded.getvalue()
    with write_atomically(path) as file:
        file.write(marked(content, made_of) if made_of else content)


def _boundary(labels: UInt8) -> npt.NDArray[np.bool_]:
    """Return the boundaries, a line of 1 pixel for every 500 of the longer side: HxW bool."""
    edge = np.zeros(labels.shape, bool)
    for step in range(1, max(1, round(max(labels.shape) / 500)) + 1):
        edge[:, :-step] |= labels[:, :-step] != labels[:, step:]
        edge[:-step] |= labels[:-step] != labels[step:]
    return edge


def _check_labels(labels: UInt8) -> None:
    if labels.dtype != np.uint8 or labels.ndim != 2 or labels.size == 0:
        found = f"{dims(labels.shape)} {labels.dtype}"
        raise ArgumentError(f"labels: is {found}, expected HxW uint8, not empty")
