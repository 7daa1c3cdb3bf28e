"""ToyVOC on disk: laid out as VOCdevkit's VOC2012, with the authors' lists beside it."""

import os
from collections.abc import Callable
from pathlib import Path

from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.images import write_labels
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.toy.scenes import SPLITS, make_scene

MOST_SCENES = 999_999


def scene_id(split: str, index: int) -> str:
    """The name of a scene, as in toy_train_000123."""
    return f"toy_{split}_{index:06d}"


def write_dataset(
    out: str | os.PathLike[str],
    train: int,
    val: int,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Draw `train` and `val` scenes and write them, calling `advance` after each.

    In the folder `out`, made if it is missing:

        JPEGImages/ID.jpg, SegmentationClass/ID.png      the scenes; PNGs in the VOC palette
        ImageSets/Segmentation/{train,val,trainval}.txt  the ids
        list/{train,val}.txt, list/{train,val}_id.txt    for the authors' prototxts: pictures
                                                         with labels, and ids; root_folder is `out`

    Files that are there are replaced one by one, never left half-written; the same arguments
    give the same files. The lists come last, so that what they name is there. Scenes of an
    earlier, larger set stay where they are, in no list.

    Raises ArgumentError for a count out of range or a negative seed, FileError if something
    cannot be written.
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
    for split, count in counts.items():
        for index in range(count):
            scene, name = make_scene(seed, index, split), scene_id(split, index)
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
    _write_lines(root / "ImageSets/Segmentation/trainval.txt", [*ids["train"], *ids["val"]])


def _write_lines(path: Path, lines: list[str]) -> None:
    with write_atomically(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
