"""Draws a scene of ToyVOC: a place, one to five objects in it, light, a camera, and the labels.

The border between two things is void (255), as in VOC, where it is 5 pixels wide in pictures of 500
(the median over rows and columns of the val set). Here, in pictures of half that size, it is 3
pixels wide: one inside the thing in front, two outside. So a spoke or a leg of three pixels keeps a
line of labelled pixels.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from deeplab_repro.arrays import F32, UInt8, in_brief
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.images import VOID
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.toy.drawing.backgrounds import PLACES, Setting, noise
from deeplab_repro.toy.drawing.objects import KINDS
from deeplab_repro.toy.drawing.pen import Pen

SPLITS = ("train", "val")

LONG_SIDE = 240
SHORT_SIDES = (160, 200)

_CLASSES = tuple(KINDS)
_HOW_MANY = (0.2, 0.3, 0.27, 0.15, 0.08)  # one object, two, ...
_SIZES = ((120, 185), (100, 165), (86, 140), (74, 120), (64, 104))  # of one object, of two, ...


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and its labels: HxWx3 uint8 RGB as decoded from `jpeg`, and HxW uint8, 255 void."""

    image: UInt8
    labels: UInt8
    jpeg: bytes

    __repr__ = in_brief


@dataclass(frozen=True)
class _Drawn:
    """A drawing and its place: hxwx3 colours, hxw opacity 0..1, and the top left pixel."""

    colours: F32
    opacity: F32
    left: int
    top: int
    label: int = 0

    @property
    def bottom(self) -> int:
        """The row below the last."""
        return self.top + self.opacity.shape[0]

    def overlap(self, other: "_Drawn") -> float:
        """The shared area of the two boxes, as a share of the smaller one."""
        (h0, w0), (h1, w1) = self.opacity.shape, other.opacity.shape
        high = min(self.top + h0, other.top + h1) - max(self.top, other.top)
        wide = min(self.left + w0, other.left + w1) - max(self.left, other.left)
        return max(high, 0) * max(wide, 0) / min(h0 * w0, h1 * w1)

    def inside(self, height: int, width: int) -> tuple[tuple[slice, slice], F32, F32]:
        """The part within a picture: where in the picture, its colours and its opacity."""
        top, left = max(self.top, 0), max(self.left, 0)
        bottom = max(min(self.bottom, height), top)
        right = max(min(self.left + self.opacity.shape[1], width), left)
        own = (slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left))
        return (slice(top, bottom), slice(left, right)), self.colours[own], self.opacity[own]


def make_scene(seed: int, index: int, split: str = "train") -> Scene:
    """Draw scene `index` of a split. The same arguments give the same scene.

    It does not depend on the scenes before it, nor on how many there are; no two splits share
    random numbers. (Another version of NumPy or Pillow may draw it a little differently.)

    Raises ArgumentError for a negative number or an unknown split.
    """
    if split not in SPLITS:
        raise ArgumentError(f"split: is {split!r}, expected one of {', '.join(SPLITS)}")
    for name, value in (("seed", seed), ("index", index)):
        if value < 0:
            raise ArgumentError(f"{name}: is {value}, expected 0 or more")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    height, width = int(rng.integers(*SHORT_SIDES, endpoint=True)), LONG_SIDE
    if rng.random() < 0.2:
        height, width = width, height

    names, where = _cast(rng)
    place = PLACES[where](rng, height, width)
    image = place.image
    for clutter in place.clutter:
        _lay(image, _draw(rng, clutter.draw, clutter.size, rng.uniform(0, width), clutter.foot))
    objects = _arrange(rng, place, names)
    if rng.random() < 0.05:
        objects.insert(0, _difficult(rng, place, names[0]))
    instances = np.zeros((height, width), np.uint8)
    for number, drawn in enumerate(objects, 1):
        if drawn.bottom > place.horizon:
            _shadow(rng, image, drawn)
        region, opaque = _lay(image, _lit(rng, image, drawn))
        instances[region][opaque > 0.5] = number
    labels = _labels(instances, [drawn.label for drawn in objects])
    jpeg = _photograph(rng, image)
    with Image.open(io.BytesIO(jpeg)) as picture:
        return Scene(np.array(picture), labels, jpeg)


def _cast(rng: np.random.Generator) -> tuple[list[str], str]:
    """Which classes are in the scene, and the place.

    The weights make all classes equally frequent: a place comes up as often as the classes at
    home there, each counted as one over the number of its places.
    """
    first = _CLASSES[rng.integers(len(_CLASSES))]
    where = str(rng.choice(KINDS[first].places))
    home = [name for name in _CLASSES if where in KINDS[name].places]
    rarity = np.array([1 / len(KINDS[name].places) for name in home])
    names = [first]
    for _ in range(rng.choice(len(_HOW_MANY), p=_HOW_MANY)):
        chance = rng.random()
        if chance < 0.15:
            names.append(first)
        elif chance < 0.22:
            names.append(_CLASSES[rng.integers(len(_CLASSES))])
        else:
            names.append(str(rng.choice(home, p=rarity / rarity.sum())))
    return names, where


def _arrange(rng: np.random.Generator, place: Setting, names: list[str]) -> list[_Drawn]:
    """Draw the objects where they overlap little; the farthest comes first."""
    height, width = place.image.shape[:2]
    depth = height - place.horizon
    done: list[_Drawn] = []
    for name in names:
        kind = KINDS[name]
        length = rng.uniform(*_SIZES[len(names) - 1])
        near = np.clip((length - 50) / 120 + rng.normal(0, 0.12), 0, 1)
        size = min(length * kind.size, 0.95 * width, 0.98 * height)
        airborne = bool(rng.random() < kind.flies) or (kind.flies > 0 and not place.firm)
        drawn = _draw(rng, kind.draw, size, 0, 0, _CLASSES.index(name) + 1, airborne)
        if airborne:
            foot = rng.uniform(0.15, 0.9) * (place.horizon - size / 2) + 0.8 * size
            foot = min(foot, height - 4)
        else:
            foot = place.horizon + depth * (0.2 + 0.8 * near)
            foot = max(foot, rng.uniform(0.85, 1.0) * size)
        top = drawn.top + round(foot)
        half = drawn.opacity.shape[1] / 2
        tries = []
        for middle in rng.uniform(0.3 * half, width - 0.3 * half, 12):
            cut = max(half - middle, middle + half - width, 0) / half
            moved = replace(drawn, top=top, left=round(middle - half))
            tries.append((sum(moved.overlap(other) for other in done) + 0.5 * cut, moved))
        best = min(tries, key=lambda tried: tried[0])[1]
        if all(best.overlap(other) < 0.7 for other in done):  # otherwise one would be almost hidden
            done.append(best)
    return sorted(done, key=lambda drawn: drawn.bottom)


def _difficult(rng: np.random.Generator, place: Setting, name: str) -> _Drawn:
    """A far object that is too small to score: all of it is void."""
    x, foot = rng.uniform(0, place.image.shape[1]), place.horizon + rng.uniform(2, 10)
    return _draw(rng, KINDS[name].draw, rng.uniform(20, 30), x, foot, VOID)


def _draw(
    rng: np.random.Generator,
    draw: Callable[[Pen], None],
    size: float,
    x: float,
    foot: float,
    label: int = 0,
    airborne: bool = False,
) -> _Drawn:
    flip, tilt = bool(rng.random() < 0.5), float(rng.normal(0, 0.12 if airborne else 0.025))
    pen = Pen(rng, size, flip, tilt, airborne)
    draw(pen)
    colours, opacity, (left, top) = pen.sheet()
    return _Drawn(colours, opacity, left + round(x), top + round(foot), label)


def _lit(rng: np.random.Generator, image: F32, drawn: _Drawn) -> _Drawn:
    """Shade and roughen the object, and mostly make it stand out from its background."""
    height, width = drawn.opacity.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    light = 1 + rng.uniform(-0.12, 0.12) * x + rng.uniform(-0.05, 0.15) * -y
    colours = drawn.colours * light[..., None]
    colours += (noise(rng, height, width, (6, 6)) * rng.uniform(1, 4))[..., None]
    place, _, opacity = drawn.inside(*image.shape[:2])
    behind = image[place][opacity > 0.5]
    if len(behind) and rng.random() < 0.85:
        difference = colours[drawn.opacity > 0.5].mean(axis=0) - behind.mean(axis=0)
        if np.abs(difference).max() < 40:
            colours += 45 if behind.mean() < 125 else -45
    return replace(drawn, colours=colours)


def _lay(image: F32, drawn: _Drawn) -> tuple[tuple[slice, slice], F32]:
    """Paint the drawing into the image; returns its place and its opacity there."""
    place, colours, opacity = drawn.inside(*image.shape[:2])
    image[place] += (colours - image[place]) * opacity[..., None]
    return place, opacity


def _shadow(rng: np.random.Generator, image: F32, drawn: _Drawn) -> None:
    """Darken the ground at the object's foot."""
    height, width = image.shape[:2]
    wide = drawn.opacity.shape[1] / 2
    y, x = np.ogrid[:height, :width]
    across = (x - drawn.left - wide * rng.uniform(0.9, 1.1)) / (0.95 * wide)
    down = (y - drawn.bottom + 4) / (5 + 0.12 * wide)
    dark = rng.uniform(0.15, 0.5) * np.exp(-(across**4) - down**2)
    image *= (1 - dark)[..., None].astype(np.float32)


def _labels(instances: UInt8, classes: list[int]) -> UInt8:
    """Make labels of the object's number at every pixel (0: none; larger: nearer), with borders."""
    in_front = ndimage.maximum_filter(instances, 5) > instances
    at_edge = ndimage.minimum_filter(instances, 3) < instances
    labels = np.array([0, *classes], np.uint8)[instances]
    labels[in_front | at_edge] = VOID
    return labels


def _photograph(rng: np.random.Generator, image: F32) -> bytes:
    """Add light, lens and sensor to the image, and encode it as a JPEG."""
    height, width = image.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = 1 + rng.uniform(-0.12, 0.12) * x + rng.uniform(-0.12, 0.12) * y - 0.06 * (x**2 + y**2)
    tint = rng.uniform(0.8, 1.18) * rng.uniform(0.94, 1.06, 3)
    image = image * light[..., None].astype(np.float32) * tint.astype(np.float32)
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
    grain = rng.standard_normal((height, width, 3), np.float32) * rng.uniform(1, 5)
    pixels = np.clip(np.rint(np.asarray(picture, np.float32) + grain), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(84, 96)), comment=MADE_BY)
    return file.getvalue()
