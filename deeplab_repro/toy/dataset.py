"""Writes ToyVOC to disk in the layout of VOCdevkit's VOC2012, with the authors' lists."""

import os
from pathlib import Path

from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.pictures import write_labels
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.toy.scenes import SPLITS, make_scene
from deeplab_repro.work.progress import Progress, unwatched

MOST_SCENES = 999_999


def write_dataset(
    out: str | os.PathLike[str], train: int, val: int, seed: int = 0, progress: Progress = unwatched
) -> None:
    """Draw so many scenes for `train` and `val` and write them to a folder.

    The folder `out` is made if it is missing. It gets:

        JPEGImages/ID.jpg, SegmentationClass/ID.png      the scenes; PNGs in the VOC palette
        ImageSets/Segmentation/{train,val,trainval}.txt  the ids
        classes.txt                                      the names of VOC's 21 classes
        list/{train,val}.txt, list/{train,val}_id.txt    for the authors' prototxts: pictures
                                                         with labels, and ids; root_folder is `out`

    Existing files are replaced one by one and never left half-written; the same arguments give
    the same files. The lists are written last, so that all they name exists. Scenes of an earlier,
    larger set stay, in no list.

    Raises ArgumentError for a count out of range or a negative seed, FileError if a file cannot
    be written.
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
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "list"):
        make_folder(root / folder)
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    with progress("drawing", train + val) as advance:
        for split, count in counts.items():
            for index in range(count):
                scene, name = make_scene(seed, index, split), f"toy_{split}_{index:06d}"
                with write_atomically(root / f"JPEGImages/{name}.jpg") as file:
                    file.write(scene.jpeg)
                write_labels(root / f"SegmentationClass/{name}.png", scene.labels)
                ids[split].append(name)
                advance()

    for split, names in ids.items():
        _write_lines(root / f"ImageSets/Segmentation/{split}.txt", names)
        _write_lines(root / f"list/{split}_id.txt", names)
        pairs = [f"/JPEGImages/{name}.jpg /SegmentationClass/{name}.png" for name in names]
        _write_lines(root / f"list/{split}.txt", pairs)
    _write_lines(root / "classes.txt", list(VOC_CLASSES))
    _write_lines(root / "ImageSets/Segmentation/trainval.txt", [*ids["train"], *ids["val"]])


def _write_lines(path: Path, lines: list[str]) -> None:
    with write_atomically(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
