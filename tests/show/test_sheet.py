"""Texts on sheets, with any Pillow's font."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from deeplab_repro.files.lettering import text_font
from deeplab_repro.show.sheet import LINE, write_text


@pytest.mark.parametrize("has_sizes", [True, False], ids=["new Pillow", "before 10.1"])
def test_a_text_lies_within_its_line(monkeypatch, has_sizes):
    if not has_sizes:
        default = ImageFont.load_default
        monkeypatch.setattr(ImageFont, "load_default", lambda: default())
    sheet = Image.new("RGB", (80, 3 * LINE), "white")
    write_text(ImageDraw.Draw(sheet), 10, LINE, "Ag", text_font())
    rows, columns = np.nonzero((np.asarray(sheet) < 128).all(axis=2))
    assert LINE < rows.min() < rows.max() < 2 * LINE
    assert columns.min() >= 10
