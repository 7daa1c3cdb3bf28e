"""Pictures, label maps and their list, for tests of the data layer."""

from dataclasses import replace
from pathlib import Path

from deeplab_repro.net.other_layers import ImageSegData
from deeplab_repro.net.preprocess import VOCS, Preprocessing
from deeplab_repro.train.data import SegData

# Of the images, height by width: one smaller than the crop of 20, one on each axis, one larger.
SIZES = ((12, 16), (30, 13), (11, 33), (22, 24), (20, 20))
CROP = 20
N_LABELS = 5


def write_list(folder: Path, numbers) -> None:
    lines = [f"{i}.png {i}_labels.png\n" for i in numbers]
    (folder / "list.txt").write_text("".join(lines))


def layer(folder: Path, **values) -> ImageSegData:
    """A data layer as the released nets have it, but for the values given."""
    made = ImageSegData(
        source=str(folder / "list.txt"),
        root_folder=f"{folder}/",
        batch_size=3,
        crop_size=CROP,
        shuffle=True,
        mirror=True,
    )
    return replace(made, **values)


def seg_data(folder: Path, seed: int = 0, how: Preprocessing = VOCS, **values) -> SegData:
    return SegData(layer(folder, **values), how, N_LABELS, seed)
