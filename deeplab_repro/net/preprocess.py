"""The net's input: an image less the mean, padded."""

import numpy as np

from deeplab_repro.arrays import F32, HW, UInt8, dims
from deeplab_repro.errors import ArgumentError

MEAN_BGR = (104.008, 116.669, 122.675)
"""Mean of the training images, in the order blue, green, red, on the scale 0..255."""


def check_image(image: UInt8) -> None:
    """Raise ArgumentError unless this is an image: HxWx3 uint8, not empty."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        found = f"{dims(image.shape)} {image.dtype}"
        raise ArgumentError(f"image: is {found}, expected HxWx3 uint8 RGB, not empty")


def preprocess(image: UInt8, size: HW, mean: tuple[float, float, float] = MEAN_BGR) -> F32:
    """Return the net's input for an image: 1x3xHxW float32, BGR minus the mean.

    `image` is hxwx3 uint8 RGB and lies in the top left corner of `size` = (H, W); it is not
    resized, and the rest is 0. `mean` is in the order blue, green, red, on the scale 0..255.

    Raises ArgumentError for another shape or dtype, or an image larger than `size`.
    """
    check_image(image)
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
