"""The net's input: what is made of an image before the net sees it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab_repro.arrays import F32, HW, UInt8, dims, in_brief, same_content
from deeplab_repro.errors import ArgumentError, NetError, one_line
from deeplab_repro.net.given import check_image

MEAN_BGR = (104.008, 116.669, 122.675)
"""Mean of the training images, in the order blue, green, red, on the scale 0..255."""


@dataclass(frozen=True)
class MeanImage:
    """A mean for each pixel, Caffe's mean_file.

    file: its name, as the prototxt gives it. values: 3xHxW float32, blue, green, red, on the scale
    0..255; None until they are loaded.
    """

    file: str
    values: F32 | None = None

    __repr__ = in_brief
    __eq__ = same_content

    def loaded(self) -> F32:
        """The values. Raises NetError where they are not loaded."""
        if self.values is None:
            raise NetError(f"mean_file '{one_line(self.file)}' is not loaded, expected its values")
        return self.values


@dataclass(frozen=True)
class Preprocessing:
    """What a net is fed of each pixel of an image: (pixel - mean) * scale.

    mean: blue, green, red, on the scale 0..255, or a mean for each pixel. resized_to: the (H, W) to
    which Caffe resizes images; here they are to have this size. Raises NetError for numbers that
    are not finite, and a scale of 0.
    """

    mean: tuple[float, float, float] | MeanImage = MEAN_BGR
    scale: float = 1.0
    resized_to: HW | None = None

    def __post_init__(self) -> None:
        if not 0 < abs(np.float32(self.scale)) < math.inf:
            raise NetError(f"scale is {self.scale:g}, expected a finite number other than 0")
        if not isinstance(self.mean, MeanImage) and not all(map(math.isfinite, self.mean)):
            raise NetError(f"mean_value is {shown_mean(self.mean)}, expected finite numbers")
        if self.resized_to and min(self.resized_to) < 1:
            raise NetError(f"images of {dims(self.resized_to)}, expected both at least 1")

    @property
    def mean_image(self) -> MeanImage | None:
        """The mean of each pixel, where it is one."""
        return self.mean if isinstance(self.mean, MeanImage) else None

    @property
    def mean_values(self) -> F32:
        """The mean as float32, 3x1x1, or 3xHxW where each pixel has its own; blue first."""
        if isinstance(self.mean, MeanImage):
            return self.mean.loaded()
        return np.array(self.mean, np.float32).reshape(3, 1, 1)

    @property
    def image_size(self) -> HW | None:
        """The one size (H, W) that images are to have; None where any will do."""
        if self.mean_image:
            _, height, width = self.mean_image.loaded().shape
            return height, width
        return self.resized_to

    def as_json(self) -> dict[str, Any]:
        """It as plain data, without the values of a mean for each pixel."""
        return {
            "mean_bgr": None if self.mean_image else self.mean,
            "mean_file": self.mean_image and self.mean_image.file,
            "scale": self.scale,
            "resized_to": self.resized_to,
        }

    def apply(self, image: UInt8, out: F32) -> None:
        """Write what the net is fed of an image, HxWx3 uint8 RGB, to `out`, 3xHxW: blue first.

        An image of another size than `image_size` is the caller's to refuse.
        """
        mean, scale = self.mean_values, np.float64(np.float32(self.scale))
        # Caffe computes in float64, with constants that are float32, and rounds once. An integer up
        # to 255 less a float32 is rounded once either way: the same bits.
        with np.errstate(over="ignore"):  # becomes infinite, as in Caffe; the scores are checked
            for channel, fed in enumerate(out):
                pixels = image[..., 2 - channel]
                if scale == 1:
                    np.subtract(pixels, mean[channel], out=fed, dtype=np.float32)
                else:
                    fed[:] = np.subtract(pixels, mean[channel], dtype=np.float64) * scale


VOCS = Preprocessing()
"""What a net is fed whose file does not say."""


def shown_mean(mean: tuple[float, ...]) -> str:
    """A mean as messages show it."""
    return ", ".join(f"{value:g}" for value in mean)


def preprocess(image: UInt8, size: HW, how: Preprocessing = VOCS) -> F32:
    """Return the net's input for an image: 1x3xHxW float32, blue, green, red.

    `image` is hxwx3 uint8 RGB and lies in the top left corner of `size` = (H, W); it is not
    resized, and the rest is 0.

    Raises ArgumentError for another shape or dtype, an image larger than `size`, and one of another
    size than `how` asks for.
    """
    image = check_image(image)
    height, width = image.shape[:2]
    if height > size[0] or width > size[1]:
        raise ArgumentError(
            f"image: is {height}x{width} (height x width), larger than the net's input of "
            f"{size[0]}x{size[1]}: use a smaller image or a larger input"
        )
    if how.image_size not in (None, (height, width)):
        raise ArgumentError(f"image: is {height}x{width} (height x width), {_size_wanted(how)}")
    out = np.zeros((1, 3, *size), np.float32)
    how.apply(image, out[0, :, :height, :width])
    return out


def _size_wanted(how: Preprocessing) -> str:
    if how.mean_image:
        what = f"as mean_file '{one_line(how.mean_image.file)}' is"
        mend = f"{averages_instead(how.mean_image)} in the prototxt"
    else:
        what = "to which new_height and new_width of the data layer resize"
        mend = "take both out of the prototxt"
    assert how.image_size
    return f"expected {dims(how.image_size)}, {what}: resize the image yourself, or {mend}"


def averages_instead(mean: MeanImage) -> str:
    """The mend for a mean image that cannot be used: its averages, as prototxt."""
    averages = mean.loaded().mean(axis=(1, 2), dtype=np.float64)
    values = " ".join(f"mean_value: {value:.3f}" for value in averages)
    return f"write {values} (its averages) in place of mean_file"
