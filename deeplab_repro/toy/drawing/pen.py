"""A pen that draws one thing on a transparent sheet, and the colours it draws with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageDraw

from deeplab_repro.arrays import F32

Colour = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLING = 3

# In pixels. The border of void takes one pixel of an object on either side, so a part that is three
# pixels wide keeps one with the object's label.
THINNEST = 3.4

_LEFT, _RIGHT, _BELOW, _ABOVE = 0.75, 0.75, 0.25, 1.15
_TURNS = np.linspace(0, 2 * np.pi, 28, endpoint=False)

PAINTS: tuple[Colour, ...] = (
    (196, 48, 42),
    (44, 84, 168),
    (236, 196, 60),
    (232, 232, 228),
    (52, 54, 60),
    (60, 132, 82),
    (222, 122, 44),
    (150, 154, 160),
    (92, 164, 202),
    (122, 62, 112),
    (214, 196, 160),
)
FURS: tuple[Colour, ...] = (
    (120, 78, 48),
    (74, 50, 38),
    (226, 216, 200),
    (48, 44, 44),
    (176, 128, 80),
    (132, 126, 120),
    (204, 166, 112),
    (156, 84, 46),
)
WOODS: tuple[Colour, ...] = (
    (142, 96, 58),
    (98, 64, 40),
    (190, 146, 96),
    (216, 188, 144),
    (70, 48, 36),
    (226, 222, 212),
)
SKINS: tuple[Colour, ...] = ((226, 184, 156), (198, 146, 112), (142, 96, 68), (92, 62, 46))
GREENS: tuple[Colour, ...] = ((62, 118, 52), (98, 142, 60), (44, 92, 56), (128, 152, 70))
RUBBER: Colour = (38, 38, 42)
GLASS: Colour = (70, 92, 110)
STEEL: Colour = (168, 172, 178)


def shade(colour: Colour, light: float) -> Colour:
    """The colour, lighter (above 1) or darker."""
    red, green, blue = (min(255, max(0, round(c * light))) for c in colour)
    return red, green, blue


class Pen:
    """Draws in units of the thing's longer side: x right from its middle, y up from its foot.

    `size` is that side in the scene's pixels. Things face right; `flip` mirrors and `tilt` turns
    them (radians); `airborne` asks for a flying pose. Later drawing covers earlier.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        size: float,
        flip: bool = False,
        tilt: float = 0.0,
        airborne: bool = False,
    ) -> None:
        self.rng = rng
        self.airborne = airborne
        self.size = size
        self._scale = size * SUPERSAMPLING
        width, height = _LEFT + _RIGHT, _BELOW + _ABOVE
        self._picture = Image.new("RGBA", (int(width * self._scale), int(height * self._scale)))
        self._draw = ImageDraw.Draw(self._picture)
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        self._matrix = self._scale * turn @ np.diag([-1.0 if flip else 1.0, 1.0])
        self._matrix[1] *= -1

    def between(self, low: float, high: float) -> float:
        """A random number."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def pick(self, colours: Sequence[Colour]) -> Colour:
        """One of the colours, a little changed."""
        base = colours[int(self.rng.integers(len(colours)))]
        red, green, blue = (int(c + self.rng.integers(-14, 15)) for c in base)
        return shade((red, green, blue), self.between(0.85, 1.12))

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon(self._pixels(points), fill=colour)

    def blob(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a smooth outline through the points."""
        self.polygon(_smooth([points[-1], *points, points[0], points[1]]), colour)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float = 0.0
    ) -> None:
        """Fill an ellipse, turned to the left by `turn` (radians)."""
        across, up = rx * np.cos(_TURNS), ry * np.sin(_TURNS)
        xs = x + across * np.cos(turn) - up * np.sin(turn)
        ys = y + across * np.sin(turn) + up * np.cos(turn)
        self.polygon(list(zip(xs.tolist(), ys.tolist(), strict=True)), colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line with round ends, never thinner than THINNEST."""
        pixels = self._pixels(points)
        thick = max(width * self._scale, THINNEST * SUPERSAMPLING)
        self._draw.line(pixels, fill=colour, width=round(thick), joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            r = thick / 2 - 0.5
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def curve(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a smooth line through the points."""
        self.line(_smooth([points[0], *points, points[-1]]), width, colour)

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
        """Draw a circle without filling it."""
        circle = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in (*_TURNS, 0.0, 0.2)]
        self.line(circle, width, colour)

    @contextmanager
    def on_it(self) -> Iterator[None]:
        """Inside this block the pen paints only on what is already drawn."""
        before = self._picture.getchannel("A")
        yield
        self._picture.putalpha(before)

    def sheet(self) -> tuple[F32, F32, tuple[int, int]]:
        """The drawing in the scene's pixels: hxwx3 colours, hxw opacity 0..1, and its place.

        The place is (left, top), relative to the point x = 0, y = 0.
        """
        cell = SUPERSAMPLING
        left, top, right, bottom = self._picture.getbbox() or (0, 0, cell, cell)
        left, top = left // cell - 1, top // cell - 1
        right, bottom = right // cell + 2, bottom // cell + 2
        box = (left * cell, top * cell, right * cell, bottom * cell)
        small = np.asarray(self._picture.crop(box).reduce(cell), np.float32)
        origin = self._pixels([(0, 0)])[0]
        place = (left - round(origin[0] / cell), top - round(origin[1] / cell))
        return small[..., :3], small[..., 3] / np.float32(255), place

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        xy = np.asarray(points, float) @ self._matrix.T
        xy += (_LEFT * self._scale, _ABOVE * self._scale)
        return [(x, y) for x, y in xy.tolist()]


def _smooth(points: Sequence[Point]) -> list[Point]:
    """A Catmull-Rom spline from the second point to the last but one, through all between."""
    p = np.asarray(points, float)[:, None, :]
    t = np.linspace(0, 1, 7, endpoint=False)[None, :, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    return [(x, y) for x, y in (*curve.reshape(-1, 2).tolist(), p[-2, 0].tolist())]
