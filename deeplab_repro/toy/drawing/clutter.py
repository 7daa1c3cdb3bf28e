"""Things of no class: background. Each function draws one with the pen, on the ground y = 0."""

from deeplab_repro.toy.drawing.pen import GLASS, GREENS, PAINTS, STEEL, WOODS, Pen, shade

BRICKS = ((176, 96, 78), (200, 180, 156), (150, 140, 134), (214, 206, 190), (128, 92, 84))


def tree(pen: Pen) -> None:
    """A trunk and a crown of rounds."""
    green = pen.pick(GREENS)
    pen.line([(0, 0.5), (0, 0.0)], 0.08, pen.pick(WOODS[:2]))
    for _ in range(9):
        x, y = pen.between(-0.22, 0.22), pen.between(0.45, 0.82)
        pen.ellipse(x, y, 0.2, 0.17, shade(green, 0.7 + 0.4 * y + pen.between(-0.1, 0.1)))


def bush(pen: Pen) -> None:
    """Low and wide."""
    green = pen.pick(GREENS)
    for _ in range(8):
        x, y = pen.between(-0.35, 0.35), pen.between(0.08, 0.25)
        pen.ellipse(x, y, 0.16, 0.13, shade(green, pen.between(0.7, 1.15)))


def house(pen: Pen) -> None:
    """A front with a roof and windows."""
    wall, roof = pen.pick(BRICKS), pen.pick(((130, 66, 54), (84, 80, 84), (110, 86, 70)))
    high = pen.between(0.4, 0.75)
    pen.box(-0.36, 0, 0.36, high, wall)
    if pen.chance(0.7):
        pen.polygon([(-0.42, high), (0.42, high), (0.2, high + 0.25), (-0.2, high + 0.25)], roof)
    for x in (-0.26, -0.06, 0.14):
        for y in (0.12, 0.42):
            if y + 0.18 < high:
                pen.box(x, y, x + 0.12, y + 0.16, shade(GLASS, pen.between(0.7, 1.6)))


def stone(pen: Pen) -> None:
    """Grey and flat."""
    grey = pen.pick(((140, 138, 132), (112, 108, 104), (170, 162, 150)))
    pen.blob([(-0.5, 0), (-0.35, 0.35), (0.1, 0.45), (0.45, 0.25), (0.5, 0)], grey)
    pen.blob([(-0.3, 0.28), (-0.2, 0.36), (0.1, 0.4), (0.2, 0.3), (-0.1, 0.25)], shade(grey, 1.2))


def tuft(pen: Pen) -> None:
    """Blades of grass."""
    green = pen.pick(GREENS)
    for x in (-0.3, -0.15, 0.0, 0.15, 0.3):
        tip = (x * 1.6, pen.between(0.4, 0.7))
        pen.polygon([(x - 0.08, 0), (x + 0.08, 0), tip], shade(green, pen.between(0.7, 1.3)))


def lamp(pen: Pen) -> None:
    """A street lamp, or a sign on a post."""
    pen.line([(0, 0), (0, 0.9)], 0.03, shade(STEEL, 0.6))
    if pen.chance(0.5):
        pen.line([(0, 0.9), (0.16, 0.94)], 0.03, shade(STEEL, 0.6))
        pen.ellipse(0.18, 0.92, 0.06, 0.03, (250, 240, 200))
    else:
        pen.ellipse(0, 0.88, 0.11, 0.11, pen.pick(PAINTS[:3]))
        pen.box(-0.06, 0.86, 0.06, 0.9, (240, 240, 236))


def picture(pen: Pen) -> None:
    """A poster or a framed painting."""
    paper = pen.pick(PAINTS)
    wide, high = pen.between(0.25, 0.5), pen.between(0.3, 0.8)
    pen.box(-wide, 0, wide, high, pen.pick(WOODS))
    pen.box(-wide + 0.05, 0.05, wide - 0.05, high - 0.05, paper)
    with pen.on_it():
        for _ in range(4):
            x, y = pen.between(-0.8 * wide, 0.8 * wide), pen.between(0.1, high - 0.1)
            pen.ellipse(x, y, pen.between(0.04, 0.14), pen.between(0.04, 0.14), pen.pick(PAINTS))
    pen.line([(-wide, 0), (wide, 0), (wide, high), (-wide, high), (-wide, 0)], 0.03, WOODS[4])


def window(pen: Pen) -> None:
    """Four panes."""
    pen.box(-0.36, 0, 0.36, 0.9, (236, 234, 228))
    for x in (-0.31, 0.02):
        for y in (0.06, 0.48):
            pen.box(x, y, x + 0.29, y + 0.36, pen.pick(((160, 200, 230), (190, 210, 220))))


def curtain(pen: Pen) -> None:
    """Cloth in folds."""
    cloth = pen.pick(PAINTS)
    for i in range(8):
        x = -0.32 + 0.08 * i
        pen.box(x, 0, x + 0.081, 1.0, shade(cloth, pen.between(0.75, 1.15)))


def cabinet(pen: Pen) -> None:
    """Doors with knobs."""
    wood = pen.pick(WOODS)
    pen.box(-0.5, 0, 0.5, 0.62, wood)
    pen.box(-0.5, 0.58, 0.5, 0.62, shade(wood, 1.2))
    for x in (-0.46, 0.02):
        pen.box(x, 0.05, x + 0.44, 0.54, shade(wood, 0.85))
        pen.ellipse(x + (0.4 if x < 0 else 0.04), 0.3, 0.02, 0.02, STEEL)


def carton(pen: Pen) -> None:
    """A box with a lid."""
    board = pen.pick(((190, 150, 104), (170, 130, 90), *PAINTS))
    pen.box(-0.45, 0, 0.3, 0.55, board)
    pen.polygon([(0.3, 0), (0.5, 0.12), (0.5, 0.65), (0.3, 0.55)], shade(board, 0.75))
    pen.polygon([(-0.45, 0.55), (0.3, 0.55), (0.5, 0.65), (-0.22, 0.65)], shade(board, 1.15))


def books(pen: Pen) -> None:
    """A row of books."""
    x = -0.45
    while x < 0.35:
        wide, high = pen.between(0.08, 0.16), pen.between(0.6, 0.9)
        book = pen.pick(PAINTS)
        pen.box(x, 0, x + wide, high, book)
        pen.box(x, 0.7 * high, x + wide, 0.78 * high, shade(book, 0.6))
        x += wide


def mug(pen: Pen) -> None:
    """A mug with a handle."""
    glaze = pen.pick(PAINTS)
    pen.ring(0.3, 0.35, 0.17, 0.08, glaze)
    pen.box(-0.32, 0.05, 0.28, 0.68, glaze)
    pen.ellipse(-0.02, 0.06, 0.3, 0.07, glaze)
    pen.ellipse(-0.02, 0.68, 0.3, 0.08, shade(glaze, 0.6))
