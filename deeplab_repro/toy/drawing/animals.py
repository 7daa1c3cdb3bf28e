"""VOC's animals and person. Each function draws one with the pen on y = 0, facing right."""

from deeplab_repro.toy.drawing.pen import FURS, PAINTS, SKINS, Colour, Pen, Point, shade

HAIRS: tuple[Colour, ...] = ((54, 40, 34), (34, 30, 30), (120, 78, 48), (196, 158, 96))


def bird(pen: Pen) -> None:
    """On thin legs, or with spread wings."""
    coat = pen.pick((*FURS, *PAINTS))
    beak = pen.pick(((232, 160, 50), (70, 62, 58), (206, 90, 50)))
    if pen.airborne:
        _flying_bird(pen, coat, beak)
        return
    plump, lift = pen.between(0.2, 0.26), pen.between(0.26, 0.36)
    head = (0.24, lift + 2 * plump + pen.between(-0.02, 0.08))
    for x in (-0.03, 0.08):
        pen.line([(x, lift + 0.05), (x + 0.02, 0.03), (x + 0.09, 0.01)], 0.025, beak)
    tail = [(-0.2, lift + 0.28), (-0.48, lift + 0.2), (-0.5, lift + 0.1), (-0.15, lift + 0.06)]
    pen.polygon(tail, shade(coat, 0.65))
    body = [
        (-0.28, lift + 0.18),
        (-0.02, lift + 0.28 + plump / 2),
        (0.2, lift + 0.28 + plump / 2),
        (0.3, lift + 0.2),
        (0.1, lift - 0.01),
        (-0.14, lift + 0.02),
    ]
    pen.blob(body, coat)
    with pen.on_it():
        pen.ellipse(0.2, lift + 0.04, 0.2, 0.14, shade(coat, 1.5))
    pen.polygon(
        [(head[0] + 0.07, head[1] + 0.06), (0.47, head[1]), (head[0] + 0.08, head[1] - 0.07)], beak
    )
    pen.ellipse(*head, 0.13, 0.12, coat)
    pen.ellipse(head[0] + 0.05, head[1] + 0.03, 0.028, 0.028, (20, 20, 22))
    wing = [(0.14, lift + 0.3), (0.06, lift + 0.1), (-0.32, lift + 0.12), (-0.1, lift + 0.28)]
    pen.blob(wing, shade(coat, 0.72))


def _flying_bird(pen: Pen, coat: Colour, beak: Colour) -> None:
    up = pen.between(0.7, 1.0)
    far = [(0.02, 0.4), (0.16, 0.42), (0.3, 0.4 + 0.4 * up), (0.2, 0.42 + 0.5 * up), (0.06, 0.7)]
    pen.polygon(far, shade(coat, 0.6))
    pen.polygon([(-0.2, 0.4), (-0.5, 0.42), (-0.46, 0.3), (-0.18, 0.32)], shade(coat, 0.7))
    pen.polygon([(0.34, 0.44), (0.52, 0.38), (0.34, 0.36)], beak)
    pen.ellipse(0.04, 0.36, 0.27, 0.095, coat)
    pen.ellipse(0.29, 0.41, 0.1, 0.09, coat)
    pen.ellipse(0.33, 0.43, 0.022, 0.022, (20, 20, 22))
    near = [
        (0.14, 0.36),
        (-0.14, 0.34),
        (-0.4, 0.4 + 0.4 * up),
        (-0.3, 0.44 + 0.5 * up),
        (-0.08, 0.66),
    ]
    pen.polygon(near, shade(coat, 0.82))
    pen.line([(-0.33, 0.4 + 0.46 * up), (-0.2, 0.5 + 0.1 * up)], 0.02, shade(coat, 0.55))


def _leg(pen: Pen, x: float, top: float, width: float, colour: Colour, hoof: Colour) -> None:
    step = pen.between(-0.05, 0.05)
    pen.line([(x, top), (x + step * 0.3, top / 2), (x + step, 0.02)], width, colour)
    pen.line([(x + step - 0.01, 0.02), (x + step + 0.02, 0.02)], width, hoof)


def _legs(pen: Pen, back: float, front: float, top: float, width: float, coat: Colour) -> None:
    """Two pairs of legs, the far one darker."""
    hoof = shade(coat, 0.45)
    apart = pen.between(0.06, 0.1)
    for x in (back + apart, front - apart):
        _leg(pen, x, top, width, shade(coat, 0.62), hoof)
    for x in (back, front):
        _leg(pen, x, top, width, coat, hoof)


def cow(pen: Pen) -> None:
    """A long box with patches, horns and an udder."""
    coat = pen.pick(FURS)
    patch = pen.pick(FURS)
    high, top = pen.between(0.2, 0.26), pen.between(0.58, 0.64)
    _legs(pen, -0.34, 0.2, high + 0.1, 0.065, coat)
    pen.curve([(-0.4, top - 0.05), (-0.46, top - 0.2), (-0.45, 0.24)], 0.025, shade(coat, 0.75))
    pen.ellipse(-0.45, 0.22, 0.03, 0.05, shade(coat, 0.4))
    pen.ellipse(-0.2, high + 0.01, 0.08, 0.05, (226, 168, 156))
    body = [
        (-0.42, top - 0.03),
        (-0.1, top - 0.02),
        (0.2, top + 0.01),
        (0.33, top - 0.06),
        (0.28, high + 0.02),
        (0, high - 0.02),
        (-0.36, high + 0.04),
        (-0.43, high + 0.16),
    ]
    pen.blob(body, coat)
    nose = top + pen.between(-0.14, 0.06)
    pen.polygon([(0.18, top), (0.38, nose + 0.1), (0.38, nose - 0.04), (0.2, high + 0.08)], coat)
    with pen.on_it():
        for _ in range(int(pen.rng.integers(2, 5))):
            x, y = pen.between(-0.4, 0.25), pen.between(high, top)
            pen.blob(_around(pen, x, y, pen.between(0.06, 0.14)), patch)
    for x in (0.33, 0.43):
        pen.curve(
            [(x, nose + 0.1), (x + 0.0, nose + 0.17), (x + 0.05, nose + 0.2)],
            0.025,
            (230, 222, 200),
        )
    pen.ellipse(0.3, nose + 0.08, 0.07, 0.03, shade(coat, 0.7), 2.7)
    head = [
        (0.31, nose + 0.12),
        (0.43, nose + 0.12),
        (0.5, nose - 0.06),
        (0.44, nose - 0.13),
        (0.36, nose - 0.06),
    ]
    pen.blob(head, shade(coat, 1.06))
    pen.ellipse(0.47, nose - 0.09, 0.05, 0.045, (206, 156, 144))
    pen.ellipse(0.41, nose + 0.05, 0.018, 0.018, (20, 20, 22))


def _around(pen: Pen, x: float, y: float, radius: float) -> list[Point]:
    """The outline of an uneven round patch."""
    corners = ((1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7), (-1, 0), (-0.7, -0.7), (0, -1), (0.7, -0.7))
    reach = [radius * pen.between(0.6, 1.2) for _ in corners]
    return [(x + r * dx, y + r * dy) for (dx, dy), r in zip(corners, reach, strict=True)]


def horse(pen: Pen) -> None:
    """Slim, on long legs, with a high neck, a mane and a long tail."""
    coat = pen.pick(FURS)
    mane = shade(coat, 0.5) if pen.chance(0.7) else pen.pick(FURS)
    high, top = 0.38, 0.6
    _legs(pen, -0.31, 0.15, high + 0.1, 0.05, coat)
    swing = pen.between(-0.06, 0.06)
    pen.curve(
        [(-0.34, top - 0.03), (-0.45, top - 0.08), (-0.46 + swing, 0.36), (-0.44 + swing, 0.24)],
        0.06,
        mane,
    )
    body = [
        (-0.36, top - 0.02),
        (-0.1, top - 0.04),
        (0.14, top),
        (0.25, top - 0.08),
        (0.18, high + 0.02),
        (-0.06, high),
        (-0.3, high + 0.04),
        (-0.39, high + 0.14),
    ]
    pen.blob(body, coat)
    reach = pen.between(-0.06, 0.04)
    poll = (0.32 + reach, pen.between(0.86, 0.92))
    pen.polygon(
        [
            (0.02, top),
            (poll[0] - 0.07, poll[1]),
            (poll[0] + 0.06, poll[1] - 0.08),
            (0.25, top - 0.1),
        ],
        coat,
    )
    pen.line([(0.0, top + 0.02), (poll[0] - 0.09, poll[1])], 0.055, mane)
    pen.polygon(
        [(poll[0] - 0.06, poll[1]), (poll[0] - 0.02, poll[1] + 0.09), (poll[0] + 0.02, poll[1])],
        coat,
    )
    head = [
        (poll[0] - 0.07, poll[1]),
        (poll[0] + 0.03, poll[1] + 0.01),
        (poll[0] + 0.17, poll[1] - 0.15),
        (poll[0] + 0.14, poll[1] - 0.21),
        (poll[0] + 0.02, poll[1] - 0.13),
    ]
    pen.blob(head, coat)
    pen.ellipse(poll[0] + 0.035, poll[1] - 0.05, 0.016, 0.016, (20, 20, 22))
    if pen.chance(0.3):
        with pen.on_it():
            cloth = [
                (-0.12, top + 0.1),
                (0.08, top + 0.1),
                (0.05, high + 0.08),
                (-0.1, high + 0.08),
            ]
            pen.polygon(cloth, pen.pick(PAINTS))


def sheep(pen: Pen) -> None:
    """A cloud of wool with a bare face, on short thin legs."""
    wool = pen.pick(
        ((232, 226, 210), (210, 200, 182), (150, 138, 124), (82, 74, 70), (238, 236, 230))
    )
    face = pen.pick(((62, 56, 54), (40, 38, 40), (224, 206, 184), (170, 140, 116)))
    for x in (-0.2, 0.14):
        _leg(pen, x + 0.07, 0.25, 0.05, shade(face, 0.7), shade(face, 0.5))
    for x in (-0.25, 0.12):
        _leg(pen, x, 0.25, 0.05, face, shade(face, 0.5))
    curls = []
    for across in range(7):
        for up in range(4):
            x, y = -0.36 + 0.107 * across, 0.27 + 0.12 * up
            if ((x + 0.04) / 0.38) ** 2 + ((y - 0.45) / 0.22) ** 2 < 1.1:
                curls.append((x + pen.between(-0.02, 0.02), y + pen.between(-0.02, 0.02)))
    pen.ellipse(-0.04, 0.45, 0.36, 0.2, shade(wool, 0.8))
    for x, y in curls:
        pen.ellipse(x, y, 0.095, 0.085, shade(wool, 0.8))
    for x, y in curls:
        pen.ellipse(x - 0.01, y + 0.022, 0.062, 0.05, shade(wool, pen.between(0.95, 1.1)))
    nose = pen.between(0.36, 0.58)
    pen.ellipse(0.3, nose + 0.09, 0.08, 0.03, shade(face, 0.8), 2.5)
    pen.ellipse(0.39, nose, 0.085, 0.14, face, 0.45)
    pen.ellipse(0.33, nose + 0.11, 0.09, 0.06, wool)
    pen.ellipse(
        0.41, nose + 0.05, 0.016, 0.016, (230, 226, 200) if sum(face) < 300 else (20, 20, 22)
    )


def dog(pen: Pen) -> None:
    """Small body, a snout, a hanging ear, the tail up; standing or sitting."""
    coat = pen.pick(FURS)
    ear = shade(coat, 0.55)
    sits = pen.chance(0.3)
    if sits:
        pen.curve([(-0.22, 0.08), (-0.36, 0.06), (-0.44, 0.18)], 0.05, coat)
        pen.blob(
            [(-0.28, 0.02), (-0.27, 0.2), (0.02, 0.62), (0.2, 0.56), (0.14, 0.2), (0.0, 0.02)], coat
        )
        for x, light in ((0.14, 0.7), (0.07, 1.0)):
            pen.line(
                [(x + 0.03, 0.45), (x + 0.04, 0.04), (x + 0.1, 0.03)], 0.075, shade(coat, light)
            )
        pen.ellipse(-0.1, 0.12, 0.16, 0.12, shade(coat, 0.9))
        pen.line([(-0.1, 0.03), (0.04, 0.03)], 0.06, shade(coat, 0.9))
        neck, lift = (0.1, 0.6), 0.78
    else:
        _legs(pen, -0.3, 0.14, 0.36, 0.07, coat)
        wag = pen.between(-0.06, 0.08)
        pen.curve([(-0.32, 0.52), (-0.42, 0.6), (-0.46 + wag, 0.8)], 0.05, coat)
        body = [
            (-0.37, 0.5),
            (-0.1, 0.55),
            (0.16, 0.58),
            (0.24, 0.44),
            (0.14, 0.29),
            (-0.1, 0.33),
            (-0.34, 0.32),
        ]
        pen.blob(body, coat)
        neck, lift = (0.15, 0.52), 0.74
    x, y = neck[0] + 0.14, lift + pen.between(-0.05, 0.03)
    pen.line([neck, (x - 0.02, y)], 0.17, coat)
    if pen.chance(0.5):
        with pen.on_it():
            pen.blob(_around(pen, -0.1, 0.42, 0.15), shade(pen.pick(FURS), 1.1))
    pen.line([(x, y - 0.02), (x + 0.19, y - 0.06)], 0.12, shade(coat, 1.12))
    pen.ellipse(x, y + 0.01, 0.13, 0.12, coat)
    pen.ellipse(x + 0.245, y - 0.03, 0.035, 0.032, (24, 22, 24))
    pen.ellipse(x - 0.08, y - 0.03, 0.055, 0.14, ear, -0.25)
    pen.ellipse(x + 0.06, y + 0.05, 0.022, 0.022, (20, 20, 22))
    if pen.chance(0.5):
        pen.line(
            [(neck[0] + 0.02, neck[1] + 0.1), (neck[0] + 0.17, neck[1] + 0.03)],
            0.035,
            pen.pick(PAINTS),
        )


def cat(pen: Pen) -> None:
    """Sitting and looking at you: pointed ears, a round face, the tail to one side."""
    coat = pen.pick(FURS)
    belly = shade(coat, 1.4)
    stripe = shade(coat, 0.6)
    wide = pen.between(0.2, 0.25)
    curl = pen.between(-0.05, 0.1)
    pen.curve([(-0.1, 0.06), (-0.34, 0.06), (-0.44, 0.2 + curl), (-0.36, 0.36 + curl)], 0.075, coat)
    body = [
        (-wide, 0.03),
        (-wide, 0.24),
        (-0.12, 0.56),
        (0.12, 0.56),
        (wide, 0.24),
        (wide, 0.03),
        (0, 0.0),
    ]
    pen.blob(body, coat)
    with pen.on_it():
        pen.ellipse(0, 0.3, 0.1, 0.2, belly)
        if pen.chance(0.6):
            for y in (0.16, 0.27, 0.38):
                pen.line([(-0.28, y), (-0.13, y + 0.03)], 0.03, stripe)
                pen.line([(0.28, y), (0.13, y + 0.03)], 0.03, stripe)
    for x in (-0.075, 0.075):
        pen.line([(x, 0.26), (x, 0.05)], 0.09, shade(coat, 1.05))
        pen.ellipse(x, 0.04, 0.07, 0.045, belly)
    lean = pen.between(-0.05, 0.05)
    head = 0.7
    for side in (-1, 1):
        x = lean + side * 0.14
        pen.polygon(
            [(x - 0.1, head + 0.08), (x + side * 0.06, head + 0.3), (x + 0.1, head + 0.1)], coat
        )
        pen.polygon(
            [(x - 0.05, head + 0.1), (x + side * 0.04, head + 0.22), (x + 0.05, head + 0.11)],
            (206, 150, 140),
        )
    pen.ellipse(lean, head, 0.24, 0.19, coat)
    pen.ellipse(lean, head - 0.09, 0.11, 0.08, belly)
    eyes = pen.pick(((120, 170, 60), (216, 176, 60), (90, 150, 180)))
    for side in (-1, 1):
        pen.ellipse(lean + side * 0.095, head + 0.02, 0.045, 0.042, eyes)
        pen.ellipse(lean + side * 0.095, head + 0.02, 0.015, 0.038, (20, 20, 22))
    nose = [(lean - 0.03, head - 0.05), (lean + 0.03, head - 0.05), (lean, head - 0.085)]
    pen.polygon(nose, (206, 120, 116))


def person(pen: Pen) -> None:
    """Standing or walking: head, hair, arms, legs."""
    skin, hair = pen.pick(SKINS), pen.pick(HAIRS)
    shirt, trousers = pen.pick(PAINTS), pen.pick((*PAINTS[1:], (62, 70, 98), (62, 70, 98)))
    stride, swing = pen.between(0.03, 0.13), pen.between(0.02, 0.12)
    shoes = shade(pen.pick(FURS), 0.6)
    skirt = pen.chance(0.2)
    legs = skin if skirt else trousers
    for side, light in ((-1, 0.72), (1, 1.0)):
        foot = side * stride
        pen.line(
            [(side * 0.045, 0.48), (side * 0.05 + foot / 2, 0.26), (foot, 0.04)],
            0.085,
            shade(legs, light),
        )
        pen.line([(foot, 0.025), (foot + 0.06, 0.02)], 0.05, shoes)
    pen.line(
        [(0.09, 0.78), (0.14 + swing / 2, 0.62), (0.13 + swing, 0.47)], 0.065, shade(shirt, 0.7)
    )
    pen.ellipse(0.13 + swing, 0.45, 0.036, 0.04, skin)
    pen.blob(
        [
            (-0.12, 0.81),
            (0.0, 0.84),
            (0.12, 0.81),
            (0.11, 0.62),
            (0.11, 0.44),
            (0.0, 0.43),
            (-0.11, 0.44),
            (-0.11, 0.62),
        ],
        shirt,
    )
    if pen.chance(0.4):
        with pen.on_it():
            stripe = pen.pick(PAINTS)
            for y in (0.56, 0.66, 0.76):
                pen.box(-0.2, y, 0.125, y + 0.035, stripe)
    if skirt:
        pen.polygon([(-0.1, 0.5), (0.1, 0.5), (0.17, 0.3), (-0.17, 0.3)], trousers)
    pen.line(
        [(-0.09, 0.78), (-0.15 - swing / 3, 0.62), (-0.13 - swing, 0.47)], 0.065, shade(shirt, 0.9)
    )
    pen.ellipse(-0.13 - swing, 0.45, 0.036, 0.04, skin)
    pen.line([(0, 0.86), (0, 0.82)], 0.065, shade(skin, 0.85))
    if pen.chance(0.4):
        pen.ellipse(-0.045, 0.885, 0.07, 0.11, hair)
    pen.ellipse(0, 0.92, 0.075, 0.09, skin)
    pen.blob(
        [(-0.08, 0.9), (-0.07, 0.99), (0.02, 1.02), (0.08, 0.97), (0.03, 0.965), (-0.04, 0.95)],
        hair,
    )
    for x in (0.012, 0.05):
        pen.ellipse(x, 0.925, 0.009, 0.012, (30, 26, 26))
