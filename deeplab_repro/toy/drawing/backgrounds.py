"""The places of scenes: ground, background, and clutter that belongs to no class."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from deeplab_repro.arrays import F32, in_brief
from deeplab_repro.toy.drawing.clutter import (
    books,
    bush,
    cabinet,
    carton,
    curtain,
    house,
    lamp,
    mug,
    picture,
    stone,
    tree,
    tuft,
    window,
)
from deeplab_repro.toy.drawing.pen import WOODS, Colour, Pen, shade

Rng = np.random.Generator


@dataclass(frozen=True)
class Clutter:
    """A thing of no class: its drawing, its longer side in pixels, its foot's y in pixels."""

    draw: Callable[[Pen], None]
    size: float
    foot: float


@dataclass(frozen=True, eq=False)
class Setting:
    """An empty place: HxWx3 float32 colours (0..255), the ground's first row, and its clutter.

    firm: whether a bird may stand on the ground.
    """

    image: F32
    horizon: float
    clutter: list[Clutter]
    firm: bool = True

    __repr__ = in_brief


def noise(rng: Rng, height: int, width: int, cell: tuple[float, float]) -> F32:
    """HxW noise of mean 0 and deviation about 1 in three octaves; the coarsest has cells of `cell`.

    `cell` is (height, width) in pixels.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(3):
        step = [max(c / 2.5**octave, 1.5) for c in cell]
        rows, columns = int(height / step[0]) + 3, int(width / step[1]) + 3
        grid = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
        box = (1.0, 1.0, 1 + width / step[1], 1 + height / step[0])
        fine = grid.resize((width, height), Image.Resampling.BILINEAR, box=box)
        total += np.asarray(fine) * (1.6 / 1.8**octave)
    return total


def _wash(height: int, width: int, top: Colour, bottom: Colour) -> F32:
    """A gradient from `top` to `bottom`."""
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    rows = np.array(top, np.float32) * (1 - share) + np.array(bottom, np.float32) * share
    return np.repeat(rows, width, axis=1)


def _colour(rng: Rng, colours: tuple[Colour, ...]) -> Colour:
    return shade(colours[rng.integers(len(colours))], float(rng.uniform(0.8, 1.15)))


SKIES: tuple[Colour, ...] = (
    (96, 150, 214),
    (132, 172, 214),
    (178, 190, 202),
    (120, 134, 160),
    (226, 170, 130),
)
GRASS: tuple[Colour, ...] = ((104, 140, 66), (82, 120, 60), (150, 152, 84), (128, 118, 78))
ASPHALT: tuple[Colour, ...] = ((112, 112, 116), (92, 92, 98), (150, 146, 140), (134, 124, 110))
SEA: tuple[Colour, ...] = ((56, 104, 140), (74, 126, 140), (96, 120, 134), (48, 86, 110))
WALLS: tuple[Colour, ...] = (
    (222, 212, 192),
    (190, 204, 206),
    (206, 178, 158),
    (166, 178, 150),
    (232, 230, 224),
    (140, 120, 128),
)


def _sky(rng: Rng, height: int, width: int) -> F32:
    top = _colour(rng, SKIES)
    image = _wash(height, width, top, shade((top[0] + 40, top[1] + 30, top[2] + 14), 1.1))
    cover = noise(rng, height, width, (28, 70)) - rng.uniform(-0.5, 1.5)
    cloud = np.clip(cover * 0.5, 0, 1)[..., None] * rng.uniform(0.3, 0.9)
    return image * (1 - cloud) + 244 * cloud


def _behind(rng: Rng, image: F32, horizon: int) -> list[Clutter]:
    """Hills, and trees or houses on the horizon."""
    if rng.random() < 0.6:
        width = image.shape[1]
        crest = horizon - 12 - 7 * noise(rng, 1, width, (1, 80))[0]
        hill = np.clip(np.arange(horizon)[:, None] - crest + 0.5, 0, 1)[..., None]
        tint = np.array(_colour(rng, ((116, 140, 128), (140, 150, 160), (96, 116, 84))))
        image[:horizon] += (tint - image[:horizon]) * hill
    tall: tuple[Callable[[Pen], None], ...] = (
        (tree, tree, bush) if rng.random() < 0.5 else (house, tree)
    )
    return [
        Clutter(
            tall[rng.integers(len(tall))],
            float(rng.uniform(28, 75)),
            horizon + float(rng.uniform(1, 8)),
        )
        for _ in range(rng.integers(0, 5))
    ]


def _outdoors(rng: Rng, horizon: int, ground: F32) -> Setting:
    """Sky over the ground."""
    image = np.concatenate([_sky(rng, horizon, ground.shape[1]), ground])
    return Setting(image, horizon, _behind(rng, image, horizon))


def sky(rng: Rng, height: int, width: int) -> Setting:
    """Mostly sky."""
    return field(rng, height, width, float(rng.uniform(0.78, 0.92)))


def field(rng: Rng, height: int, width: int, share: float | None = None) -> Setting:
    """Grass, with stones and tufts."""
    horizon = int(height * (share or rng.uniform(0.22, 0.42)))
    rows = height - horizon
    green = _colour(rng, GRASS)
    ground = _wash(rows, width, shade(green, 1.15), shade(green, 0.85))
    ground += noise(rng, rows, width, (5, 7))[..., None] * rng.uniform(2, 6)
    ground += noise(rng, rows, width, (12, 50))[..., None] * rng.uniform(2, 7)
    place = _outdoors(rng, horizon, ground)
    for _ in range(rng.integers(0, 5)):
        draw = (stone, tuft, tuft)[rng.integers(3)]
        foot = horizon + float(rng.uniform(0.1, 1)) * rows
        place.clutter.append(Clutter(draw, float(rng.uniform(8, 22)), foot))
    return place


def road(rng: Rng, height: int, width: int) -> Setting:
    """A road across, with a kerb and perhaps a dashed line."""
    horizon = int(height * rng.uniform(0.25, 0.42))
    rows = height - horizon
    grey = _colour(rng, ASPHALT)
    ground = _wash(rows, width, shade(grey, 1.08), shade(grey, 0.88))
    verge = int(rows * rng.uniform(0.1, 0.25))
    ground[:verge] = _colour(rng, (*GRASS, (186, 180, 168)))
    ground[verge : verge + 2] = shade(grey, 1.35)
    ground += noise(rng, rows, width, (3, 4))[..., None] * rng.uniform(1.5, 4)
    ground += noise(rng, rows, width, (10, 60))[..., None] * rng.uniform(1.5, 4)
    if rng.random() < 0.6:
        line = int(rows * rng.uniform(0.45, 0.75))
        dash = np.arange(width) % 46 < rng.uniform(18, 46)
        ground[line : line + 4, dash] = ground[line : line + 4, dash] * 0.3 + 160
    place = _outdoors(rng, horizon, ground)
    if rng.random() < 0.5:
        foot = horizon + verge * 0.7
        place.clutter.append(Clutter(lamp, float(rng.uniform(60, 100)), foot))
    return place


def water(rng: Rng, height: int, width: int) -> Setting:
    """A lake or the sea, with ripples."""
    horizon = int(height * rng.uniform(0.3, 0.5))
    rows = height - horizon
    blue = _colour(rng, SEA)
    ground = _wash(rows, width, shade(blue, 1.2), shade(blue, 0.85))
    ground += noise(rng, rows, width, (2, 22))[..., None] * rng.uniform(3, 8)
    if rng.random() < 0.4:
        shore = int(rows * rng.uniform(0.75, 0.9))
        sand = noise(rng, rows - shore, width, (3, 5))[..., None] * 4
        ground[shore:] = np.array(_colour(rng, ((214, 196, 150), *GRASS))) + sand
    return replace(_outdoors(rng, horizon, ground), firm=False)


def _wall(rng: Rng, height: int, width: int) -> F32:
    """Plain, striped, or tiled."""
    paper = _colour(rng, WALLS)
    image = _wash(height, width, shade(paper, 0.95), shade(paper, 1.05))
    kind = rng.integers(4)
    if kind == 0:
        period = rng.uniform(12, 26)
        image[:, np.arange(width) % period < period / 2] *= rng.uniform(0.88, 0.95)
    elif kind == 1:
        period = int(rng.integers(14, 24))
        image[np.arange(height) % period == 0] *= 0.86
        image[:, np.arange(width) % period == 0] *= 0.86
    return image + noise(rng, height, width, (30, 30))[..., None] * 1.5


def _boards(rng: Rng, height: int, width: int, colours: tuple[Colour, ...]) -> F32:
    """A surface of boards, or a plain one."""
    wood = _colour(rng, colours)
    image = _wash(height, width, shade(wood, 0.95), shade(wood, 1.05))
    if rng.random() < 0.6:
        for row in np.geomspace(5, height, 6)[:-1].astype(int):
            image[row] *= 0.82
        image += noise(rng, height, width, (2, 60))[..., None] * 4
    else:
        image += noise(rng, height, width, (4, 5))[..., None] * 3
    return image


def room(rng: Rng, height: int, width: int) -> Setting:
    """A wall with things on it, and a floor."""
    horizon = int(height * rng.uniform(0.42, 0.6))
    floor = _boards(rng, height - horizon, width, (*WOODS, (150, 150, 150), (170, 120, 110)))
    image = np.concatenate([_wall(rng, horizon, width), floor])
    image[horizon - 4 : horizon] = shade(_colour(rng, WOODS), 1.2)
    clutter = [
        Clutter((picture, picture, window, curtain)[rng.integers(4)], float(rng.uniform(30, 70)), 0)
        for _ in range(rng.integers(0, 4))
    ]
    clutter = [
        Clutter(
            c.draw, min(c.size, horizon - 16), horizon - 10 - float(rng.uniform(0, 0.3)) * horizon
        )
        for c in clutter
    ]
    if rng.random() < 0.35:
        clutter.append(Clutter(cabinet, float(rng.uniform(50, 90)), horizon + 6.0))
    if rng.random() < 0.3:
        clutter.append(Clutter(carton, float(rng.uniform(24, 40)), horizon + 12.0))
    return Setting(image, horizon, clutter)


def desk(rng: Rng, height: int, width: int) -> Setting:
    """The top of a desk or a shelf before a wall, seen from near."""
    horizon = int(height * rng.uniform(0.55, 0.72))
    top = _boards(rng, height - horizon, width, WOODS)
    image = np.concatenate([_wall(rng, horizon, width), top])
    image[horizon : horizon + 2] *= 0.8
    clutter = []
    if rng.random() < 0.5:
        clutter.append(
            Clutter(picture, float(rng.uniform(40, 80)), horizon * float(rng.uniform(0.6, 0.9)))
        )
    for _ in range(rng.integers(0, 4)):
        draw = (books, carton, mug)[rng.integers(3)]
        clutter.append(
            Clutter(draw, float(rng.uniform(18, 40)), horizon + float(rng.uniform(4, 14)))
        )
    return Setting(image, horizon, clutter)


PLACES: dict[str, Callable[[Rng, int, int], Setting]] = {
    "sky": sky,
    "field": field,
    "road": road,
    "water": water,
    "room": room,
    "desk": desk,
}
