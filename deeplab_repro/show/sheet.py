"""Sheets of pictures with labels: texts drawn with Pillow."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

GAP, LINE = 8, 26
"""The gap between pictures and the height of a line of text, in pixels."""

INK = (34, 34, 34)
"""The colour of texts, RGB."""


def write_text(
    draw: "ImageDraw", left: int, top: int, text: str, font: "FreeTypeFont | ImageFont"
) -> None:
    """Write a text on a sheet, centred in a line's height."""
    _, above, _, below = draw.textbbox((0, 0), "Ag", font)
    draw.text((left, top + (LINE - above - below) // 2), text, INK, font)
