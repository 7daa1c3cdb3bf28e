"""Texts on pictures: Pillow's own font, and the names of classes where the classes are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from deeplab_repro.arrays import HW, UInt8
from deeplab_repro.errors import one_line
from deeplab_repro.files.images import VOID

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

# Where a name goes is found on a picture of at most so many pixels a side.
_LONGEST_SEARCHED = 512
# A region with a smaller share of the picture gets no name, as its name would hide it.
_LEAST_REGION = 0.005
# Pixels a line: a part of the shorter side, but such as can be read.
_PART, _LEAST_HEIGHT = 1 / 24, 11
_LONGEST_NAME = 40  # characters
_INK, _GROUND = (255, 255, 255), (0, 0, 0)


_Box = tuple[int, int, int, int]  # left, top, right, bottom


def text_font(height: float = 15) -> "FreeTypeFont | ImageFont":
    """Pillow's own font, the only one that every machine has, about so many pixels high."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(height)
    except TypeError:  # before Pillow 10.1 it had one size
        return ImageFont.load_default()


def write_names(picture: UInt8, labels: UInt8, names: Sequence[str]) -> UInt8:
    """Write each class's name on its largest region, white on black: a new HxWx3 uint8 RGB.

    labels: HxW uint8. names: by label; the background (0), void and labels without a name get
    none, nor do regions that are small, or where there is no room.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = text_font(max(_LEAST_HEIGHT, round(min(image.size) * _PART)))
    taken: list[_Box] = []
    for label, (row, column) in _places(labels):
        if label >= len(names):
            continue
        text = one_line(names[label], _LONGEST_NAME)
        left, top, right, bottom = map(round, draw.textbbox((0, 0), text, font))
        gap = max(1, (bottom - top) // 4)
        size = (right - left + 2 * gap, bottom - top + 2 * gap)
        if box := _free_box((column, row), size, image.size, taken):
            taken.append(box)
            draw.rectangle(box, fill=_GROUND)
            draw.text((box[0] + gap - left, box[1] + gap - top), text, _INK, font)
    return np.asarray(image)


def _free_box(
    middle: tuple[int, int], size: tuple[int, int], whole: tuple[int, int], taken: Sequence[_Box]
) -> _Box | None:
    """A box inside a picture, around (x, y) or as near above or below as there is room; or None.

    Its corners are its first and last pixel.
    """
    if size[0] > whole[0] or size[1] > whole[1]:
        return None
    x, y = (
        min(max(0, at - side // 2), there - side)
        for at, side, there in zip(middle, size, whole, strict=True)
    )
    beside = [edge for box in taken for edge in (box[1] - size[1], box[3] + 1)]
    for top in sorted((y, *beside), key=lambda each: abs(each - y)):
        box = (x, top, x + size[0] - 1, top + size[1] - 1)
        inside = top >= 0 and box[3] < whole[1]
        if inside and not any(_overlap(box, other) for other in taken):
            return box
    return None


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _places(labels: UInt8) -> list[tuple[int, HW]]:
    """For each class the row and column deepest in its largest region; the largest class first."""
    from scipy import ndimage

    step = -(-max(labels.shape) // _LONGEST_SEARCHED)
    first_row, first_column = (min(step // 2, n - 1) for n in labels.shape)
    coarse = labels[first_row::step, first_column::step]
    found = []
    for label in np.unique(coarse):
        if label in (0, VOID):
            continue
        regions, _ = ndimage.label(coarse == label)
        sizes = np.bincount(regions.ravel())[1:]
        if sizes.max() < _LEAST_REGION * coarse.size:
            continue
        # A border of nothing: the picture's edge is the region's edge too.
        largest = np.pad(regions == 1 + sizes.argmax(), 1)
        depth = ndimage.distance_transform_edt(largest)[1:-1, 1:-1]
        row, column = map(int, np.unravel_index(depth.argmax(), coarse.shape))
        place = (first_row + row * step, first_column + column * step)
        found.append((int(sizes.max()), int(label), place))
    return [(label, place) for _, label, place in sorted(found, reverse=True)]
