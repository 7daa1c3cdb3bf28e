"""The list of a data layer: pairs of an image and its label map, read and checked."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

from deeplab_repro.arrays import HW
from deeplab_repro.errors import DeepLabError, FormatError, ImageError, one_line
from deeplab_repro.files.images import PILLOW_ERRORS, read_image, read_labels
from deeplab_repro.files.whole import check_readable, open_to_read
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.other_layers import ImageSegData

# Threads that read headers: they wait for the disk, not for a core.
_HEADER_THREADS = 8
# Other formats are read in full to learn their size.
_IMAGE_HEADERS, _LABEL_HEADERS = ("JPEG", "PNG"), ("PNG",)
_LABEL_MODES = ("1", "L", "P")
_EXIF_ORIENTATION = 0x0112


def read_list(source: str | os.PathLike[str], root_folder: str = "") -> list[tuple[str, str]]:
    """Read a list of lines "image label-map": the paths of both, with `root_folder` in front.

    As in the original, nothing is put between the folder and a name, so one of them needs a slash.
    Raises FileError, and FormatError, naming the line, for a file that is not such a list.
    """
    name = one_line(source)
    with open_to_read(source) as (file, size):
        require_memory(8 * size, name, "check that it is the right file")
        content = file.read()
    if b"\0" in content:
        raise FormatError(
            f"{name}: is a binary file, expected the text of a list: lines 'image label-map'"
        )
    pairs = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        columns = [os.fsdecode(column) for column in line.split()]
        if columns and len(columns) != 2:
            mend = "name the label map too" if len(columns) == 1 else "names cannot hold blanks"
            raise FormatError(
                f"{name}, line {number}: has {len(columns)} columns, expected 2, 'image "
                f"label-map': {mend}"
            )
        if columns:
            pairs.append((root_folder + columns[0], root_folder + columns[1]))
    if not pairs:
        raise FormatError(f"{name}: the list is empty, expected lines 'image label-map'")
    return pairs


def check_pairs(pairs: list[tuple[str, str]], data: ImageSegData) -> None:
    """Check that both files of every pair exist and have the same size, by their headers.

    Raises the first pair's error, with the number of other pairs that have one.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(_HEADER_THREADS) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\b")
        errors = [error for error in pool.map(_pair_error, pairs) if error]
    if not errors:
        return
    first, more = errors[0], len(errors) - 1
    where = ""
    if isinstance(first.__cause__, FileNotFoundError):
        folder = f"'{one_line(data.root_folder)}'" if data.root_folder else "empty"
        where = (
            f": looked for what {one_line(data.source)} names, with root_folder ({folder}) "
            "put in front as it is"
        )
    others = f" (and {more:,} more of {len(pairs):,} pairs are wrong)" if more else ""
    raise type(first)(f"{first}{where}{others}") from first


def _pair_error(pair: tuple[str, str]) -> DeepLabError | None:
    image, labels = pair
    try:
        check_readable(image)
        check_readable(labels)
        image_size = _header_size(image, _IMAGE_HEADERS) or read_image(image).shape[:2]
        labels_size = _header_size(labels, _LABEL_HEADERS, _LABEL_MODES)
        labels_size = labels_size or read_labels(labels).shape
        if image_size == labels_size[::-1]:
            # Perhaps it is to be turned: not every format has the orientation in its header.
            image_size = read_image(image).shape[:2]
    except DeepLabError as error:
        return error
    if image_size != labels_size:
        return sizes_differ(image, image_size, labels, labels_size)
    return None


def _header_size(path: str, formats: tuple[str, ...], modes: tuple[str, ...] = ()) -> HW | None:
    """The upright height and width by the header; None if the file has to be read.

    modes: those that may be trusted; () for all.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=formats) as picture:
            if modes and picture.mode not in modes:
                return None
            # Not for PNG: it would decode the pixels, since EXIF may lie behind them.
            exif = picture.getexif() if picture.format == "JPEG" else {}
            is_turned = exif.get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = picture.size
    except (*PILLOW_ERRORS, Image.DecompressionBombError):  # reading it raises our error
        return None
    return (width, height) if is_turned else (height, width)


def sizes_differ(image: str, image_size: HW, labels: str, labels_size: HW) -> ImageError:
    """The error for an image and a label map of two sizes."""
    return ImageError(
        f"{one_line(labels)}: is {labels_size[0]}x{labels_size[1]} (height x width), expected "
        f"{image_size[0]}x{image_size[1]} as {one_line(image)} is, upright: save the label map "
        "at the size of its image"
    )
