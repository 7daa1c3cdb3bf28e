"""What label maps hold: shares of one's pixels, and whether many are of fewer labels than told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.errors import DeepLabError
from deeplab_repro.files.images import VOID, read_labels

LEAST_SHARE = 0.005
"""Labels with a smaller share of the image are left out where labels are listed."""

_MOST_READ = 100
# Of so many maps none has one label, or of half as many none has two: then the label is not there.
_PROOF = 100
# A map of VOC has two or three labels; some with this many in a row are of another list of classes.
_LEAST_LABELS = 5


@dataclass(frozen=True)
class LabelsFound:
    """The labels of some maps out of more, but for one to ignore; is_ignored: if any has that."""

    labels: frozenset[int]
    read: int
    maps: int
    is_ignored: bool = False

    @property
    def largest(self) -> int:
        """The largest label; -1 if there is none."""
        return max(self.labels, default=-1)

    def are_of_fewer_than(self, n_labels: int) -> bool:
        """Whether so many maps would hold labels above the largest, if there were n_labels.

        That few maps lack labels says nothing, unless they have nearly all up to the largest.
        """
        absent = n_labels - 1 - self.largest
        if absent <= 0 or not self.labels:
            return False
        is_dense = len(self.labels) >= max(_LEAST_LABELS, 2 / 3 * (self.largest + 1))
        return absent * self.read >= _PROOF or (is_dense and absent >= n_labels / 3)

    @property
    def are_masks(self) -> bool:
        """Whether they hold 0 and what is ignored only, as masks of 0 and 255 do."""
        return self.is_ignored and self.labels == {0}

    def __str__(self) -> str:
        which = f"{self.read}" if self.read == self.maps else f"{self.read} of {self.maps}"
        plural = self.maps != 1
        return f"{which} label map{'s hold' if plural else ' holds'} none above {self.largest}"


def class_name(label: int, names: Sequence[str]) -> str:
    """What a label is called, by the names of the labels from 0 on; "class-37" without a name."""
    if label == VOID:
        return "void"
    return names[label] if label < len(names) else f"class-{label}"


def shares(labels: UInt8, names: Sequence[str]) -> dict[str, float]:
    """What is in a picture: each class by its name, with its share of all pixels, largest first.

    labels: HxW uint8. names: of the labels from 0 on; one without a name is called "class-37", and
    void (255) "void".
    """
    counts = np.bincount(labels.ravel())
    present = sorted(np.flatnonzero(counts).tolist(), key=lambda label: -counts[label])
    return {class_name(label, names): float(counts[label] / labels.size) for label in present}


def shares_text(labels: UInt8, names: Sequence[str]) -> str:
    """What is in a picture, in words: "background 68%, person 32%", without specks.

    labels, names: as for `shares`.
    """
    listed = shares(labels, names).items()
    return ", ".join(f"{name} {share:.0%}" for name, share in listed if share >= LEAST_SHARE)


def look_at(paths: Sequence[str | Path], ignored: int = VOID) -> LabelsFound:
    """The labels of up to 100 of these PNGs, evenly drawn; those that cannot be read are left out.

    ignored: a label that does not count. None are read where all files have names like those of
    VOC's images, as 2007_000033: they are VOC's.
    """
    step = -(-len(paths) // _MOST_READ) or 1
    drawn = [] if all(is_vocs(Path(path).stem) for path in paths) else list(paths)[::step]
    labels: set[int] = set()
    read = 0
    for path in drawn:
        try:
            labels.update(np.flatnonzero(np.bincount(read_labels(path).ravel())).tolist())
        except DeepLabError:  # whoever needs it will tell
            continue
        read += 1
    return LabelsFound(frozenset(labels - {ignored}), read, len(paths), ignored in labels)


def is_vocs(name: str) -> bool:
    """Whether an image's name is like those of PASCAL VOC: 2007_000033, or 000033 in 2007."""
    return re.fullmatch(r"(\d{4}_)?\d{6}", name) is not None
