"""HTML pages without outside files: style, tables, and pictures that are part of the page."""

import base64
import html
import io
from collections.abc import Sequence
from string import Template

from deeplab_repro.arrays import HW, UInt8
from deeplab_repro.files.images import VOID
from deeplab_repro.files.labels import LEAST_SHARE, shares
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.files.pictures import own_mark, palette
from deeplab_repro.models.registry import VOC_CLASSES

# At this quality a photo's JPEG is no larger than VOC's own.
_QUALITY = 85

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="$made_by">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #222; --soft: #555; --paper: #fff; --line: #767676;
        --link: #0a58ca; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #b4b4b4; --paper: #17191c; --line: #8c8c8c; --link: #8ab4f8; }
}
body { max-width: 82rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink);
       background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1, h2 { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 46rem; margin: .6rem 0; overflow-wrap: anywhere; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
small { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
caption { text-align: left; padding-bottom: .5rem; }
caption span { display: block; position: sticky; left: 0;
               max-width: min(46rem, calc(100vw - 3rem)); overflow-wrap: anywhere; }
.numbers th, .numbers td { padding: .2rem .8rem; text-align: right; white-space: nowrap; }
.numbers th:first-child, .numbers td:first-child { text-align: left; padding-left: 0; }
.numbers thead th { white-space: normal; vertical-align: bottom; }
.numbers thead tr:last-child > * { border-bottom: 1px solid var(--line); }
.numbers tbody th { font-weight: normal; }
.pictures { width: 100%; min-width: 56rem; table-layout: fixed; }
.pictures th { font-size: .75rem; vertical-align: bottom; padding: 0 .2rem .3rem; }
.pictures td { vertical-align: top; text-align: center; padding: .2rem; }
.pictures small { display: block; line-height: 1.3; }
.pictures img { vertical-align: top; height: auto; background: #000; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .4em;
          vertical-align: -.1em; border: 1px solid var(--line); }
$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


def page(title: str, body: str, style: str = "") -> bytes:
    """A whole page, encoded. title is plain text; body and style (CSS) are put in as they are."""
    return _PAGE.substitute(
        title=html.escape(title), made_by=MADE_BY, body=body, style=style
    ).encode()


def heading_row(texts: Sequence[str]) -> str:
    """A row of headings of columns, from plain texts; an empty text heads nothing."""
    return f"<tr>{''.join(_cell(text, 'col') for text in texts)}</tr>"


def number_table(
    caption: str, heading: str, rows: Sequence[Sequence[str]], more_classes: str = ""
) -> str:
    """A table of plain texts, which scrolls sideways if it is wider than the page.

    heading: one row or more, in HTML. The first text of each row is its heading.
    """
    lines = [
        f'<table class="numbers{more_classes}">',
        table_caption(caption),
        f"<thead>{heading}</thead>",
        "<tbody>",
        *(f"<tr>{_cell(name, 'row')}{''.join(map(_cell, texts))}</tr>" for name, *texts in rows),
        "</tbody>",
        "</table>",
    ]
    return scrolling(caption, "\n".join(lines))


def picture_table(caption: str, headings: Sequence[str], rows: Sequence[str]) -> str:
    """A table of pictures below plain headings, which scrolls sideways as others do.

    rows: in HTML, with cells as `picture` makes them.
    """
    lines = [
        '<table class="pictures">',
        table_caption(caption),
        f"<thead>{heading_row(headings)}</thead>",
        "<tbody>",
        *rows,
        "</tbody>",
        "</table>",
    ]
    return scrolling(caption, "\n".join(lines))


def table_caption(text: str) -> str:
    """A table's caption, a plain text, which stays in sight where the table scrolls sideways."""
    return f"<caption><span>{html.escape(text)}</span></caption>"


def scrolling(what: str, table: str) -> str:
    """A box for a table in HTML that may be wider than the page; it scrolls by keyboard too.

    what: a plain text that says what is in it.
    """
    label = html.escape(what)
    return f'<div class="wide" role="region" tabindex="0" aria-label="{label}">\n{table}\n</div>'


def _cell(text: str, heads: str = "") -> str:
    """A cell; heads: "col" or "row" where it is the heading of one."""
    if heads and text:
        return f'<th scope="{heads}">{html.escape(text)}</th>'
    return f"<td>{html.escape(text)}</td>"


def notes(texts: Sequence[str]) -> str:
    """Plain texts in small print, a paragraph each."""
    return "\n".join(f"<p><small>{html.escape(text)}</small></p>" for text in texts)


def data_uri(kind: str, encoded: bytes) -> str:
    """An address that holds an encoded picture of a kind ("png", "jpeg")."""
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def picture(what: str, source: str, size: HW, share: float = 1, names: str = "") -> str:
    """A table cell with a picture of a share of its width, and the classes in it below.

    size: (H, W) in pixels.
    """
    shown = image(f"{what}: {names}" if names else what, source, size, share)
    return f"<td>{shown}<small>{html.escape(names)}</small></td>"


def image(what: str, source: str, size: HW, share: float = 1) -> str:
    """A picture of size (H, W) as wide as a share of its place, loaded when it comes into sight."""
    height, width = size
    return (
        f'<img alt="{html.escape(what)}" src="{html.escape(source)}" width="{width}" '
        f'height="{height}" loading="lazy" style="width:{share:.1%}">'
    )


def labels_png(labels: UInt8) -> bytes:
    """Labels (HxW uint8) as an indexed PNG in VOC's colours, with a clear background."""
    from PIL import Image

    picture = Image.fromarray(labels)
    picture.putpalette(palette().tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=0, **own_mark("PNG"))
    return file.getvalue()


def photo_jpeg(photo: UInt8) -> bytes:
    """A photo (HxWx3 uint8 RGB) as a JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=_QUALITY, **own_mark("JPEG"))
    return file.getvalue()


def classes_in(labels: UInt8, names: Sequence[str] = VOC_CLASSES) -> str:
    """The names of the classes in a picture, without the background and without specks."""
    listed = {name for name, share in shares(labels, names).items() if share >= LEAST_SHARE}
    return ", ".join(name for name in names[1:] if name in listed) or names[0]


def colours() -> list[tuple[str, tuple[int, ...]]]:
    """The names and RGB colours of VOC's labels and of void."""
    by_label = [tuple(map(int, colour)) for colour in palette()]
    void = ("void, not scored", by_label[VOID])
    return [*zip(VOC_CLASSES, by_label, strict=False), void]


def legend() -> str:
    """A list of the colours of VOC's labels with their names."""
    items = [f"<li>{swatch(colour)}{html.escape(name)}</li>" for name, colour in colours()]
    return "\n".join(['<ul class="legend">', *items, "</ul>"])


def swatch(colour: Sequence[int]) -> str:
    """A small square of an RGB colour, to stand before the name of what it stands for."""
    return f'<span class="swatch" style="background:rgb({",".join(map(str, colour))})"></span>'
