"""The report on the paper as one HTML page that works offline."""

import html
import itertools
from string import Template

from deeplab_repro.models.published import published
from deeplab_repro.paper.figure7 import Figure7, Panel
from deeplab_repro.paper.layout import TextTable, lay_out
from deeplab_repro.paper.report import READING, TITLE, Report
from deeplab_repro.paper.tables import Table
from deeplab_repro.show import webpage, wipe
from deeplab_repro.show.plot import NO_MATPLOTLIB

_WIPE = "figure7"

_STYLE = """
.numbers { font-variant-numeric: tabular-nums; }
.numbers thead th[colspan]:not(:first-child) { text-align: center; }
.dense { font-size: .8rem; }
.dense th, .dense td { padding: .2rem .4rem; }
.dense th:first-child, .dense td:first-child { position: sticky; left: 0;
                                                background: var(--paper); }
.dense td:nth-child(2) { text-align: left; }
.curves { max-width: 100%; height: auto; background: #fff; }
summary { cursor: pointer; }
"""

_FIGURE7 = Template("""<h2>Figure 7: before and after the CRF</h2>
<p>$count images, spread evenly over val and not chosen by hand: $net and $with_crf.</p>
$wipe
$legend
$pictures""")


def page(report: Report, figure5: bytes | None) -> bytes:
    """The whole page, encoded: the tables, figure 5 (an encoded PNG) and figure 7 if they exist."""
    parts = [
        f"<h1>{html.escape(TITLE)}</h1>",
        *(f"<p>{html.escape(text)}</p>" for text in (f"{published()['source']}.", READING)),
        f"<p>{html.escape(report.summary)}</p>",
    ]
    curves = [name for name in report.tables if name.startswith("figure5")]
    parts += [_table(table) for name, table in report.tables.items() if name not in curves]
    parts.append("<h2>Figure 5: scores near borders</h2>")
    if figure5:
        source = webpage.data_uri("png", figure5)
        alt = "Figure 5: scores by the trimap's width, ours and the paper's"
        parts.append(f'<img class="curves" alt="{alt}" src="{source}">')
    elif report.curves:
        parts.append(webpage.notes([f"The curves are not drawn: {NO_MATPLOTLIB}"]))
    parts += [
        f"<details>\n<summary>{html.escape(report.tables[name].title)}</summary>\n"
        f"{_number_table(report.tables[name])}\n</details>"
        for name in curves
    ]
    if report.figure7:
        parts.append(_figure7(report.figure7))
        parts.append(wipe.SCRIPT)
    return webpage.page(TITLE, "\n".join(parts), wipe.STYLE + _STYLE)


def _table(table: Table) -> str:
    return f"<h2>{html.escape(table.title)}</h2>\n{_number_table(table)}"


def _number_table(table: Table) -> str:
    texts = lay_out(table)
    dense = " dense" if table.is_wide else ""
    shown = webpage.number_table(table.caption, _heading(texts), texts.lines, dense)
    return f"{shown}\n{webpage.notes(texts.notes)}"


def _heading(table: TextTable) -> str:
    """A row with what the columns show, each over all its columns, and a row with whose."""
    groups = []
    for name, group in itertools.groupby(name for name, _ in table.heading):
        count = len(list(group))
        scope = "colgroup" if count > 1 else "col"
        groups.append(f'<th scope="{scope}" colspan="{count}">{html.escape(name)}</th>')
    whose = [name for _, name in table.heading]
    below = webpage.heading_row(whose) if any(whose) else ""
    return f"<tr>{''.join(groups)}</tr>{below}"


def _figure7(figure: Figure7) -> str:
    names = ("photo", figure.net, figure.with_crf, "truth")
    return _FIGURE7.substitute(
        count=len(figure.panels),
        net=html.escape(figure.net),
        with_crf=html.escape(figure.with_crf),
        wipe=wipe.wipe(_WIPE, names, left=1, right=2),
        legend=webpage.legend(),
        pictures=webpage.picture_table(
            "Photos, labels and truth", names, [_row(panel, names) for panel in figure.panels]
        ),
    )


def _row(panel: Panel, names: tuple[str, ...]) -> str:
    photo = webpage.data_uri("jpeg", webpage.photo_jpeg(panel.photo))
    cells = [wipe.photo_cell(panel.name, photo, panel.photo.shape[:2])]
    for what, labels in zip(names[1:], (panel.net, panel.with_crf, panel.truth), strict=True):
        source = webpage.data_uri("png", webpage.labels_png(labels))
        classes = webpage.classes_in(labels)
        what = f"{panel.name}, {what}"
        cells.append(webpage.picture(what, source, labels.shape, names=classes))
    return f"<tr {wipe.shown_in(_WIPE, panel.name)}>{''.join(cells)}</tr>"
