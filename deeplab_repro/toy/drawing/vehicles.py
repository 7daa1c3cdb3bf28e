"""VOC's vehicles. Each function draws one with the pen, on the ground y = 0, facing right."""

import numpy as np

from deeplab_repro.toy.drawing.pen import (
    FURS,
    GLASS,
    PAINTS,
    RUBBER,
    STEEL,
    WOODS,
    Colour,
    Pen,
    shade,
)


def _wheel(pen: Pen, x: float, radius: float, hub: Colour = STEEL) -> None:
    pen.ellipse(x, radius, radius, radius, RUBBER)
    pen.ellipse(x, radius, 0.58 * radius, 0.58 * radius, hub)
    pen.ellipse(x, radius, 0.2 * radius, 0.2 * radius, shade(hub, 0.5))


def aeroplane(pen: Pen) -> None:
    """A long body with a nose, swept wings and a tail fin; on the ground, with wheels."""
    paint = pen.pick((*PAINTS, (236, 238, 240), (224, 228, 232)))
    trim = pen.pick(PAINTS)
    fat = pen.between(0.08, 0.105)
    y = 0.26
    if not pen.airborne:
        for x in (-0.04, 0.34):
            pen.line([(x, y), (x, 0.03)], 0.02, STEEL)
            pen.ellipse(x, 0.025, 0.032, 0.032, RUBBER)
    pen.polygon(
        [(0.02, y + 0.02), (0.16, y + 0.02), (-0.06, y + 0.24), (-0.14, y + 0.24)],
        shade(paint, 0.62),
    )
    pen.polygon([(-0.46, y + 0.01), (-0.28, y + 0.01), (-0.38, y + 0.3), (-0.49, y + 0.3)], trim)
    body = [
        (-0.5, y + 0.05),
        (-0.3, y + fat),
        (0.1, y + fat),
        (0.38, y + 0.8 * fat),
        (0.5, y - 0.02),
        (0.38, y - fat),
        (0.1, y - fat),
        (-0.2, y - fat),
    ]
    pen.blob(body, paint)
    with pen.on_it():
        pen.box(-0.6, y - 0.1, 0.6, y - 0.05, shade(paint, 0.7))
        if pen.chance(0.5):
            pen.box(-0.6, y - 0.01, 0.6, y + 0.015, trim)
        pen.polygon([(0.36, y + 0.1), (0.4, y + 0.02), (0.5, y + 0.02), (0.5, y + 0.1)], GLASS)
    for x in np.linspace(-0.26, 0.28, 9):
        pen.ellipse(float(x), y + 0.04, 0.014, 0.018, GLASS)
    pen.polygon(
        [(-0.43, y + 0.04), (-0.33, y + 0.03), (-0.46, y - 0.07), (-0.53, y - 0.07)],
        shade(paint, 0.8),
    )
    pen.polygon(
        [(0.2, y - 0.03), (0.0, y - 0.02), (-0.24, y - 0.26), (-0.15, y - 0.26)], shade(paint, 0.78)
    )
    pen.ellipse(0.08, y - 0.12, 0.085, 0.04, shade(trim, 0.8))
    pen.ellipse(0.15, y - 0.12, 0.016, 0.035, RUBBER)


def bicycle(pen: Pen) -> None:
    """Two thin wheels and a frame of tubes, with gaps."""
    paint = pen.pick(PAINTS)
    r = pen.between(0.2, 0.225)
    rear, front, crank = (-0.28, r), (0.28, r), (-0.05, r * 0.95)
    saddle, head = (-0.12, r + 0.3), (0.2, r + 0.3)
    for x, _ in (rear, front):
        turn = pen.between(0, 1)
        for angle in (turn, turn + np.pi / 2):
            dx, dy = r * np.cos(angle), r * np.sin(angle)
            pen.line([(x - dx, r - dy), (x + dx, r + dy)], 0.01, STEEL)
        pen.ring(x, r, r, 0.035, RUBBER)
    tubes = (
        (rear, crank),
        (rear, saddle),
        (crank, saddle),
        (crank, head),
        (saddle, head),
        (head, front),
    )
    for start, end in tubes:
        pen.line([start, end], 0.032, paint)
    pen.line(
        [(head[0], head[1]), (head[0] - 0.02, head[1] + 0.08), (head[0] + 0.1, head[1] + 0.1)],
        0.032,
        RUBBER,
    )
    pen.line([saddle, (-0.13, r + 0.36)], 0.03, STEEL)
    pen.line([(-0.2, r + 0.37), (-0.07, r + 0.37)], 0.05, RUBBER)
    pen.ellipse(*crank, 0.05, 0.05, shade(STEEL, 0.7))


def motorbike(pen: Pen) -> None:
    """Two fat wheels, between them an engine, above it a tank and a seat."""
    paint = pen.pick(PAINTS)
    r = pen.between(0.165, 0.185)
    for x in (-0.31, 0.31):
        pen.ring(x, r, r - 0.03, 0.07, RUBBER)
        pen.line([(x - r * 0.7, r), (x + r * 0.7, r)], 0.02, STEEL)
        pen.line([(x, r * 0.3), (x, r * 1.7)], 0.02, STEEL)
        pen.ellipse(x, r, 0.06, 0.06, STEEL)
    pen.line([(0.31, r), (0.2, 0.56)], 0.045, STEEL)
    pen.polygon([(-0.16, 0.12), (0.12, 0.12), (0.19, 0.36), (-0.2, 0.36)], (84, 86, 92))
    pen.ellipse(0.0, 0.22, 0.085, 0.08, STEEL)
    pen.line([(0.06, 0.13), (-0.2, 0.12), (-0.42, 0.17)], 0.05, shade(STEEL, 1.15))
    pen.blob([(-0.44, 0.47), (-0.2, 0.4), (-0.04, 0.36), (-0.06, 0.46), (-0.3, 0.51)], RUBBER)
    pen.blob([(-0.08, 0.38), (0.18, 0.36), (0.23, 0.47), (0.1, 0.54), (-0.04, 0.49)], paint)
    pen.polygon([(-0.46, 0.38), (-0.2, 0.31), (-0.2, 0.42), (-0.46, 0.46)], paint)
    pen.line([(0.2, 2 * r + 0.01), (0.31, 2 * r + 0.04), (0.43, 2 * r - 0.03)], 0.05, paint)
    pen.line([(0.2, 0.56), (0.19, 0.64), (0.08, 0.64)], 0.035, RUBBER)
    pen.ellipse(0.265, 0.53, 0.06, 0.06, (236, 230, 196))


def car(pen: Pen) -> None:
    """A body with a cabin, two wheels and windows."""
    paint = pen.pick(PAINTS)
    roof = pen.between(0.36, 0.42)
    back = pen.between(-0.44, -0.26)
    belt = 0.24
    hull = [
        (-0.49, 0.08),
        (-0.5, 0.22),
        (-0.42, 0.26),
        (0.22, 0.27),
        (0.44, 0.22),
        (0.5, 0.16),
        (0.49, 0.08),
    ]
    cabin = [(back, belt), (back + 0.08, roof), (0.08, roof), (0.26, belt)]
    pen.polygon(cabin, paint)
    pen.polygon(hull, paint)
    window = [
        (back + 0.05, belt + 0.01),
        (back + 0.11, roof - 0.035),
        (0.06, roof - 0.035),
        (0.2, belt + 0.01),
    ]
    pen.polygon(window, GLASS)
    pen.polygon(
        [(0.02, belt + 0.02), (-0.04, roof - 0.035), (0.0, roof - 0.035), (0.08, belt + 0.02)],
        shade(GLASS, 1.5),
    )
    pen.box(-0.11, belt, -0.075, roof - 0.02, paint)
    pen.box(-0.5, 0.08, 0.49, 0.115, shade(paint, 0.5))
    pen.box(-0.095, 0.12, -0.085, 0.25, shade(paint, 0.6))
    pen.box(-0.04, 0.2, 0.0, 0.212, shade(paint, 0.5))
    pen.ellipse(0.46, 0.19, 0.03, 0.025, (246, 238, 200))
    pen.box(-0.5, 0.17, -0.465, 0.215, (180, 40, 36))
    r = pen.between(0.085, 0.1)
    for x in (-0.29, 0.3):
        pen.ellipse(x, r, r * 1.2, r * 1.2, shade(paint, 0.35))
        _wheel(pen, x, r)


def bus(pen: Pen) -> None:
    """A high box with a row of large windows and doors."""
    paint = pen.pick(PAINTS)
    trim = pen.pick(PAINTS)
    top = pen.between(0.44, 0.54)
    hull = [(-0.5, 0.065), (-0.5, top - 0.03), (-0.47, top), (0.45, top), (0.49, top - 0.04)]
    pen.polygon([*hull, (0.5, 0.065)], paint)
    sill = top - 0.24
    with pen.on_it():
        pen.box(-0.6, 0.02, 0.6, 0.11, shade(paint, 0.5))
        pen.box(-0.6, sill - 0.06, 0.6, sill - 0.025, trim)
        pen.box(-0.6, top - 0.045, 0.6, top + 0.1, shade(paint, 1.25))
        pen.box(0.41, sill - 0.06, 0.6, top - 0.05, GLASS)
    count = int(pen.rng.integers(4, 6))
    step = 0.66 / count
    for i in range(count):
        left = -0.46 + i * step
        pen.box(left, sill, left + 0.8 * step, top - 0.07, GLASS)
        pen.polygon(
            [
                (left, sill),
                (left + 0.3 * step, sill),
                (left + 0.6 * step, top - 0.07),
                (left + 0.3 * step, top - 0.07),
            ],
            shade(GLASS, 1.4),
        )
    pen.box(0.23, 0.09, 0.37, top - 0.07, shade(paint, 0.6))
    pen.box(0.24, 0.11, 0.293, top - 0.08, shade(GLASS, 1.2))
    pen.box(0.307, 0.11, 0.36, top - 0.08, shade(GLASS, 1.2))
    pen.ellipse(0.465, 0.14, 0.025, 0.025, (246, 238, 200))
    for x in (-0.28, 0.15):
        _wheel(pen, x, 0.085)


def train(pen: Pen) -> None:
    """A low long engine with a slanted nose and a coach, on many small wheels."""
    paint, trim = pen.pick(PAINTS), pen.pick(PAINTS)
    top = pen.between(0.31, 0.36)
    pen.box(-0.54, 0.02, 0.4, 0.075, (58, 56, 58))
    for x in np.linspace(-0.48, 0.33, 8):
        pen.ellipse(float(x), 0.035, 0.036, 0.036, RUBBER)
        pen.ellipse(float(x), 0.035, 0.014, 0.014, STEEL)
    pen.polygon(
        [(-0.04, 0.06), (-0.04, top), (0.28, top), (0.4, top - 0.07), (0.52, 0.13), (0.5, 0.06)],
        paint,
    )
    pen.box(-0.56, 0.06, -0.07, top, paint)
    pen.box(-0.08, 0.06, -0.03, top - 0.03, (44, 44, 48))
    with pen.on_it():
        pen.box(-0.6, 0.1, 0.6, 0.135, trim)
        pen.polygon(
            [(0.31, top - 0.1), (0.33, top - 0.025), (0.42, top - 0.025), (0.5, top - 0.1)], GLASS
        )
        pen.box(-0.6, top - 0.025, 0.31, top, shade(paint, 0.7))
    for x in (*np.linspace(-0.53, -0.15, 5), 0.01, 0.1, 0.19):
        pen.box(float(x), top - 0.105, float(x) + 0.06, top - 0.045, GLASS)
    pen.ellipse(0.47, 0.115, 0.02, 0.016, (246, 238, 200))
    if pen.chance(0.7):
        x = pen.between(-0.4, 0.1)
        pen.line([(x, top), (x + 0.07, top + 0.05), (x, top + 0.1)], 0.015, (60, 60, 64))
        pen.line([(x - 0.05, top + 0.1), (x + 0.05, top + 0.1)], 0.015, (60, 60, 64))


def boat(pen: Pen) -> None:
    """A hull, with a mast and sails, or with a cabin."""
    paint, trim = pen.pick((*PAINTS, *WOODS)), pen.pick(PAINTS)
    if pen.chance(0.6):
        mast = pen.between(-0.06, 0.06)
        sail = pen.pick(((240, 238, 230), (226, 220, 204), *PAINTS[:4]))
        pen.polygon([(mast, 0.25), (mast, 0.95), (mast - 0.36, 0.25)], sail)
        pen.polygon([(mast, 0.22), (mast, 0.85), (mast + 0.34, 0.22)], shade(sail, 0.85))
        pen.line([(mast, 0.1), (mast, 0.98)], 0.02, WOODS[0])
        pen.line([(mast, 0.22), (mast - 0.38, 0.22)], 0.02, WOODS[0])
        wide, deck = 0.42, 0.17
    else:
        pen.polygon([(-0.28, 0.18), (-0.26, 0.4), (0.04, 0.4), (0.14, 0.18)], (232, 232, 228))
        pen.polygon([(-0.23, 0.25), (-0.22, 0.36), (0.02, 0.36), (0.08, 0.25)], GLASS)
        pen.box(-0.09, 0.24, -0.06, 0.38, (232, 232, 228))
        pen.line([(-0.12, 0.4), (-0.14, 0.58)], 0.02, STEEL)
        if pen.chance(0.5):
            pen.polygon([(-0.14, 0.58), (-0.14, 0.5), (-0.26, 0.54)], trim)
        wide, deck = 0.5, 0.2
    hull = [(-wide, deck), (wide, deck + 0.03), (wide - 0.14, 0.0), (-wide + 0.08, 0.0)]
    pen.polygon(hull, paint)
    with pen.on_it():
        pen.box(-0.6, 0.0, 0.6, 0.05, shade(paint, 0.6))
        pen.box(-0.6, deck - 0.045, 0.6, deck + 0.1, trim)
    if pen.chance(0.3):
        for x in (-0.1, 0.02, 0.14):
            pen.ellipse(x, deck - 0.08, 0.02, 0.02, shade(pen.pick(FURS), 0.5))
