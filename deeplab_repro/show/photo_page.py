"""A page to look at segmented photos: each with a wipe between the photo and its labels."""

import hashlib
import html
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np

from deeplab_repro.arrays import UInt8, in_brief
from deeplab_repro.errors import one_line
from deeplab_repro.files.labels import LEAST_SHARE, shares, shares_text
from deeplab_repro.files.marks import PAGE_PICTURES, made_here
from deeplab_repro.files.pictures import palette
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.show import webpage, wipe

PAGE = "index.html"
"""The page's name in the folder of the results."""

# Pictures have at most so many pixels a side: a page of many large photos stays light.
_LONGEST = 1024
# They are named by what is in them, so that none ever becomes that of another photo.
_PICTURE = re.compile(r"[0-9a-f]{32}\.(jpg|png)")

_TITLE = "Segmented photos"

_STYLE = """.wide:has(> .all) { max-height: 70vh; overflow-y: auto; }
.all thead th { position: sticky; top: 0; background: var(--paper); }
.all :is(tbody th, td:last-child) { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
.all td:last-child { min-width: 14rem; }
.all tr > :last-child { text-align: left; }
.all td span { display: block; max-width: min(46rem, 50vw); }
section { border-top: 1px solid var(--line); margin-top: 2rem;
          content-visibility: auto; contain-intrinsic-height: auto 40rem; }
.photo { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
.photo .wipe { flex: 2 1 20rem; margin: 0; }
.photo .facts { flex: 1 1 18rem; min-width: 0; }
.row { display: flex; gap: .5rem; margin-top: 1rem; }
.row figure { flex: 1; margin: 0; min-width: 0; }
.row img { height: auto; background: #000; vertical-align: top; }
.row figcaption { font-size: .8rem; text-align: center; }
"""

_PHOTO = Template("""<section id="$anchor">
<h2>$name</h2>
<div class="photo">
$wipe
<div class="facts">
<p>$facts</p>
$shares
<div class="row" $shown_in>
$figures
</div>
</div>
</div>
</section>""")


@dataclass(frozen=True, eq=False)
class LabelledPhoto:
    """What the page shows of a photo.

    path: of its file. image: HxWx3 uint8 RGB. labels: by what made them ("net"), the final ones
    last, HxW uint8 without void. seconds: by what took them; none of one that was done before.
    written: files with its results.
    """

    path: Path
    image: UInt8
    labels: Mapping[str, UInt8]
    seconds: Mapping[str, float]
    written: Sequence[Path] = ()

    __repr__ = in_brief


def check_page(out: Path, inputs: Iterable[str | os.PathLike[str]], force: bool = False) -> None:
    """Raise FileError if a page in the folder `out` would take the place of others' files.

    inputs: the files that are read.
    """
    # No picture has this name: it stands for all of them.
    check_targets({out: [out / PAGE, out / PAGE_PICTURES / "picture"]}, inputs, force)


class PhotoPage:
    """A page about photos that come one after the other; its pictures are in a folder beside it.

    The pictures are written as the photos come, the page at the end. Until then an earlier page
    stays as it was, with its pictures.
    """

    def __init__(self, out: Path, names: Sequence[str], force: bool = False) -> None:
        """out: the folder of the page. names: of the labels. force: replace files of others."""
        self._out, self._names, self._force = out, names, force
        self._pictures: set[str] = set()
        self._failed: list[tuple[str, str]] = []
        self._done: list[tuple[str, str, list[str], str]] = []  # link, size, times, classes
        self._sections: list[str] = []
        self._timed: tuple[str, ...] = ()

    def add(self, photo: LabelledPhoto) -> None:
        """Put a photo on the page, and write its pictures. Raises FileError."""
        number, name = len(self._done) + 1, one_line(photo.path.name)
        anchor, wipe_id = f"photo-{number}", f"wipe-{number}"
        told = shares_text([*photo.labels.values()][-1], self._names)
        link = f'<a href="#{anchor}">{html.escape(one_line(photo.path))}</a>'
        self._timed = tuple(photo.seconds) or self._timed
        times = [f"{seconds:.2f} s" for seconds in photo.seconds.values()]
        self._done.append((link, _size(photo), times, told))

        images = {"photo": self._image(name, _small(photo.image), webpage.photo_jpeg, "jpg")}
        for what, labels in photo.labels.items():
            alt = f"{name}, {what}: {webpage.classes_in(labels, self._names)}"
            images[what] = self._image(alt, _small(labels), webpage.labels_png, "png")
        self._sections.append(
            _PHOTO.substitute(
                anchor=anchor,
                name=html.escape(name),
                wipe=wipe.wipe(wipe_id, [*images], left=len(images) - 2, right=len(images) - 1),
                facts=_facts(photo, self._out),
                shares=_share_table(photo.labels, self._names),
                shown_in=wipe.shown_in(wipe_id, name),
                figures="\n".join(
                    f"<figure>{image}<figcaption>{html.escape(what)}</figcaption></figure>"
                    for what, image in images.items()
                ),
            )
        )

    def add_failure(self, path: Path, why: object) -> None:
        """Put a photo on the page that could not be segmented."""
        name = one_line(path)
        self._failed.append((name, one_line(why).removeprefix(f"{name}: ")))

    def write(self, about: str) -> Path:
        """Write the page, and remove the pictures that only an earlier one had; returns its path.

        about: what made the labels of this run, in words. Raises FileError.
        """
        path = self._out / PAGE
        make_folder(self._out)
        check_targets({path: [path]}, (), self._force)
        with write_atomically(path) as file:
            file.write(self._encoded(about))
        self._remove_others()
        return path

    def _image(
        self, alt: str, picture: UInt8, encode: Callable[[UInt8], bytes], ending: str
    ) -> str:
        """Write a picture; returns what shows it."""
        height, width = picture.shape[:2]
        name = self._write_picture(encode(picture), ending)
        return webpage.image(alt, f"{PAGE_PICTURES}/{name}", (height, width))

    def _write_picture(self, content: bytes, ending: str) -> str:
        """Write an encoded picture; returns its name."""
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.{ending}"
        path = self._out / PAGE_PICTURES / name
        make_folder(path.parent)
        check_targets({path: [path]}, (), self._force)
        with write_atomically(path) as file:
            file.write(content)
        self._pictures.add(name)
        return name

    def _remove_others(self) -> None:
        for path in (self._out / PAGE_PICTURES).glob("*"):
            is_other = _PICTURE.fullmatch(path.name) and path.name not in self._pictures
            if is_other and made_here(path):
                with suppress(OSError):  # then it stays, which does no harm
                    path.unlink()

    def _encoded(self, about: str) -> bytes:
        failed, done = len(self._failed), len(self._done)
        counts = f"{done} done" + (f", {failed} failed" if failed else "")
        caption = f"All photos: {counts}" + (", those that failed first" if failed and done else "")
        headings = ["photo", "size", *self._timed, "classes"]
        table = [
            '<table class="numbers all">',
            webpage.table_caption(caption),
            f"<thead>{webpage.heading_row(headings)}</thead>",
            "<tbody>",
            *(_failed_row(*each, len(headings) - 1) for each in self._failed),
            *(
                _row(link, *map(_cell, [size, *(times or ["before"] * len(self._timed)), told]))
                for link, size, times, told in self._done
            ),
            "</tbody>",
            "</table>",
        ]
        ran = about if self._timed else "Nothing was segmented in this run"
        parts = [
            f"<h1>{_TITLE}</h1>",
            f"<p>{html.escape(one_line(ran))}.</p>",
            webpage.scrolling(caption, "\n".join(table)),
            *self._sections,
            wipe.SCRIPT,
        ]
        return webpage.page(_TITLE, "\n".join(parts), wipe.STYLE + _STYLE)


def _row(name: str, *cells: str) -> str:
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _failed_row(path: str, why: str, columns: int) -> str:
    cell = f'<td colspan="{columns}"><span>failed: {html.escape(why)}</span></td>'
    return _row(html.escape(path), cell)


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"


def _size(photo: LabelledPhoto) -> str:
    height, width = photo.image.shape[:2]
    return f"{width}x{height}"


def _small(picture: UInt8) -> UInt8:
    """A photo or labels with at most _LONGEST pixels a side; labels stay labels."""
    from PIL import Image

    height, width = picture.shape[:2]
    scale = _LONGEST / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = Image.Resampling.NEAREST if picture.ndim == 2 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize(size, method))


def _facts(photo: LabelledPhoto, out: Path) -> str:
    """The photo's path, size and times in HTML, and links to the files with its results."""
    times = [f"{what} {seconds:.2f} s" for what, seconds in photo.seconds.items()]
    told = html.escape(", ".join([one_line(photo.path), f"{_size(photo)} pixels", *times]))
    links = [
        # The name's bytes: it may be in no encoding at all.
        f'<a href="{quote(os.fsencode(Path(os.path.relpath(path, out)).as_posix()))}">'
        f"{html.escape(one_line(path.name))}</a>"
        for path in photo.written
    ]
    return f"{told}; written: {', '.join(links)}" if links else told


def _share_table(labels: Mapping[str, UInt8], names: Sequence[str]) -> str:
    """A table of the classes, with their colours, and their share by what made the labels."""
    by_maker = [shares(each, names) for each in labels.values()]
    listed = {name for each in by_maker for name in each if each[name] >= LEAST_SHARE}
    rows = [
        _row(
            webpage.swatch(palette()[names.index(name)].tolist()) + html.escape(name),
            *(_cell(f"{each.get(name, 0):.1%}") for each in by_maker),
        )
        for name in sorted(listed, key=lambda name: (-by_maker[-1].get(name, 0), names.index(name)))
    ]
    lines = [
        '<table class="numbers">',
        webpage.table_caption("Classes and their shares of the pixels"),
        f"<thead>{webpage.heading_row(['class', *labels])}</thead>",
        "<tbody>",
        *rows,
        "</tbody>",
        "</table>",
    ]
    return "\n".join(lines)
