"""HTML pages without outside files: style, tables, and pictures that are part of the page."""

import base64
import html
import io
from collections.abc import Sequence
from string import Template

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.files.images import VOID
from deeplab_repro.files.marks import MADE_BY
from deeplab_repro.files.pictures import palette
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.show import LEAST_SHARE

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="$made_by">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { max-width: 82rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff;
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 46rem; margin: .6rem 0; }
small { color: #555; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
.numbers th, .numbers td { padding: .2rem .8rem; text-align: right; white-space: nowrap; }
.numbers th:first-child, .numbers td:first-child { text-align: left; padding-left: 0; }
.numbers thead tr:last-child th { border-bottom: 1px solid #222; }
.numbers tbody th { font-weight: normal; }
.pictures { width: 100%; min-width: 56rem; table-layout: fixed; }
.pictures th { font-size: .75rem; vertical-align: bottom; padding: 0 .2rem .3rem; }
.pictures td { vertical-align: top; text-align: center; padding: .2rem; }
.pictures td small { display: block; line-height: 1.3; }
.pictures img { vertical-align: top; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
.legend span { display: inline-block; width: .9em; height: .9em; margin-right: .4em;
               vertical-align: -.1em; border: 1px solid #999; }
$style</style>
</head>
<body>
$body
</body>
</html>
""")


def page(title: str, body: str, style: str = "") -> bytes:
    """A whole page, encoded. title is plain text; body and style (CSS) are put in as they are."""
    return _PAGE.substitute(
        title=html.escape(title), made_by=MADE_BY, body=body, style=style
    ).encode()


def table_row(cell: str, texts: Sequence[str]) -> str:
    """A row of cells ("th" or "td") with plain texts."""
    return f"<tr>{''.join(f'<{cell}>{html.escape(text)}</{cell}>' for text in texts)}</tr>"


def number_table(heading: str, rows: Sequence[Sequence[str]], more_classes: str = "") -> str:
    """A table of plain texts, which scrolls sideways if it is wider than the page.

    heading: one row or more, in HTML.
    """
    lines = [
        '<div class="wide">',
        f'<table class="numbers{more_classes}">',
        f"<thead>{heading}</thead>",
        "<tbody>",
        *(table_row("td", row) for row in rows),
        "</tbody>",
        "</table>",
        "</div>",
    ]
    return "\n".join(lines)


def notes(texts: Sequence[str]) -> str:
    """Plain texts in small print, a paragraph each."""
    return "\n".join(f"<p><small>{html.escape(text)}</small></p>" for text in texts)


def data_uri(kind: str, encoded: bytes) -> str:
    """An address that holds an encoded picture of a kind ("png", "jpeg")."""
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def picture(what: str, source: str, share: float = 1, names: str = "") -> str:
    """A table cell with a picture of a share of its width, and the classes in it below."""
    alt = html.escape(f"{what}: {names}" if names else what)
    image = f'<img alt="{alt}" src="{source}" style="width:{share:.1%}">'
    return f"<td>{image}<small>{html.escape(names)}</small></td>"


def labels_png(labels: UInt8, see_through: bool = False) -> bytes:
    """Labels (HxW uint8) as an indexed PNG in VOC's colours; the background black, or clear."""
    from PIL import Image

    image = Image.fromarray(labels)
    image.putpalette(palette().tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", **({"transparency": 0} if see_through else {}))
    return file.getvalue()


def class_names(labels: UInt8) -> str:
    """The names of VOC's classes in a picture, without the background and without specks."""
    shares = np.bincount(labels.ravel(), minlength=VOID)[1 : len(VOC_CLASSES)] / labels.size
    there = [VOC_CLASSES[1 + label] for label in np.flatnonzero(shares >= LEAST_SHARE)]
    return ", ".join(there) or "background"


def colours() -> list[tuple[str, tuple[int, ...]]]:
    """The names and RGB colours of VOC's labels and of void."""
    by_label = [tuple(map(int, colour)) for colour in palette()]
    void = ("void, not scored", by_label[VOID])
    return [*zip(VOC_CLASSES, by_label, strict=False), void]


def legend() -> str:
    """A list of the colours of VOC's labels with their names."""
    return "\n".join(['<ul class="legend">', *(_legend_item(*each) for each in colours()), "</ul>"])


def _legend_item(name: str, colour: tuple[int, ...]) -> str:
    rgb = ",".join(map(str, colour))
    return f'<li><span style="background:rgb({rgb})"></span>{html.escape(name)}</li>'
