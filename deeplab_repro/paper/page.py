"""The report on the paper as one HTML page that works offline."""

import html
import io
import itertools
from string import Template

from deeplab_repro.arrays import UInt8
from deeplab_repro.models.published import published
from deeplab_repro.paper.figure7 import Figure7, Panel
from deeplab_repro.paper.layout import TextTable, lay_out
from deeplab_repro.paper.report import READING, TITLE, Report
from deeplab_repro.paper.tables import Table
from deeplab_repro.show import webpage
from deeplab_repro.show.plot import NO_MATPLOTLIB

# At this quality a photo's JPEG is no larger than VOC's own.
_QUALITY = 85

_STYLE = """
.numbers { font-variant-numeric: tabular-nums; }
.numbers thead th[colspan]:not(:first-child) { text-align: center; }
.numbers thead tr:first-child:not(:last-child) th { vertical-align: bottom; }
.dense { font-size: .8rem; }
.dense th, .dense td { padding: .2rem .4rem; }
.dense th:first-child, .dense td:first-child { position: sticky; left: 0; background: #fff; }
.dense td:nth-child(2) { text-align: left; }
.curves { max-width: 100%; height: auto; }
summary { cursor: pointer; }
.pictures img, .stack { background: #000; }
.pictures button { font: inherit; font-size: .8rem; cursor: pointer; }
#wipe { max-width: 40rem; margin: 1rem 0 2rem; }
#wipe p { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center; }
#wipe input { width: 100%; margin: .4rem 0 0; }
#wipe select { font: inherit; }
.stack { position: relative; cursor: ew-resize; touch-action: pan-y; user-select: none; }
.stack img { display: block; width: 100%; pointer-events: none; }
.stack .side { position: absolute; inset: 0; height: 100%; opacity: .7; }
.stack .side.photo { opacity: 1; }
.stack .left { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.stack .right { clip-path: inset(0 0 0 var(--at)); }
.stack i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px;
           margin-left: -1px; background: #fff; box-shadow: 0 0 2px #000; }
"""

_FIGURE7 = Template("""<h2>Figure 7: before and after the CRF</h2>
<p>$count images, spread evenly over val and not chosen by hand: $net and $with_crf.</p>
<div id="wipe" hidden>
<p><strong></strong>
<label>left <select data-side="left">$options</select></label>
<label>right <select data-side="right">$options</select></label></p>
<div class="stack"><img alt="" class="under"><img alt="" class="side left"><img alt=""
class="side right"><i></i></div>
<input type="range" min="0" max="100" step="any" value="50" aria-label="Wipe between the two">
</div>
$legend
<div class="wide">
<table class="pictures">
<thead>$heading</thead>
<tbody>
$rows
</tbody>
</table>
</div>
<script>
$script
</script>""")

# The script takes its pictures from the table, so that each is in the page once.
_SCRIPT = """(() => {
  const wipe = document.getElementById("wipe"), stack = wipe.querySelector(".stack");
  const range = wipe.querySelector("input"), selects = [...wipe.querySelectorAll("select")];
  const rows = [...document.querySelectorAll(".pictures tbody tr")];
  let row = rows[0];
  const show = () => {
    const pictures = row.querySelectorAll("img");
    wipe.querySelector("strong").textContent = row.dataset.name;
    stack.querySelector(".under").src = pictures[0].src;
    for (const select of selects) {
      const image = stack.querySelector("." + select.dataset.side);
      image.src = pictures[select.selectedIndex].src;
      image.alt = pictures[select.selectedIndex].alt;
      image.classList.toggle("photo", select.selectedIndex === 0);
    }
    stack.style.setProperty("--at", range.value + "%");
  };
  const drag = (event) => {
    if (!event.buttons) return;
    const box = stack.getBoundingClientRect();
    range.value = 100 * (event.clientX - box.left) / box.width;
    show();
  };
  stack.addEventListener("pointerdown", drag);
  stack.addEventListener("pointermove", drag);
  range.addEventListener("input", show);
  selects.forEach((select, side) => {
    select.selectedIndex = side + 1;
    select.addEventListener("change", show);
  });
  for (const each of rows) {
    const button = each.querySelector("button");
    button.hidden = false;
    button.addEventListener("click", () => {
      row = each;
      show();
      wipe.scrollIntoView({ block: "nearest" });
      range.focus({ preventScroll: true });
    });
  }
  show();
  wipe.hidden = false;
})();"""


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
    return webpage.page(TITLE, "\n".join(parts), _STYLE)


def _table(table: Table) -> str:
    return f"<h2>{html.escape(table.title)}</h2>\n{_number_table(table)}"


def _number_table(table: Table) -> str:
    texts = lay_out(table)
    shown = webpage.number_table(_heading(texts), texts.lines, " dense" if table.is_wide else "")
    return f"<p>{html.escape(table.caption)}</p>\n{shown}\n{webpage.notes(texts.notes)}"


def _heading(table: TextTable) -> str:
    """A row with what the columns show, each over all its columns, and a row with whose."""
    groups = [
        f'<th colspan="{len(list(group))}">{html.escape(name)}</th>'
        for name, group in itertools.groupby(name for name, _ in table.heading)
    ]
    whose = [name for _, name in table.heading]
    below = webpage.table_row("th", whose) if any(whose) else ""
    return f"<tr>{''.join(groups)}</tr>{below}"


def _figure7(figure: Figure7) -> str:
    names = ("photo", figure.net, figure.with_crf, "truth")
    return _FIGURE7.substitute(
        count=len(figure.panels),
        net=html.escape(figure.net),
        with_crf=html.escape(figure.with_crf),
        options="".join(f"<option>{html.escape(name)}</option>" for name in names),
        legend=webpage.legend(),
        heading=webpage.table_row("th", names),
        rows="\n".join(_row(panel, names) for panel in figure.panels),
        script=_SCRIPT,
    )


def _row(panel: Panel, names: tuple[str, ...]) -> str:
    name = html.escape(panel.name)
    photo = webpage.data_uri("jpeg", _jpeg(panel.photo))
    button = f'<button type="button" hidden aria-label="Wipe {name}">wipe</button>'
    image = f'<img alt="{name}" src="{photo}" style="width:100%">'
    cells = [f"<td>{image}<small>{name} {button}</small></td>"]
    for what, labels in zip(names[1:], (panel.net, panel.with_crf, panel.truth), strict=True):
        source = webpage.data_uri("png", webpage.labels_png(labels, see_through=True))
        classes = webpage.class_names(labels)
        cells.append(webpage.picture(f"{panel.name}, {what}", source, names=classes))
    return f'<tr data-name="{name}">{"".join(cells)}</tr>'


def _jpeg(image: UInt8) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
