"""Read images and label pictures of every kind that Pillow knows.

Images are HxWx3 uint8 RGB, labels HxW uint8 (255: void). Pillow is imported when a file is read, so
that importing this module stays cheap.
"""

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.errors import FileError, ImageError, ResourceError, one_line
from deeplab_repro.files.given_path import given_path
from deeplab_repro.files.whole import open_to_read, reason
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.machine.shortage import shortage

if TYPE_CHECKING:
    from PIL.Image import Image, Transpose

VOID = 255

# No format for which Pillow starts another program (EPS, WMF). The first five are built in: for the
# others Pillow imports all its plugins.
_IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000")

# Formats that not every installation reads: by file ending, and the mend where it does not.
_BY_ENDING = {".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".avif": "AVIF"}
_MENDS = {"HEIC": "pip install pillow-heif", "AVIF": 'pip install "pillow>=11.3"'}
_ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg", "pjp", "pjpeg"),
        *("png", "ppm", "tif", "tiff", "webp"),
    )
)

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

    JPEG, PNG, GIF, BMP, PPM, TIFF, WebP and JPEG 2000; HEIC where pillow-heif is installed, and
    AVIF where Pillow knows it. Of several frames or pages the first.
    The orientation that a camera recorded (EXIF) is applied: labels have the upright size.
    Transparency is laid over white. 16-bit samples are scaled to 8 bits. Colour profiles are not
    applied.

    Raises FileError (missing, empty, a folder, unreadable), ImageError (not a picture, broken,
    cut short, or with samples of no fixed scale such as floats) or ResourceError (too large for
    the memory; found from the header, before anything is decoded), and ArgumentError for what is
    no path.

    >>> read_image("photo.jpg").shape
    (60, 80, 3)
    """
    return _read(given_path("path", path), _IMAGE_FORMATS, _to_rgb)


def read_labels(path: str | os.PathLike[str]) -> UInt8:
    """Read a PNG of labels as HxW uint8: palette indices as they are, or raw grey values.

    Raises what `read_image` raises; ImageError too for a PNG in colour.
    """
    return _read(given_path("path", path), ("PNG",), _to_labels)


def rgb_of(picture: "Image") -> UInt8:
    """A picture that Pillow holds as HxWx3 uint8 RGB, as `read_image` gives it of its file.

    Raises ImageError where it cannot be decoded, or has samples of no fixed scale, and
    ResourceError where it is too large for the memory.
    """
    name = one_line(getattr(picture, "filename", "") or "the picture")
    n_pixels = picture.width * picture.height
    what = f"{name}: the image of {picture.height}x{picture.width} pixels"
    require_memory(n_pixels * _BYTES_PER_PIXEL, what)
    with _pillow_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        try:
            return _to_rgb(picture, name)
        except PILLOW_ERRORS as error:
            raise ImageError(
                f"{name}: cannot be made RGB, {picture.mode} as it is: {one_line(error)}: open its "
                "file again, or give an array"
            ) from error


def needs_turning(picture: "Image") -> bool:
    """Whether a picture that Pillow holds is not upright, as its EXIF data says."""
    return picture.format != "TIFF" and _orientation(picture) is not None


def picture_endings() -> frozenset[str]:
    """The endings, in lower case, of the pictures that can be read here."""
    return _ENDINGS | {ending for ending, kind in _BY_ENDING.items() if _reads(kind)}


def missing_reader(path: str | os.PathLike[str]) -> str | None:
    """What reads a picture with this ending, where that is not installed: a kind and the mend."""
    kind = _BY_ENDING.get(os.path.splitext(path)[1].lower())
    return f"{kind} ({_MENDS[kind]})" if kind and not _reads(kind) else None


@cache
def _reads(kind: str) -> bool:
    """Whether Pillow reads HEIC or AVIF here."""
    if kind == "AVIF":
        from PIL import features

        return "avif" in features.modules and features.check_module("avif")
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there and is a whole picture."""
    try:
        read_image(path)
    except (FileError, ImageError):
        return False
    except ResourceError:
        return True  # too large to read
    return True


def _read(
    path: str | os.PathLike[str],
    formats: tuple[str, ...],
    convert: "Callable[[Image, str], UInt8]",
) -> UInt8:
    """Open, check and decode a file; Pillow's errors and warnings become our errors."""
    from PIL import Image, UnidentifiedImageError

    name = one_line(path)
    with open_to_read(path) as (file, file_size):
        head = file.read(64)
    kind = _kind_in_box(head) if formats == _IMAGE_FORMATS else None
    if kind and not _reads(kind):
        raise ImageError(
            f"{name}: is a picture in {kind}, which is not read here: {_MENDS[kind]}, or save it "
            "as a JPEG"
        )
    expected = " or ".join(formats)
    if kind:
        formats = ("HEIF" if kind == "HEIC" else kind,)
    elif head.startswith(b"\x89PNG"):  # the likely format first: Pillow loads nothing for others
        formats = tuple(sorted(formats, key=lambda each: each != "PNG"))
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
                f"{name}: is not an image, or a broken one: expected {expected}: "
                "save it as one of these"
            ) from error
        except Image.DecompressionBombError as error:
            sizes = reason(error).partition(",")[0]  # what follows supposes an attack
            raise ResourceError(f"{name}: {sizes}: use a smaller image") from error
        except MemoryError as error:
            raise ResourceError(f"{name}: it {shortage(error)}") from error
        except PILLOW_ERRORS as error:
            raise ImageError(
                f"{name}: cannot be decoded: {one_line(error)}: "
                "the file may be broken or cut short: get it again, or save it as an 8-bit PNG"
            ) from error
    return pixels


def _kind_in_box(head: bytes) -> str | None:
    """HEIC or AVIF, by the brands with which a file of either begins."""
    if head[4:8] != b"ftyp":
        return None
    length = int.from_bytes(head[:4], "big")
    brands = {head[at : at + 4] for at in range(8, min(length, len(head)), 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & {b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1"} else None


def _to_rgb(picture: "Image", name: str) -> UInt8:
    from PIL import Image

    picture.load()
    # Pillow has turned a TIFF already, but its EXIF may still say that it is to be turned.
    turn = None if picture.format == "TIFF" else _orientation(picture)
    if picture.mode.startswith("I;16") or (
        picture.mode == "I" and picture.format not in (None, "TIFF")
    ):
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
