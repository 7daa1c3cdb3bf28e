"""A wipe for web pages: two pictures of one photo in one place, with a border to move over them."""

import html
from collections.abc import Sequence

from deeplab_repro.arrays import HW
from deeplab_repro.show import webpage

STYLE = """.wipe { max-width: 40rem; margin: 1rem 0 2rem; }
.wipe p { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center; }
.wipe strong:empty { display: none; }
.wipe input, .stack { box-sizing: border-box; max-width: calc(75vh * var(--ratio)); }
.wipe input { display: block; width: 100%; margin: .6rem 0 0; }
.wipe select, .pictures button { font: inherit; max-width: 100%; }
.pictures button { font-size: .8rem; cursor: pointer; }
.stack { position: relative; aspect-ratio: var(--ratio); background: #000; cursor: ew-resize;
         touch-action: pan-y; user-select: none; }
.stack img { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.stack .side { opacity: .7; }
.stack .side.photo { opacity: 1; }
.stack .left { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.stack .right { clip-path: inset(0 0 0 var(--at)); }
.stack i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px;
           margin-left: -1px; background: #fff; box-shadow: 0 0 2px #000; }
"""

# It takes its pictures from elsewhere on the page, so that each is in the page once.
SCRIPT = """<script>
(() => {
  const shows = [];
  for (const wipe of document.querySelectorAll(".wipe")) {
    const rows = [...document.querySelectorAll(`[data-wipe="${wipe.id}"]`)];
    const stack = wipe.querySelector(".stack"), border = wipe.querySelector("i");
    const slider = wipe.querySelector("input"), selects = [...wipe.querySelectorAll("select")];
    const [under, ...sides] = ["under", "side left", "side right"].map((name) => {
      const image = document.createElement("img");
      Object.assign(image, { className: name, alt: "", loading: "lazy" });
      stack.insertBefore(image, border);
      return image;
    });
    let row = rows[0];
    const move = () => {
      stack.style.setProperty("--at", slider.value + "%");
      const left = selects[0].value, percent = Math.round(slider.value);
      slider.setAttribute("aria-valuetext", `${percent} percent ${left}`);
    };
    const show = () => {
      const pictures = row.querySelectorAll("img"), photo = pictures[0];
      wipe.querySelector("strong").textContent = rows.length > 1 ? row.dataset.name : "";
      under.src = photo.src;
      const [width, height] = ["width", "height"].map((side) => photo.getAttribute(side));
      wipe.style.setProperty("--ratio", width / height);
      sides.forEach((image, side) => {
        const chosen = selects[side].selectedIndex;
        image.src = pictures[chosen].src;
        image.alt = pictures[chosen].alt;
        image.classList.toggle("photo", chosen === 0);
      });
      const [left, right] = selects.map((select) => select.value);
      slider.setAttribute("aria-label", `${row.dataset.name}: wipe between ${left} and ${right}`);
      move();
    };
    shows.push(show);
    const drag = (event) => {
      if (!event.buttons) return;
      const box = stack.getBoundingClientRect();
      slider.value = 100 * (event.clientX - box.left) / box.width;
      move();
    };
    stack.addEventListener("pointerdown", drag);
    stack.addEventListener("pointermove", drag);
    slider.addEventListener("input", move);
    selects.forEach((select, side) => select.addEventListener("change", () => {
      for (const other of document.querySelectorAll(".wipe")) {
        const its = other.querySelectorAll("select")[side];
        its.selectedIndex = Math.min(select.selectedIndex, its.length - 1);
      }
      for (const each of shows) each();
    }));
    for (const each of rows) {
      const button = each.querySelector("button");
      if (!button) continue;
      button.hidden = false;
      button.addEventListener("click", () => {
        row = each;
        show();
        wipe.scrollIntoView({ block: "nearest" });
        slider.focus({ preventScroll: true });
      });
    }
    show();
    wipe.hidden = false;
  }
})();
</script>"""
"""For the end of a page with wipes. The choice of what is compared holds for all of them."""


def wipe(name: str, choices: Sequence[str], left: int, right: int) -> str:
    """A wipe in HTML, which stays hidden where no script runs.

    Its pictures are those of the elements with `shown_in(name, ...)`: of each the images in the
    order of `choices` (plain texts), the photo first. left, right: which two are shown first.
    """
    sides = "\n".join(
        f'<label>{side} <select autocomplete="off">{_options(choices, chosen)}</select></label>'
        for side, chosen in (("left", left), ("right", right))
    )
    return f"""<div class="wipe" id="{name}" hidden>
<p><strong></strong>
{sides}</p>
<div class="stack"><i></i></div>
<input type="range" min="0" max="100" step="any" value="50" autocomplete="off" aria-label="wipe">
</div>"""


def shown_in(name: str, photo: str) -> str:
    """Attributes of an element whose images a wipe shows. photo: what it is called, plain text."""
    return f'data-wipe="{name}" data-name="{html.escape(photo)}"'


def photo_cell(photo: str, source: str, size: HW, share: float = 1) -> str:
    """The first cell of a table's row for a wipe: the photo, and a button that brings it there."""
    name = html.escape(photo)
    shown = webpage.image(photo, source, size, share)
    button = f'<button type="button" hidden aria-label="Wipe {name}">wipe</button>'
    return f"<td>{shown}<small>{name} {button}</small></td>"


def _options(choices: Sequence[str], chosen: int) -> str:
    return "".join(
        f"<option{' selected' if index == chosen else ''}>{html.escape(each)}</option>"
        for index, each in enumerate(choices)
    )
