"""The demo's results to look at: a page for the browser, and a contact sheet as a picture."""

import html
import os
from string import Template

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.files.lettering import text_font
from deeplab_repro.files.pictures import palette, write_image
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.show import webpage, wipe
from deeplab_repro.show.sheet import GAP, INK, LINE, write_text
from deeplab_repro.toy.demo import SPLIT, DemoResult, notes, table

N_SHOWN = 8
"""How many scenes are shown at most: the first ones."""

_SWATCH = 14  # pixels
_LEGEND_COLUMN = 124

_BODY = Template("""<h1>DeepLab and its dense CRF on drawn scenes</h1>
<p>$n_scenes scenes of ToyVOC ($split, seed $seed), which the nets have not seen in training. The
nets are the paper&#8217;s with an eighth of the channels; they know the same 21 classes.</p>
$numbers
$notes
<h2>What the CRF does</h2>
<p>$caption</p>
$wipe
$legend
$scenes
$script""")

_WIPE = "scenes"

_CAPTION = (
    "These are the first {shown} scenes, good and bad alike. The net scores every eighth pixel, so "
    "it finds the objects, but with round borders. The CRF compares the colours of all pairs of "
    "pixels and moves the borders to where the colours change. It seldom mends a wrong class, and "
    "it may lose parts that are thin or look like their surroundings."
)


def write_contact_sheet(path: str | os.PathLike[str], result: DemoResult) -> None:
    """Write the first scenes as one .png, a line each: image, truth, and every model's labels.

    Atomically; raises FileError if the file cannot be written.
    """
    write_image(path, _contact_sheet(result))


def write_page(path: str | os.PathLike[str], result: DemoResult) -> None:
    """Write one HTML page with the table and the first scenes; it needs no other file.

    Atomically; raises FileError if the file cannot be written.
    """
    with write_atomically(path) as file:
        file.write(_page(result))


# --- both


def _headings(result: DemoResult) -> list[str]:
    return ["image", "truth", *(row.title for row in result.rows)]


def _shown_labels(result: DemoResult, index: int) -> list[UInt8]:
    """One scene's labels: the truth, then every model's."""
    return [result.scenes[index].labels, *(row.labels[index] for row in result.rows)]


def _n_shown(result: DemoResult) -> int:
    return min(N_SHOWN, len(result.scenes))


# --- the contact sheet


def _contact_sheet(result: DemoResult) -> UInt8:
    from PIL import Image, ImageDraw

    rows = [
        [result.scenes[index].image, *(palette()[each] for each in _shown_labels(result, index))]
        for index in range(_n_shown(result))
    ]
    cell = max(row[0].shape[1] for row in rows)
    width = GAP + len(rows[0]) * (cell + GAP)
    legend_rows = _legend_rows(width)
    height = sum(row[0].shape[0] + GAP for row in rows) + (2 + len(legend_rows)) * LINE
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), text_font()
    lefts = [GAP + column * (cell + GAP) for column in range(len(rows[0]))]
    for left, heading in zip(lefts, _headings(result), strict=True):
        text_width = round(draw.textlength(heading, font))
        write_text(draw, left + (cell - text_width) // 2, 0, heading, font)
    top = LINE
    for row in rows:
        for left, picture in zip(lefts, row, strict=True):
            inset = (cell - picture.shape[1]) // 2
            sheet.paste(Image.fromarray(picture), (left + inset, top))
        top += row[0].shape[0] + GAP
    for entries in legend_rows:
        for column, (name, colour) in enumerate(entries):
            left, middle = GAP + column * _LEGEND_COLUMN, top + (LINE - _SWATCH) // 2
            corner = (left + _SWATCH, middle + _SWATCH)
            draw.rectangle(((left, middle), corner), fill=colour, outline=INK)
            write_text(draw, left + _SWATCH + 6, top, name, font)
        top += LINE
    which = f"ToyVOC {SPLIT}, seed {result.seed}: the first {len(rows)} scenes, good and bad alike"
    write_text(draw, GAP, top, which, font)
    return np.asarray(sheet)


def _legend_rows(width: int) -> list[list[tuple[str, tuple[int, ...]]]]:
    """The legend in lines that fit the sheet's width in pixels."""
    entries, a_row = webpage.colours(), max(1, (width - GAP) // _LEGEND_COLUMN)
    return [entries[start : start + a_row] for start in range(0, len(entries), a_row)]


# --- the page


def _page(result: DemoResult) -> bytes:
    body = _BODY.substitute(
        n_scenes=len(result.scenes),
        split=SPLIT,
        seed=result.seed,
        numbers=_numbers(result),
        notes=webpage.notes(notes(result)),
        caption=html.escape(_CAPTION.format(shown=_n_shown(result))),
        wipe=wipe.wipe(_WIPE, _headings(result), left=2, right=3),
        legend=webpage.legend(),
        scenes=_scenes(result),
        script=wipe.SCRIPT,
    )
    return webpage.page("deeplab-repro: the demo", body, wipe.STYLE)


def _numbers(result: DemoResult) -> str:
    heading, *rows = table(result)
    caption = "What each net scores, alone and with its CRF"
    return webpage.number_table(caption, webpage.heading_row(heading), rows)


def _scenes(result: DemoResult) -> str:
    headings = _headings(result)
    shown = range(_n_shown(result))
    widest = max(result.scenes[index].image.shape[1] for index in shown)
    rows = []
    for index in shown:
        scene, name = result.scenes[index], f"Scene {index}"
        share = scene.image.shape[1] / widest
        photo = webpage.data_uri("jpeg", scene.jpeg)
        cells = [wipe.photo_cell(name, photo, scene.labels.shape, share)]
        for heading, labels in zip(headings[1:], _shown_labels(result, index), strict=True):
            source = webpage.data_uri("png", webpage.labels_png(labels))
            classes = webpage.classes_in(labels)
            what = f"{name}, {heading}"
            cells.append(webpage.picture(what, source, labels.shape, share, classes))
        rows.append(f"<tr {wipe.shown_in(_WIPE, name)}>{''.join(cells)}</tr>")
    return webpage.picture_table("The scenes, the truth and the labels", headings, rows)
