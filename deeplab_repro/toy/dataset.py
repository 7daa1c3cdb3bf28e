"""Writes ToyVOC to disk in the layout of VOCdevkit's VOC2012, with the authors' lists."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.marks import write_noted
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.files.targets import check_targets, make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.toy.scenes import SPLITS, make_scene
from deeplab_repro.work.progress import Progress, unwatched

MOST_SCENES = 999_999


def write_dataset(
    out: str | os.PathLike[str],
    train: int,
    val: int,
    seed: int = 0,
    progress: Progress = unwatched,
    *,
    force: bool = False,
) -> None:
    """Draw so many scenes for `train` and `val` and write them to a folder.

    The folder `out` is made if it is missing. It gets:

        JPEGImages/ID.jpg, SegmentationClass/ID.png      the scenes; PNGs in the VOC palette
        ImageSets/Segmentation/{train,val,trainval}.txt  the ids
        classes.txt                                      the names of VOC's 21 classes
        list/{train,val}.txt, list/{train,val}_id.txt    for the authors' prototxts: pictures
                                                         with labels, and ids; root_folder is `out`

    An earlier set is replaced file by file, and never left half-written; the same arguments give
    the same files. The lists are written last, so that all they name exists. Scenes of an earlier,
    larger set stay, in no list. force: replace files that this tool did not make.

    Raises ArgumentError for a count out of range or a negative seed, FileError if a file cannot
    be written or is in the way; then nothing is written.
    """
    counts = dict(zip(SPLITS, (train, val), strict=True))
    for split, count in counts.items():
        if not 0 <= count <= MOST_SCENES:
            raise ArgumentError(f"{split}: is {count}, expected 0 to {MOST_SCENES} scenes")
    if train + val == 0:
        raise ArgumentError("train and val: are both 0, expected at least one scene")
    if seed < 0:
        raise ArgumentError(f"seed: is {seed}, expected 0 or more")

    root = Path(out)
    ids = {
        split: [f"toy_{split}_{index:06d}" for index in range(count)]
        for split, count in counts.items()
    }
    lists = _lists(root, ids)
    pictures = {name: _pictures(root, name) for names in ids.values() for name in names}
    check_targets({root: [*itertools.chain(*pictures.values()), *lists]}, (), force)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "list"):
        make_folder(root / folder)
    with progress("drawing", train + val) as advance:
        for split, names in ids.items():
            for index, name in enumerate(names):
                scene = make_scene(seed, index, split)
                photo, labels = pictures[name]
                with write_atomically(photo) as file:
                    file.write(scene.jpeg)
                write_labels(labels, scene.labels)
                advance()
    for path, lines in lists.items():
        write_noted(path, "".join(f"{line}\n" for line in lines).encode())


def _pictures(root: Path, name: str) -> tuple[Path, Path]:
    return root / f"JPEGImages/{name}.jpg", root / f"SegmentationClass/{name}.png"


def _lists(root: Path, ids: Mapping[str, list[str]]) -> dict[Path, list[str]]:
    """The lines of each list, by its file."""
    sets, lists = root / "ImageSets/Segmentation", root / "list"
    found = {
        sets / "trainval.txt": [*ids["train"], *ids["val"]],
        root / "classes.txt": list(VOC_CLASSES),
    }
    for split, names in ids.items():
        found[sets / f"{split}.txt"] = found[lists / f"{split}_id.txt"] = names
        pairs = [f"/JPEGImages/{name}.jpg /SegmentationClass/{name}.png" for name in names]
        found[lists / f"{split}.txt"] = pairs
    return found
