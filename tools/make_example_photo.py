"""Draw examples/street.jpg: a street with a bus, a person and trees, like a photo.

    python tools/make_example_photo.py [OUT.jpg] [--seed N]

All of it is computed here, so that the example is free of anybody's rights. The scene is laid
out in metres before a pinhole camera, drawn three times too large, shrunk, and then blurred and
noised as a camera would. The same seed gives the same picture.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deeplab_repro.files.images import write_image

WIDTH, HEIGHT = 500, 375
SCALE = 3  # drawn larger and shrunk: smooth edges
FOCAL, HORIZON, MIDDLE, EYE = 520.0, 172.0, 205.0, 1.6  # pixels, pixels, pixels, metres

Colour = tuple[int, int, int]
Point = tuple[float, float]


def project(x: float, y: float, z: float) -> Point:
    """Return where a point is in the large picture; metres to the right, up and ahead."""
    return (
        SCALE * (MIDDLE + FOCAL * x / z),
        SCALE * (HORIZON + FOCAL * (EYE - y) / z),
    )


def noise(rng: np.random.Generator, height: int, width: int, cell: Point) -> np.ndarray:
    """Return HxW noise of mean 0 and about +-1 in five octaves, the coarsest of `cell` pixels."""
    total = np.zeros((height, width), np.float32)
    for octave in range(5):
        step = [max(c / 2**octave, 1) for c in cell]
        grid = rng.normal(size=(int(height / step[0]) + 3, int(width / step[1]) + 3))
        picture = Image.fromarray(grid.astype(np.float32))
        box = (1, 1, 1 + width / step[1], 1 + height / step[0])
        fine = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
        total += np.asarray(fine) / 1.7**octave
    return total / total.std()


class Scene:
    """The large picture, drawn from back to front."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.picture = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE))

    def fill(self, points: list[Point], colour: Colour, soft: float = 0) -> None:
        """Fill a polygon of large pixels; `soft` is the blur of its edge."""
        if not soft:
            ImageDraw.Draw(self.picture).polygon(points, fill=colour)
            return
        mask = self.mask(points, soft)
        self.picture.paste(Image.new("RGB", self.picture.size, colour), mask=mask)

    def mask(self, points: list[Point], soft: float) -> Image.Image:
        mask = Image.new("L", self.picture.size)
        ImageDraw.Draw(mask).polygon(points, fill=255)
        return mask.filter(ImageFilter.GaussianBlur(soft * SCALE))

    def shade(self, points: list[Point], light: float, soft: float) -> None:
        """Multiply a soft-edged polygon by `light`: a shadow below 1, a shine above."""
        mask = np.asarray(self.mask(points, soft), np.float32)[..., None] / 255
        pixels = np.asarray(self.picture, np.float32) * (1 + (light - 1) * mask)
        self.picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    def box(self, x0: float, y0: float, x1: float, y1: float, z: float, colour: Colour) -> None:
        """Fill an upright rectangle that faces the camera; metres."""
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        self.fill([project(x, y, z) for x, y in corners], colour)

    def side(self, x: float, y0: float, z0: float, y1: float, z1: float, colour: Colour) -> None:
        """Fill an upright rectangle that runs away from the camera; metres."""
        corners = ((y0, z0), (y0, z1), (y1, z1), (y1, z0))
        self.fill([project(x, y, z) for y, z in corners], colour)

    def ground(self, x0: float, z0: float, x1: float, z1: float) -> list[Point]:
        return [project(x, 0, z) for x, z in ((x0, z0), (x1, z0), (x1, z1), (x0, z1))]

    def sky(self) -> None:
        height, width = HEIGHT * SCALE, WIDTH * SCALE
        down = np.clip(np.arange(height)[:, None, None] / (HORIZON * SCALE), 0, 1)
        blue = np.array([92, 142, 208]) * (1 - down) + np.array([212, 228, 240]) * down
        sheet = noise(self.rng, height, width, (110 * SCALE, 300 * SCALE))
        cover = np.clip((sheet - 0.1 + 0.5 * down[..., 0]) * 0.75, 0, 1)[..., None] ** 1.3
        lit = 252 - 12 * np.clip(np.roll(sheet, -12 * SCALE, axis=0), 0, 2)[..., None]
        sky = blue * (1 - 0.9 * cover) + lit * 0.9 * cover
        self.picture = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))

    def hills(self) -> None:
        across = np.arange(0, WIDTH * SCALE + SCALE, SCALE)
        for base, rise, colour in ((26, 9, (150, 172, 190)), (15, 7, (118, 146, 140))):
            crest = noise(self.rng, 1, len(across), (1, 130))[0]
            tops = SCALE * (HORIZON - base - rise * crest)
            outline = [(float(x), float(y)) for x, y in zip(across, tops, strict=True)]
            bottom = SCALE * HORIZON + 9
            self.fill([(0, bottom), *outline, (WIDTH * SCALE, bottom)], colour, soft=0.7)

    def land(self) -> None:
        height, width = HEIGHT * SCALE, WIDTH * SCALE
        top = int(HORIZON * SCALE)
        rows = np.arange(top, height)[:, None] + 0.5
        z = FOCAL * EYE / np.maximum(rows / SCALE - HORIZON, 0.2)
        x = (np.arange(width)[None] / SCALE - MIDDLE) * z / FOCAL
        far = np.clip(z / 70, 0, 1)[..., None]

        def textured(colour: Colour, grain: float, patches: float) -> np.ndarray:
            fine = noise(self.rng, height - top, width, (5, 5)) * grain
            coarse = noise(self.rng, height - top, width, (25 * SCALE, 110 * SCALE)) * patches
            return np.array(colour) * (1 + (fine * (1 - far[..., 0]) + coarse)[..., None])

        out = textured((112, 138, 66), 0.17, 0.10)
        pavement = textured((176, 168, 156), 0.045, 0.03)
        slabs = (np.mod(z, 1.2) < 0.035 * (1 + z / 9)) | (np.abs(x + 1.3) < 0.018)
        pavement[slabs] *= 0.82
        road = textured((96, 97, 101), 0.07, 0.04)
        wear = np.exp(-((np.mod(x + 0.35, 1.75) - 0.87) ** 2) / 0.12)
        road *= (1 + 0.08 * wear)[..., None]
        for left, right, layer in (
            (-2.6, 0.55, pavement),
            (0.78, 8.2, road),
            (8.4, 10.6, pavement),
        ):
            inside = (x > left) & (x < right)
            out[inside] = layer[inside]
        curb = ((x > 0.55) & (x < 0.78)) | ((x > 8.2) & (x < 8.4))
        out[curb] = np.array([190, 187, 180])
        out[(x > 0.74) & (x < 0.8)] *= 0.6
        dash = (np.abs(x - 4.35) < 0.07) & (np.mod(z - 1.0, 5.0) < 2.4)
        out[dash] = out[dash] * 0.2 + np.array([222, 220, 212]) * 0.8
        out = out * (1 - 0.55 * far) + np.array([150, 168, 158]) * 0.55 * far
        pixels = np.array(self.picture)
        pixels[top:] = np.clip(out, 0, 255)
        self.picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(self.picture)
        for depth in np.sort(self.rng.uniform(3.2, 30, 9000))[::-1]:
            place = self.rng.uniform(-22, 24)
            if not (place < -2.65 or place > 10.7):
                continue
            foot = project(place, 0, depth)
            tip = project(place + self.rng.normal(0, 0.05), self.rng.uniform(0.04, 0.13), depth)
            light = self.rng.uniform(0.75, 1.3)
            blade = tuple(int(c * light) for c in (98, 130, 52))
            draw.line([foot, tip], fill=blade, width=2 if depth < 8 else 1)

    def tree(self, x: float, z: float, height: float, spread: float, green: Colour) -> None:
        """Draw a tree of `height` metres, its crown `spread` metres wide, lit from the left."""
        haze = min(z / 150, 0.4)
        air = np.array([158, 182, 186])

        def hazed(colour: Colour | list[float]) -> Colour:
            red, green, blue = (np.array(colour) * (1 - haze) + air * haze).astype(int)
            return int(red), int(green), int(blue)

        trunk = [(-0.2, 0), (0.2, 0), (0.12, 0.6 * height), (-0.12, 0.6 * height)]
        self.fill([project(x + dx, y, z) for dx, y in trunk], hazed((84, 68, 54)))
        right = [(0.05, 0), (0.2, 0), (0.12, 0.6 * height), (0.03, 0.6 * height)]
        self.fill([project(x + dx, y, z) for dx, y in right], hazed((58, 47, 38)))
        draw = ImageDraw.Draw(self.picture)
        clumps = []
        for _ in range(26):
            angle, reach = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0, 1) ** 0.5
            clumps.append(
                (
                    x + 0.36 * spread * reach * np.cos(angle),
                    0.66 * height + 0.25 * height * reach * np.sin(angle),
                    self.rng.uniform(0.13, 0.2) * spread,
                )
            )
        clumps.sort(key=lambda clump: clump[1] - 0.4 * clump[0])
        for cx, cy, radius in clumps:
            for _ in range(240):
                angle, reach = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0, 1) ** 0.6
                dx, dy = reach * np.cos(angle), reach * np.sin(angle)
                light = 0.72 + 0.3 * (0.75 * dy - 0.6 * dx) + 0.22 * (cy / height - 0.6)
                light *= self.rng.uniform(0.72, 1.2)
                px, py = project(cx + dx * radius, cy + dy * radius, z)
                leaf = SCALE * FOCAL / z * self.rng.uniform(0.04, 0.11)
                tone = hazed([c * light for c in green])
                draw.ellipse((px - leaf, py - 0.7 * leaf, px + leaf, py + 0.7 * leaf), fill=tone)

    def wheel(self, x: float, z: float, radius: float) -> None:
        """Draw a wheel on the left side of the bus."""
        for share, colour in ((1.0, (28, 28, 30)), (0.62, (120, 122, 126)), (0.3, (70, 71, 74))):
            turn = np.linspace(0, 2 * np.pi, 40)
            rim = [
                project(x, radius + share * radius * np.sin(a), z + share * radius * np.cos(a))
                for a in turn
            ]
            self.fill(rim, colour)

    def bus(self) -> None:
        left, right, near, far, floor, top = 4.75, 7.3, 13.5, 24.5, 0.38, 3.15
        self.shade(self.ground(left - 0.3, near - 0.35, right + 1.6, far), 0.42, 2.2)
        self.shade(self.ground(left, near - 0.05, right + 0.1, far), 0.3, 0.9)
        self.side(left, floor, near, top, far, (196, 52, 40))
        self.side(left, floor, near, 0.75, far, (122, 34, 30))
        self.side(left, 1.42, near, 1.52, far, (238, 226, 208))
        self.side(left, 1.62, near + 0.4, 2.72, far - 0.3, (44, 54, 64))
        for start in np.arange(near + 0.4, far - 0.5, 1.75):
            self.side(left, 2.1, start + 0.12, 2.66, start + 1.6, (92, 116, 134))
            self.side(left, 1.62, start - 0.06, 2.72, start + 0.08, (150, 42, 36))
        self.side(left, 2.98, near, top, far, (228, 218, 204))
        for z in (far - 3.0, near + 2.2):
            self.side(left, floor, z - 0.62, 1.06, z + 0.62, (40, 22, 22))
            self.wheel(left - 0.01, z, 0.5)
        self.box(left, floor, right, top, near, (176, 44, 36))
        self.box(left, 2.98, right, top, near, (206, 196, 184))
        self.box(left + 0.1, 1.5, right - 0.1, 2.55, near, (36, 44, 52))
        shine = ((0.3, 1.55), (1.0, 1.55), (1.75, 2.5), (0.85, 2.5))
        glass = [project(left + x, y, near) for x, y in shine]
        self.fill(glass, (78, 98, 114), soft=1.2)
        self.box(left + 1.25, 1.5, left + 1.3, 2.55, near, (28, 30, 32))
        self.box(left + 0.35, 2.62, right - 0.35, 2.93, near, (22, 23, 24))
        for start in np.arange(0.7, 1.75, 0.11):  # the destination, in lamps
            for row in np.flatnonzero(self.rng.uniform(size=3) < 0.65):
                y = 2.69 + 0.07 * row
                self.box(left + start, y, left + start + 0.07, y + 0.05, near, (250, 190, 70))
        self.box(left, 0.3, right, 0.72, near, (60, 60, 63))
        self.box(left + 0.85, 0.42, right - 0.85, 0.58, near, (226, 222, 196))
        for x in (left + 0.12, right - 0.5):
            self.box(x, 0.82, x + 0.38, 1.06, near, (236, 236, 226))
            self.box(x, 0.76, x + 0.38, 0.82, near, (226, 140, 50))
        self.box(left, 1.22, right, 1.3, near, (238, 226, 208))
        for x in (left - 0.2, right + 0.04):
            self.box(x, 1.9, x + 0.16, 2.4, near, (30, 30, 32))
        for x in (left + 0.1, right - 0.45):
            self.box(x, 0, x + 0.34, 0.34, near, (24, 24, 26))

    def person(self, x: float, z: float) -> None:
        def part(outline: list[Point], colour: Colour, soft: float = 0.35) -> None:
            self.fill([project(x + px, py, z) for px, py in outline], colour, soft)

        def oval(cx: float, cy: float, rx: float, ry: float, colour: Colour) -> None:
            turn = np.linspace(0, 2 * np.pi, 40)
            part([(cx + rx * np.cos(a), cy + ry * np.sin(a)) for a in turn], colour)

        shadow = ((-0.2, 0), (0.15, -0.1), (1.9, 0.9), (1.75, 1.25), (1.2, 1.0))
        self.shade([project(x + dx, 0, z + dz) for dx, dz in shadow], 0.5, 1.5)
        jeans, dark_jeans, coat, dark_coat = (
            (58, 74, 108),
            (42, 54, 82),
            (214, 164, 56),
            (168, 122, 40),
        )
        skin, hair = (222, 178, 150), (66, 44, 32)
        part(
            [(0.02, 0.9), (0.2, 0.9), (0.24, 0.45), (0.26, 0.08), (0.14, 0.08), (0.1, 0.45)],
            dark_jeans,
        )
        part([(0.12, 0.1), (0.27, 0.1), (0.28, 0.0), (0.08, 0.0)], (52, 40, 36))
        part(
            [(-0.2, 0.9), (0.06, 0.9), (0.0, 0.45), (-0.08, 0.08), (-0.2, 0.08), (-0.19, 0.45)],
            jeans,
        )
        part([(-0.2, 0.1), (-0.07, 0.1), (-0.06, 0.0), (-0.28, 0.0)], (62, 48, 42))
        part(
            [(0.19, 1.42), (0.27, 1.32), (0.33, 1.05), (0.3, 0.84), (0.22, 0.84), (0.2, 1.1)],
            dark_coat,
        )
        oval(0.265, 0.8, 0.045, 0.06, (196, 150, 124))
        part(
            [(-0.1, 1.5), (0.1, 1.5), (0.22, 1.42), (0.23, 0.82), (-0.23, 0.82), (-0.22, 1.42)],
            coat,
        )
        part(
            [(0.04, 1.5), (0.1, 1.5), (0.22, 1.42), (0.23, 0.82), (0.08, 0.82)], (190, 142, 46), 1.6
        )
        part(
            [(-0.2, 1.42), (-0.28, 1.3), (-0.34, 1.05), (-0.3, 0.84), (-0.22, 0.84), (-0.23, 1.1)],
            coat,
        )
        part([(-0.215, 1.3), (-0.2, 1.3), (-0.21, 0.86), (-0.225, 0.86)], dark_coat)
        oval(-0.265, 0.8, 0.045, 0.06, skin)
        part([(-0.05, 1.58), (0.06, 1.58), (0.07, 1.47), (-0.06, 1.47)], (190, 146, 120))
        oval(0.0, 1.655, 0.115, 0.135, hair)
        oval(-0.012, 1.635, 0.085, 0.115, skin)
        part(
            [(-0.11, 1.7), (-0.05, 1.78), (0.08, 1.77), (0.1, 1.66), (0.05, 1.72), (-0.06, 1.72)],
            hair,
        )
        part([(0.03, 1.72), (0.08, 1.66), (0.06, 1.56), (0.02, 1.53)], (196, 150, 122), 1.0)
        for eye in (-0.047, 0.022):
            oval(eye, 1.65, 0.012, 0.009, (60, 44, 38))
            part([(eye - 0.02, 1.676), (eye + 0.02, 1.676), (eye + 0.02, 1.668)], hair)
        part([(-0.04, 1.578), (0.02, 1.578), (0.005, 1.57), (-0.03, 1.57)], (168, 98, 88))
        part([(-0.02, 1.64), (-0.008, 1.64), (0.0, 1.605), (-0.02, 1.602)], (200, 150, 124))
        part([(0.02, 1.44), (0.12, 1.44), (-0.2, 0.98), (-0.23, 1.04)], (70, 52, 44), 0.2)

    def photograph(self) -> np.ndarray:
        """Return the picture as a camera would have taken it: HxWx3 uint8."""
        small = self.picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        light = np.asarray(small.filter(ImageFilter.GaussianBlur(0.55)), np.float32)
        y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
        light = light * (1.08 - 0.1 * (x**2 + y**2))[..., None] * np.array([1.02, 1.0, 0.97])
        grain = self.rng.normal(size=light.shape) * (1.6 + 0.01 * light)
        return np.clip(np.rint(light + grain), 0, 255).astype(np.uint8)


def draw(seed: int) -> np.ndarray:
    """Return the street as 375x500x3 uint8 RGB."""
    scene = Scene(seed)
    scene.sky()
    scene.hills()
    scene.land()
    for x, z, height in (
        (-16, 60, 7),
        (-9, 52, 8),
        (-3, 64, 7),
        (14, 60, 8),
        (21, 55, 9),
        (27, 60, 8),
    ):
        scene.tree(x, z, height, height * 1.1, (70, 100, 52))
    scene.shade(scene.ground(12.5, 20, 17, 24), 0.6, 2)
    scene.tree(13.5, 24, 8.5, 6.5, (86, 122, 48))
    scene.bus()
    scene.shade(scene.ground(-5.5, 13, -0.2, 16.5), 0.55, 3)
    scene.tree(-4.3, 14.5, 6.6, 5.4, (100, 138, 52))
    scene.person(-0.75, 6.6)
    return scene.photograph()


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the example photo.")
    parser.add_argument("out", nargs="?", default="examples/street.jpg", type=Path)
    parser.add_argument("--seed", default=2015, type=int)
    arguments = parser.parse_args()
    write_image(arguments.out, draw(arguments.seed))


if __name__ == "__main__":
    main()
