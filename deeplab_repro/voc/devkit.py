"""A data set in VOCdevkit's layout: its splits, photos, true labels and folders of results."""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.errors import FileError, FormatError, ImageError, one_line
from deeplab_repro.files.images import VOID, read_labels
from deeplab_repro.files.labels import look_at
from deeplab_repro.files.pictures import palette
from deeplab_repro.files.whole import open_to_read
from deeplab_repro.models.registry import VOC_CLASSES

_LISTS, _MASKS, _PHOTOS = "ImageSets/Segmentation", "SegmentationClass", "JPEGImages"
_ENDINGS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG")
_CLASSES = "classes.txt"
_MOST_LIST_BYTES = 1 << 26
_log = logging.getLogger(__name__)

# How OpenCV and Pillow turn colours to grey: weights of red, green and blue, and a shift.
_LUMINANCES = ((4899, 9617, 1868, 14), (19595, 38470, 7471, 16))


@dataclass(frozen=True)
class Devkit:
    """A data set in the layout of VOCdevkit's VOC2012, of any year and with any classes.

        ImageSets/Segmentation/<split>.txt   ids, one a line; a 1, 0 or -1 behind one is left out
        JPEGImages/<id>.jpg                  photos (or .JPG, .jpeg, .JPEG, .png, .PNG)
        SegmentationClass/<id>.png           true labels, 255 void; test has none
        classes.txt                          names by label, one a line; without it VOC's 21

    `open_devkit` makes one and checks the folder. assumed: whether the classes are VOC's only
    because no list names others. named_in: a file of the classes' names that is not the folder's.
    """

    root: Path
    classes: tuple[str, ...]
    assumed: bool = field(default=False, compare=False)
    named_in: Path | None = field(default=None, compare=False)

    @property
    def year(self) -> str:
        """The year for the path of results: the folder's name if it is like VOC2007, or VOC2012."""
        name = self.root.resolve().name
        return name if re.fullmatch(r"VOC\d{4}", name) else "VOC2012"

    @property
    def n_labels(self) -> int:
        """How many classes there are, the background included."""
        return len(self.classes)

    def absolute(self) -> "Devkit":
        """The same data set, for a process with another working directory."""
        return replace(self, root=self.root.absolute())

    @property
    def classes_told(self) -> str:
        """How many classes there are and who says so, to begin a message."""
        root = one_line(self.root)
        if self.assumed:
            return f"{root}: has no {_CLASSES}, so VOC's {self.n_labels} classes are assumed"
        return f"{one_line(self.named_in) if self.named_in else root}: has {self.n_labels} classes"

    @property
    def classes_mend(self) -> str:
        """What to do where the classes are others, to end a message."""
        if self.named_in:
            return "name another file of its classes, by label, one a line, with --classes"
        return (
            f"write the names of its classes, by label, one a line, to "
            f"{one_line(self.root / _CLASSES)}, or name such a file with --classes"
        )

    def warn_of_other_classes(self, names: list[str]) -> None:
        """Warn if the masks of these images seem to be of other classes than is assumed.

        Or if a class is void in them, as in masks of 0 and 255.
        """
        found = look_at([path for name in names if (path := self.mask(name)).is_file()])
        if found.are_masks:
            _log.warning(
                "%s: the true labels are 0 and %d only, and %d is void, which never counts: if it "
                "stands for a class, save it as that class's number, 1 say",
                one_line(self.root / _MASKS),
                VOID,
                VOID,
            )
        elif self.assumed and found.are_of_fewer_than(self.n_labels):
            told, mend = self.classes_told, self.classes_mend
            _log.warning("%s, but %s: if its classes are others, %s", told, found, mend)

    def ids(self, split: str) -> list[str]:
        """The ids of a split, in the list's order.

        Raises FileError if there is no such list, naming those that exist, and FormatError for a
        list that is empty, repeats an id, or has a line that is not an id.
        """
        lists = self.root / _LISTS
        known = sorted(each.stem for each in lists.glob("*.txt"))
        if split not in known:
            raise FileError(
                f"{one_line(lists)}: has no list of split {split[:80]!a}: the "
                f"splits here are {', '.join(known) or 'none'}"
            )
        path = lists / f"{split}.txt"
        lines: dict[str, int] = {}
        for number, line in enumerate(_lines(path), start=1):
            name = self._id_of(line.strip())
            if not name:
                continue
            if not is_id(name):
                raise FormatError(
                    f"{one_line(path)}: line {number} is {name[:80]!a}, expected the id of an "
                    "image, the name of its file without folder and extension"
                )
            if name in lines:
                raise FormatError(
                    f"{one_line(path)}: line {number} repeats '{name}' of line {lines[name]}: "
                    "it would count twice, remove one"
                )
            lines[name] = number
        if not lines:
            raise FormatError(f"{one_line(path)}: holds no ids")
        return list(lines)

    def _id_of(self, line: str) -> str:
        """The id that a line of a list names: lists of ImageSets/Main have a number behind it."""
        numbered = re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line)
        if not numbered:
            return line
        is_whole = is_id(line) and any((*self._photos(line), self.mask(line).is_file()))
        return line if is_whole else numbered[1]

    def photo(self, name: str) -> Path:
        """The path of a photo; <id>.jpg where there is none."""
        return next(self._photos(name), self.root / _PHOTOS / f"{name}.jpg")

    def _photos(self, name: str) -> Iterator[Path]:
        paths = (self.root / _PHOTOS / f"{name}{ending}" for ending in _ENDINGS)
        return filter(os.path.isfile, paths)

    def mask(self, name: str) -> Path:
        """The path of the true labels."""
        return self.root / _MASKS / f"{name}.png"

    def require(self, names: list[str], split: str, masks: bool) -> None:
        """Raise FileError if the photo of one of these ids is missing, or with `masks` the mask.

        Also if an id has two photos.
        """
        where = self.mask if masks else self.photo
        missing = [name for name in names if not os.path.isfile(where(name))]
        if missing:
            raise FileError(
                f"{one_line(where(missing[0]))}: does not exist, but split '{split}' names "
                f"it (and {len(missing) - 1} more that are missing): is it the list of another "
                "data set?"
            )
        for name in names if not masks else ():
            first = self.photo(name)
            for other in self._photos(name):
                # On a disk that does not tell a.jpg from a.JPG they are one file.
                if not os.path.samefile(first, other):
                    raise FileError(
                        f"{one_line(other)}: is a second photo of '{name}', beside {first.name}: "
                        "remove one of them"
                    )

    def read_mask(self, name: str) -> UInt8:
        """Read the true labels of an image: HxW uint8, 255 void; a palette PNG as its indices.

        Raises what `read_labels` raises, and ImageError for labels beyond the classes. It says so
        if the values are the brightness of VOC's colours.
        """
        path = self.mask(name)
        labels = read_labels(path)
        self.check(labels, path)
        return labels

    def check(self, labels: UInt8, path: Path, *, void: int | None = VOID) -> None:
        """Raise ImageError unless all labels (HxW uint8) are of the classes, or void."""
        there = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
        wrong = [int(label) for label in there if label >= self.n_labels and label != void]
        if not wrong:
            return
        besides = "" if void is None else f" and {void}"
        expected = f"{one_line(path)}: has label {wrong[-1]}, expected 0 to {self.n_labels - 1}"
        if any(set(there.tolist()) <= of for of in _luminances(self.n_labels)):
            raise ImageError(
                f"{expected}{besides}: its values are the brightness of VOC's colours, it was "
                "converted to grey: save the palette's indices (Pillow: mode P, as opened)"
            )
        if wrong == [VOID]:
            raise ImageError(
                f"{expected}: {VOID} is void, which only true labels have. If these are true "
                "labels, give the folder of the results instead; if it stands for a class, save it "
                "as that class's number"
            )
        raise ImageError(
            f"{expected}{besides} ({len(wrong)} other labels in all): if the data set has more "
            f"classes, {self.classes_mend}"
        )


def _luminances(n_labels: int) -> list[set[int]]:
    """The grey values of the colours of so many labels and of void, in OpenCV and in Pillow."""
    colours = palette()[[*range(n_labels), VOID]].astype(np.int64)
    return [
        set(((colours @ weights + (1 << shift - 1)) >> shift).tolist())
        for *weights, shift in _LUMINANCES
    ]


def open_devkit(
    root: str | os.PathLike[str], classes: str | os.PathLike[str] | None = None
) -> Devkit:
    """Open a data set in VOCdevkit's layout.

    classes: a file of names by label, one a line, in place of the folder's classes.txt.

    Raises FileError for a folder without ImageSets/Segmentation, FormatError for a list of classes
    that is empty, repeats a name or has more than 255.
    """
    root = Path(root)
    if not (root / _LISTS).is_dir():
        inside = [each for each in (root, *_folders(root)) if (each / _LISTS).is_dir()]
        mend = f"give {one_line(inside[0])}" if inside else "give the folder VOC2012 or alike"
        if (root / "results").is_dir():
            mend += "; this one has results, are the two folders swapped?"
        name = one_line(root)
        raise FileError(f"{name}: has no {_LISTS}, expected VOCdevkit's layout: {mend}")
    named = Path(classes) if classes is not None else root / _CLASSES
    if classes is None and not named.exists():
        return Devkit(root, VOC_CLASSES, assumed=True)
    own = None if classes is None else named
    return Devkit(root, read_classes(named), named_in=own)


def read_classes(path: str | Path) -> tuple[str, ...]:
    """Read names of classes by label, one a line.

    Raises FileError, and FormatError for a list that is empty, repeats a name or has more than 255.
    """
    names = [line.strip() for line in _lines(Path(path)) if line.strip()]
    if not 1 <= len(names) <= VOID or len(set(names)) < len(names):
        found = f"{len(names)} names, {len(set(names))} different ones"
        raise FormatError(
            f"{one_line(path)}: has {found}, expected 1 to {VOID} different names of classes, "
            "by label, one a line"
        )
    return tuple(names)


def is_id(text: str) -> bool:
    """Whether a text can be an image's id: a file name, not a path."""
    return re.fullmatch(r"[\w+=@~(-](?:[\w.+=@~()&,'! -]*[\w.+=@~)!-])?", text) is not None


def results_folder(out: Path, split: str, year: str = "VOC2012") -> Path:
    """The folder of a split's results in the test server's layout: <out>/results/..."""
    return out / "results" / year / "Segmentation" / f"comp6_{split}_cls"


def _folders(root: Path) -> list[Path]:
    return sorted(root.glob("*")) + sorted(root.glob("*/*")) if root.is_dir() else []


def _lines(path: Path) -> list[str]:
    with open_to_read(path) as (file, size):
        if size > _MOST_LIST_BYTES:
            raise FormatError(f"{one_line(path)}: has {size:,} bytes, expected a list of names")
        try:
            return file.read().decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise FormatError(f"{one_line(path)}: is not a text in UTF-8") from error
