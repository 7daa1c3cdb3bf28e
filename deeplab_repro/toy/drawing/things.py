"""VOC's things indoors. Each function draws one with the pen, on the ground y = 0."""

import numpy as np

from deeplab_repro.toy.drawing.pen import GREENS, PAINTS, RUBBER, STEEL, WOODS, Colour, Pen, shade

BOTTLES: tuple[Colour, ...] = (
    (48, 96, 58),
    (112, 66, 34),
    (150, 186, 196),
    (60, 110, 160),
    (206, 214, 206),
)


def bottle(pen: Pen) -> None:
    """A round body with shoulders, a thin neck, a cap and a label."""
    glass = pen.pick((*BOTTLES, *BOTTLES, *PAINTS))
    wide = pen.between(0.13, 0.17)
    shoulder, neck = pen.between(0.54, 0.62), pen.between(0.045, 0.055)
    side = [
        (wide, 0.0),
        (wide, shoulder),
        (wide * 0.85, shoulder + 0.07),
        (neck, shoulder + 0.2),
        (neck, 0.92),
    ]
    pen.polygon([(-x, y) for x, y in side] + side[::-1], glass)
    pen.box(-neck - 0.012, 0.9, neck + 0.012, 1.0, pen.pick(PAINTS))
    label = pen.pick((*PAINTS, (240, 236, 220), (240, 236, 220)))
    low = pen.between(0.12, 0.2)
    pen.box(-wide, low, wide, low + pen.between(0.2, 0.28), label)
    pen.box(-wide * 0.6, low + 0.08, wide * 0.5, low + 0.13, shade(label, 0.5))
    with pen.on_it():
        pen.box(-wide * 0.75, 0.02, -wide * 0.5, shoulder, shade(glass, 1.6))
        pen.box(wide * 0.65, 0.0, wide * 1.1, shoulder, shade(glass, 0.65))


def chair(pen: Pen) -> None:
    """Four legs, a seat, and a back of slats with gaps."""
    wood = pen.pick((*WOODS, *PAINTS))
    seat, wide = pen.between(0.42, 0.48), pen.between(0.24, 0.28)
    lean, depth = 0.05, 0.1
    for x in (-wide + depth, wide + depth - 0.02):
        pen.line([(x, seat), (x, 0.1)], 0.04, shade(wood, 0.6))
    for x in (-wide, wide):
        pen.line([(x + depth, seat), (x + depth + lean, 0.97)], 0.045, shade(wood, 0.85))
    for i in range(int(pen.rng.integers(2, 4))):
        y = 0.95 - 0.15 * i
        slope = lean * (y - seat) / 0.5 + depth
        pen.line([(-wide + slope, y), (wide + slope, y)], 0.06, wood)
    top = [
        (-wide - 0.03, seat),
        (wide + 0.01, seat),
        (wide + depth + 0.02, seat + 0.08),
        (-wide + depth, seat + 0.08),
    ]
    pen.polygon(top, pen.pick(PAINTS) if pen.chance(0.4) else shade(wood, 1.15))
    pen.box(-wide - 0.03, seat - 0.05, wide + 0.01, seat, shade(wood, 0.8))
    for x in (-wide, wide - 0.02):
        pen.line([(x, seat - 0.03), (x, 0.02)], 0.045, wood)


def diningtable(pen: Pen) -> None:
    """A wide top on legs far apart, or a round one on a foot; perhaps a cloth, plates."""
    wood = pen.pick((*WOODS, *WOODS, *PAINTS))
    cloth = pen.pick(PAINTS) if pen.chance(0.35) else shade(wood, 1.15)
    high = pen.between(0.38, 0.46)
    if pen.chance(0.35):
        pen.ellipse(0, 0.04, 0.2, 0.045, shade(wood, 0.7))
        pen.line([(0, high), (0, 0.05)], 0.08, shade(wood, 0.8))
        pen.ellipse(0, high - 0.03, 0.49, 0.115, shade(cloth, 0.65))
        pen.ellipse(0, high, 0.49, 0.115, cloth)
    else:
        for x in (-0.33, 0.34):
            pen.line([(x, high), (x, 0.12)], 0.045, shade(wood, 0.6))
        for x in (-0.45, 0.45):
            pen.line([(x, high - 0.08), (x, 0.02)], 0.06, shade(wood, 0.85))
        pen.polygon(
            [(-0.5, high - 0.08), (0.5, high - 0.08), (0.38, high + 0.1), (-0.38, high + 0.1)],
            cloth,
        )
        pen.box(-0.5, high - 0.14, 0.5, high - 0.08, shade(cloth, 0.65))
    for x in (-0.2, 0.02, 0.22):
        if pen.chance(0.6):
            pen.ellipse(x, high + 0.01, 0.075, 0.024, (240, 238, 232))
            pen.ellipse(x, high + 0.012, 0.045, 0.014, (204, 200, 196))


def pottedplant(pen: Pen) -> None:
    """A pot with stems and leaves."""
    pot = pen.pick(((178, 92, 58), (206, 128, 86), *PAINTS, *WOODS))
    green = pen.pick(GREENS)
    rim = pen.between(0.26, 0.34)
    wide = pen.between(0.16, 0.2)
    broad = pen.chance(0.5)
    count = int(pen.rng.integers(5, 8))
    for i in pen.rng.permutation(count):
        angle = -1.0 + 2.0 * i / (count - 1) + pen.between(-0.1, 0.1)
        reach = pen.between(0.45, 0.62)
        tip = (reach * np.sin(angle) * 0.85, rim + reach * np.cos(angle * 0.8))
        tint = shade(green, pen.between(0.75, 1.3))
        pen.curve(
            [(0, rim - 0.03), (tip[0] * 0.3, rim + 0.55 * (tip[1] - rim)), tip],
            0.025,
            shade(green, 0.7),
        )
        if broad:
            pen.ellipse(tip[0], tip[1] - 0.05, 0.075, 0.14, tint, -angle)
        else:
            for share in (0.5, 0.75, 1.0):
                x, y = tip[0] * share, rim + (tip[1] - rim) * share**0.8
                pen.ellipse(x - 0.06, y, 0.075, 0.036, tint, 2.6)
                pen.ellipse(x + 0.06, y, 0.075, 0.036, tint, 0.5)
    if pen.chance(0.3):
        bloom = pen.pick(PAINTS)
        for _ in range(5):
            pen.ellipse(pen.between(-0.3, 0.3), rim + pen.between(0.3, 0.6), 0.05, 0.05, bloom)
    pen.polygon([(-wide, rim), (wide, rim), (wide * 0.7, 0.0), (-wide * 0.7, 0.0)], pot)
    pen.box(-wide - 0.03, rim - 0.075, wide + 0.03, rim, shade(pot, 1.15))
    pen.box(-wide, rim - 0.1, wide * 0.98, rim - 0.075, shade(pot, 0.65))


def sofa(pen: Pen) -> None:
    """Wide and soft: a back, two arms, seat cushions, short feet."""
    cloth = pen.pick((*PAINTS, *WOODS))
    top, seat = pen.between(0.44, 0.52), 0.24
    seats = int(pen.rng.integers(2, 4))
    for x in (-0.44, 0.44):
        pen.line([(x, 0.06), (x, 0.02)], 0.04, WOODS[1])
    back = [(-0.42, 0.1), (-0.42, top - 0.04), (-0.39, top), (0.39, top), (0.42, top - 0.04)]
    pen.polygon([*back, (0.42, 0.1)], shade(cloth, 0.85))
    step = 0.78 / seats
    for i in range(seats):
        left = -0.39 + i * step
        pen.box(left + 0.008, seat, left + step - 0.008, top - 0.05, shade(cloth, 0.95))
    pen.box(-0.46, 0.05, 0.46, seat - 0.06, shade(cloth, 0.7))
    for i in range(seats):
        left = -0.39 + i * step
        pen.box(left, seat - 0.08, left + step - 0.012, seat + 0.01, shade(cloth, 1.15))
    for side in (-1, 1):
        pen.box(side * 0.44 - 0.06, 0.05, side * 0.44 + 0.06, 0.34, cloth)
        pen.ellipse(side * 0.44, 0.34, 0.066, 0.05, shade(cloth, 1.12))
    if pen.chance(0.6):
        x, colour = pen.between(-0.25, 0.25), pen.pick(PAINTS)
        pen.polygon([(x - 0.09, 0.25), (x + 0.08, 0.24), (x + 0.1, 0.4), (x - 0.07, 0.42)], colour)


def tvmonitor(pen: Pen) -> None:
    """A dark frame around a lit screen, on a foot; or an old set with knobs and an aerial."""
    case = pen.pick((RUBBER, RUBBER, (70, 70, 74), STEEL, *WOODS[:2]))
    old = pen.chance(0.3)
    low = 0.06 if old else 0.15
    if old:
        for x in (-0.14, 0.16):
            pen.line([(0, 0.7), (x, 0.98)], 0.02, STEEL)
        for x in (-0.28, 0.28):
            pen.line([(x, 0.1), (x, 0.02)], 0.05, shade(case, 0.6))
        left, right, top = -0.4, 0.4, 0.72
        screen = (-0.35, low + 0.06, 0.2, top - 0.06)
    else:
        pen.box(-0.05, 0.02, 0.05, 0.2, shade(case, 0.8))
        pen.ellipse(0, 0.025, 0.2, 0.03, shade(case, 0.9))
        left, right, top = -0.5, 0.5, low + pen.between(0.56, 0.64)
        screen = (left + 0.04, low + 0.055, right - 0.04, top - 0.04)
    pen.box(left, low, right, top, case)
    _picture(pen, *screen)
    if old:
        for y in (0.58, 0.44):
            pen.ellipse(0.3, y, 0.045, 0.045, shade(STEEL, 0.9))
        for y in (0.16, 0.22, 0.28):
            pen.line([(0.25, y), (0.35, y)], 0.015, shade(case, 0.4))


def _picture(pen: Pen, x0: float, y0: float, x1: float, y1: float) -> None:
    """The screen's content: off, text, or a landscape."""
    kind = pen.rng.integers(3)
    width, height = x1 - x0, y1 - y0
    if kind == 0:
        pen.box(x0, y0, x1, y1, (26, 30, 40))
        shine = [
            (x0 + 0.1 * width, y0),
            (x0 + 0.35 * width, y0),
            (x0 + 0.65 * width, y1),
            (x0 + 0.4 * width, y1),
        ]
        pen.polygon(shine, (56, 64, 80))
        return
    paper = pen.pick(((70, 130, 200), (230, 234, 240), (120, 190, 220), (40, 60, 90)))
    pen.box(x0, y0, x1, y1, paper)
    if kind == 1:
        for i in range(5):
            y = y1 - (0.14 + 0.16 * i) * height
            pen.box(
                x0 + 0.08 * width,
                y - 0.06 * height,
                x0 + pen.between(0.4, 0.9) * width,
                y,
                shade(paper, 0.55),
            )
    else:
        hill = y0 + pen.between(0.3, 0.5) * height
        pen.polygon(
            [
                (x0, y0),
                (x0, hill),
                (x0 + 0.4 * width, hill + 0.2 * height),
                (x1, hill - 0.1 * height),
                (x1, y0),
            ],
            pen.pick(GREENS),
        )
        pen.ellipse(x0 + 0.75 * width, y0 + 0.75 * height, 0.06, 0.06, (250, 226, 140))
