"""Varied copies of labelled photos, for training: other sizes and colours, fewer common labels.

Caffe's data layer mirrors and crops; what it lacks is done here, once, before the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.cli.console import progress
from deeplab_repro.files.images import VOID, read_image, read_labels
from deeplab_repro.files.pictures import write_image, write_labels
from deeplab_repro.files.targets import make_folder
from deeplab_repro.files.whole import write_atomically
from deeplab_repro.machine.opencv import cv2

RARE = 0.01  # a class on fewer of the pixels than this keeps all its labels


def write_copies(
    pairs: Sequence[tuple[str, str]],
    folder: Path,
    copies: int,
    scales: tuple[float, float],
    n_labels: int,
) -> Path:
    """Write the copies of photos and label maps into a folder; the list of them, written last.

    Where the list is there, the copies are taken as they are. scales: the least and the greatest
    factor of size. Random numbers depend on the copy's number only.
    """
    target = folder / "train.txt"
    if target.exists():
        return target
    make_folder(folder)
    kept, lines = kept_parts([labels for _, labels in pairs], n_labels), []
    with progress(f"copies in {folder.name}", len(pairs)) as step:
        for index, (image_path, labels_path) in enumerate(pairs):
            image, labels = read_image(image_path), read_labels(labels_path)
            for copy in range(copies):
                rng, stem = np.random.default_rng([index, copy]), f"{Path(image_path).stem}_{copy}"
                scale = np.exp(rng.uniform(*np.log(scales)))
                write_image(folder / f"{stem}.jpg", recoloured(resized(image, scale), rng))
                write_labels(folder / f"{stem}.png", thinned(resized(labels, scale), kept, rng))
                lines.append(f"/{stem}.jpg /{stem}.png\n")
            step()
    with write_atomically(target) as file:
        file.write("".join(lines).encode())
    return target


def kept_parts(paths: Sequence[str], n_labels: int) -> np.ndarray:
    """Of each label value 0..255, which part of its pixels is kept: 1 for rare classes.

    Others are kept as one over the root of how frequent they are: a class that is a hundred times
    as frequent as another then counts ten times as much.
    """
    counts = np.zeros(256)
    for path in paths:
        counts += np.bincount(read_labels(path).ravel(), minlength=256)
    frequent = counts / max(1, counts[:n_labels].sum())
    return np.sqrt(RARE / np.maximum(frequent, RARE))


def resized(picture: UInt8, scale: float) -> UInt8:
    """A photo (HxWx3) or a label map (HxW) at another size; labels stay labels."""
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    how = smooth if picture.ndim == 3 else cv2.INTER_NEAREST
    return cv2.resize(picture, (width, height), interpolation=how)


def recoloured(image: UInt8, rng: np.random.Generator) -> UInt8:
    """The photo with another brightness, contrast and tint, as from another hour or camera."""
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3)
    middle = image.mean()
    changed = (image - middle) * gain + middle * rng.uniform(0.8, 1.2)
    return np.rint(np.clip(changed, 0, 255)).astype(np.uint8)


def thinned(labels: UInt8, kept: np.ndarray, rng: np.random.Generator) -> UInt8:
    """The label map with pixels of frequent classes made void, at random.

    Caffe's loss has no weights of classes, but it ignores void: this has the same effect.
    """
    return np.where(rng.random(labels.shape) < kept[labels], labels, np.uint8(VOID))
