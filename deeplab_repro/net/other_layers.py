"""What layers say that no engine runs: the CRF behind a net, and where a train net's images are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DenseCrfParameter:
    """The values of a DENSE_CRF layer, one entry per kernel. No engine runs it as a layer."""

    max_iter: int
    pos_xy_std: tuple[float, ...]
    pos_w: tuple[float, ...]
    bi_xy_std: tuple[float, ...]
    bi_rgb_std: tuple[float, ...]
    bi_w: tuple[float, ...]


@dataclass(frozen=True)
class ImageSegData:
    """The values of an IMAGE_SEG_DATA layer: where a train net's images and label maps come from.

    Lines of `source` name an image and its label map, behind `root_folder`. crop_size 0 means none.
    """

    source: str
    root_folder: str = ""
    batch_size: int = 1
    crop_size: int = 0
    shuffle: bool = False
    mirror: bool = False
    ignore_label: int = 255
