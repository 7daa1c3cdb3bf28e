"""What the demo found, to look at: a contact sheet as a picture, and a page for the browser."""

import base64
import html
import io
import os
from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deeplab_repro.files import write_atomically
from deeplab_repro.image import VOID, palette, write_image
from deeplab_repro.models import VOC_CLASSES
from deeplab_repro.toy.demo import SPLIT, Report, notes, table

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

N_SHOWN = 8
"""Of how many scenes, the first ones, there are pictures."""

UInt8 = npt.NDArray[np.uint8]

# Of a picture; a class with less is not named.
_LEAST_SHARE = 0.005

_GAP, _LINE, _SWATCH = 8, 26, 14  # pixels
_LEGEND_COLUMN = 124
_INK = (34, 34, 34)

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>deeplab-repro: the demo</title>
<style>
body { max-width: 82rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff;
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 46rem; margin: .6rem 0; }
small { color: #555; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
.figures th, .figures td { padding: .2rem .8rem; text-align: right; white-space: nowrap; }
.figures th:first-child, .figures td:first-child { text-align: left; padding-left: 0; }
.figures thead th { border-bottom: 1px solid #222; }
.figures tbody th { font-weight: normal; }
.scenes { width: 100%; min-width: 56rem; table-layout: fixed; }
.scenes th { font-size: .75rem; vertical-align: bottom; padding: 0 .2rem .3rem; }
.scenes td { vertical-align: top; text-align: center; padding: .2rem; }
.scenes td small { display: block; line-height: 1.3; }
.scenes img { vertical-align: top; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
.legend span { display: inline-block; width: .9em; height: .9em; margin-right: .4em;
               vertical-align: -.1em; border: 1px solid #999; }
</style>
</head>
<body>
<h1>DeepLab and its dense CRF on drawn scenes</h1>
<p>$n_scenes scenes of ToyVOC ($split, seed $seed), which the nets have not seen in training. An
eighth as wide as the paper&#8217;s, the nets tell the same 21 classes apart.</p>
<div class="wide">
<table class="figures">
$figures
</table>
</div>
$notes
<h2>What the CRF does</h2>
<p>$caption</p>
<ul class="legend">
$legend
</ul>
<div class="wide">
<table class="scenes">
$scenes
</table>
</div>
</body>
</html>
""")

_CAPTION = (
    "The first {shown} of the scenes, good and bad alike. The net gives a score for every eighth "
    "pixel, so it finds what is there and about where, with round borders. The CRF compares the "
    "colours of all pairs of pixels and moves the borders to where the colours change. What the "
    "net took for another class mostly stays that class, and what is thin or like its "
    "surroundings may get lost."
)


def write_contact_sheet(path: str | os.PathLike[str], report: Report) -> None:
    """Write the first scenes as one .png, a row each: image, truth and every row's labels.

    Atomically; raises FileError if the file cannot be written.
    """
    write_image(path, _contact_sheet(report))


def write_page(path: str | os.PathLike[str], report: Report) -> None:
    """Write one HTML page with the table and the first scenes, its pictures inside.

    Atomically; raises FileError if the file cannot be written.
    """
    with write_atomically(path) as file:
        file.write(_page(report).encode())


# --- both


def _headings(report: Report) -> list[str]:
    return ["image", "truth", *(row.title for row in report.rows)]


def _shown_labels(report: Report, index: int) -> list[UInt8]:
    """One scene's labels: the truth, and those of every row."""
    return [report.scenes[index].labels, *(row.labels[index] for row in report.rows)]


def _n_shown(report: Report) -> int:
    return min(N_SHOWN, len(report.scenes))


def _legend() -> list[tuple[str, tuple[int, ...]]]:
    """The names and RGB colours of all labels."""
    colours = [tuple(map(int, colour)) for colour in palette()]
    void = ("void, not scored", colours[VOID])
    return [*zip(VOC_CLASSES, colours, strict=False), void]


# --- the contact sheet


def _contact_sheet(report: Report) -> UInt8:
    from PIL import Image, ImageDraw

    rows = [
        [report.scenes[index].image, *(palette()[each] for each in _shown_labels(report, index))]
        for index in range(_n_shown(report))
    ]
    cell = max(row[0].shape[1] for row in rows)
    width = _GAP + len(rows[0]) * (cell + _GAP)
    legend_rows = _legend_rows(width)
    height = sum(row[0].shape[0] + _GAP for row in rows) + (2 + len(legend_rows)) * _LINE
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    lefts = [_GAP + column * (cell + _GAP) for column in range(len(rows[0]))]
    for left, heading in zip(lefts, _headings(report), strict=True):
        text_width = round(draw.textlength(heading, font))
        _write(draw, left + (cell - text_width) // 2, 0, heading, font)
    top = _LINE
    for row in rows:
        for left, picture in zip(lefts, row, strict=True):
            inset = (cell - picture.shape[1]) // 2
            sheet.paste(Image.fromarray(picture), (left + inset, top))
        top += row[0].shape[0] + _GAP
    for entries in legend_rows:
        for column, (name, colour) in enumerate(entries):
            left, middle = _GAP + column * _LEGEND_COLUMN, top + (_LINE - _SWATCH) // 2
            corner = (left + _SWATCH, middle + _SWATCH)
            draw.rectangle(((left, middle), corner), fill=colour, outline=_INK)
            _write(draw, left + _SWATCH + 6, top, name, font)
        top += _LINE
    which = f"ToyVOC {SPLIT}, seed {report.seed}: the first {len(rows)} scenes, good and bad alike"
    _write(draw, _GAP, top, which, font)
    return np.asarray(sheet)


def _legend_rows(width: int) -> list[list[tuple[str, tuple[int, ...]]]]:
    """The legend, broken into lines that fit the sheet's width in pixels."""
    entries, a_row = _legend(), max(1, (width - _GAP) // _LEGEND_COLUMN)
    return [entries[start : start + a_row] for start in range(0, len(entries), a_row)]


def _write(
    draw: "ImageDraw", left: int, top: int, text: str, font: "FreeTypeFont | ImageFont"
) -> None:
    """Write a text in the middle of a line's height."""
    _, above, _, below = draw.textbbox((0, 0), "Ag", font)
    draw.text((left, top + (_LINE - above - below) // 2), text, _INK, font)


def _font() -> "FreeTypeFont | ImageFont":
    """Pillow's own font, the only one that is everywhere."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(15)
    except TypeError:  # before Pillow 10.1 it had one size
        return ImageFont.load_default()


# --- the page


def _page(report: Report) -> str:
    return _PAGE.substitute(
        n_scenes=len(report.scenes),
        split=SPLIT,
        seed=report.seed,
        figures=_figures(report),
        notes="\n".join(f"<p><small>{html.escape(note)}</small></p>" for note in notes(report)),
        caption=html.escape(_CAPTION.format(shown=_n_shown(report))),
        legend="\n".join(_legend_item(*entry) for entry in _legend()),
        scenes=_scenes(report),
    )


def _figures(report: Report) -> str:
    heading, *rows = table(report)
    return "\n".join(
        [
            f"<thead>{_table_row('th', heading)}</thead>",
            "<tbody>",
            *(_table_row("td", row) for row in rows),
            "</tbody>",
        ]
    )


def _table_row(cell: str, texts: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{html.escape(text)}</{cell}>' for text in texts)}</tr>"


def _legend_item(name: str, colour: tuple[int, ...]) -> str:
    rgb = ",".join(map(str, colour))
    return f'<li><span style="background:rgb({rgb})"></span>{html.escape(name)}</li>'


def _scenes(report: Report) -> str:
    headings = _headings(report)
    shown = range(_n_shown(report))
    widest = max(report.scenes[index].image.shape[1] for index in shown)
    lines = [f"<thead>{_table_row('th', headings)}</thead>", "<tbody>"]
    for index in shown:
        scene = report.scenes[index]
        share = scene.image.shape[1] / widest
        cells = [_picture(f"Scene {index}", "jpeg", scene.jpeg, share)]
        for heading, labels in zip(headings[1:], _shown_labels(report, index), strict=True):
            what = f"Scene {index}, {heading}"
            cells.append(_picture(what, "png", _png(labels), share, _names(labels)))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>"])


def _picture(what: str, kind: str, encoded: bytes, share: float, names: str = "") -> str:
    """A cell with an encoded picture that takes a share of its width, and the classes in it."""
    source = f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
    alt = html.escape(f"{what}: {names}" if names else what)
    image = f'<img alt="{alt}" src="{source}" style="width:{share:.1%}">'
    return f"<td>{image}<small>{html.escape(names)}</small></td>"


def _names(labels: UInt8) -> str:
    """The classes in a picture but the background, without what is a speck."""
    shares = np.bincount(labels.ravel(), minlength=VOID)[1 : len(VOC_CLASSES)] / labels.size
    there = [VOC_CLASSES[1 + label] for label in np.flatnonzero(shares >= _LEAST_SHARE)]
    return ", ".join(there) or "background"


def _png(labels: UInt8) -> bytes:
    from PIL import Image

    picture = Image.fromarray(labels)
    picture.putpalette(palette().tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
