"""Photos that are scaled down before the net, and what is made of them scaled up again."""

import numpy as np

from deeplab_repro.arrays import F32, HW, UInt8
from deeplab_repro.errors import ArgumentError
from deeplab_repro.machine.opencv import cv2


def check_max_side(max_side: int | None) -> None:
    """Raise ArgumentError unless this is a number of pixels from 1, or None."""
    is_number = isinstance(max_side, int) and not isinstance(max_side, bool)
    if max_side is not None and not (is_number and max_side > 0):
        raise ArgumentError(f"max_side is {max_side!r}, expected a number of pixels, or None")


def within(size: HW, side: int | None) -> HW:
    """The (H, W) of an image of `size` whose longer side is to be `side` at most; None: any."""
    if side is None or max(size) <= side:
        return size
    # Whole numbers alone: the longer side is `side` exactly.
    height, width = (max(1, (2 * n * side + max(size)) // (2 * max(size))) for n in size)
    return height, width


def shrunk(image: UInt8, size: HW) -> UInt8:
    """An image, HxWx3, at a smaller `size` = (H, W): the mean of what each pixel covers."""
    if image.shape[:2] == size:
        return image
    return cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=cv2.INTER_AREA)


def labels_at(labels: UInt8, size: HW) -> UInt8:
    """Labels, hxw, at a larger `size` = (H, W): each pixel has that of the nearest."""
    if labels.shape == size:
        return labels
    rows, columns = (
        (2 * np.arange(n) + 1) * n_in // (2 * n)  # the pixels' middles
        for n, n_in in zip(size, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def maps_at(maps: F32, size: HW) -> F32:
    """Scores or probabilities, Cxhxw float32, at a larger `size` = (H, W), bilinearly."""
    if maps.shape[1:] == size:
        return maps
    out = np.empty((len(maps), *size), np.float32)
    for source, target in zip(maps, out, strict=True):
        cv2.resize(source, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return out
