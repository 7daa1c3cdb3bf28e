"""The paper's figure 2: score and belief maps of an image after every iteration of the CRF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplab_repro.arrays import F32, UInt8, dims, in_brief
from deeplab_repro.crf.arguments import memory_needed
from deeplab_repro.crf.features import kernel_features
from deeplab_repro.errors import ArgumentError
from deeplab_repro.files.labels import LEAST_SHARE
from deeplab_repro.files.lettering import text_font
from deeplab_repro.files.pictures import overlay, write_image
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.models.registry import VOC_CLASSES
from deeplab_repro.net.scores import softmax
from deeplab_repro.show.belief import coloured
from deeplab_repro.show.sheet import GAP, LINE, write_text

if TYPE_CHECKING:
    from deeplab_repro.crf.params import CrfParams
    from deeplab_repro.segmenter import DeepLab

_MAPS_HELD = 4  # CxHxW float32 arrays, besides those of the mean field


MOST_LABELS = 6
"""How many labels have maps at most: those with most pixels."""

# Widths in pixels: of a map, of the names on the left, of the scale on the right and its bar.
_CELL, _NAMES, _SCALE, _BAR = 150, 110, 80, 14
_LEAST_WIDTH = 960  # of the sheet, so that its title fits

_LEGEND = (
    "score: the input of the softmax, at first the net's scores; each row has one scale",
    "belief: the output of the softmax, 0 to 1",
)


@dataclass(frozen=True, eq=False)
class LabelMaps:
    """A label's maps after 0, 1, 2, ... iterations, each hxw float32, in the sheet's size.

    scores: the input of the softmax; beliefs: its output, 0 to 1.
    """

    label: int
    name: str
    scores: list[F32]
    beliefs: list[F32]

    __repr__ = in_brief


@dataclass(frozen=True, eq=False)
class Figure2:
    """An image, its labels after the CRF (HxW uint8), and the maps of the labels found.

    left_out: names of labels that were found too, but are not among the `MOST_LABELS` largest.
    """

    image: UInt8
    labels: UInt8
    maps: list[LabelMaps]
    left_out: list[str]

    __repr__ = in_brief


def score_maps(image: UInt8, scores: F32, params: CrfParams, iterations: int) -> Iterator[F32]:
    """Yield the input of the softmax before and after each iteration: CxHxW float32.

    The first is the net's scores s; after iteration t it is s + m(q), where q is the softmax of
    the one before and m the message of the kernels (docs/original.md, 2: `next`). The unary is
    -s, as in the authors' prog_refine_pascal_v4. With -log p, which `dense_crf` takes, all scores
    of a pixel are lower by log(sum exp s): the softmax is the same, but the net's map would not be
    on the paper's scale.

    image: HxWx3 uint8 RGB; scores: CxHxW float32, finite. Raises ResourceError for too little
    memory.
    """
    from deeplab_repro.crf.cpu.mean_field import Kernel, MeanField

    n_bytes = memory_needed(len(scores), scores[0].size) + _MAPS_HELD * scores.nbytes
    require_memory(n_bytes, f"figure 2 with scores of {dims(scores.shape)}")
    position, bilateral = kernel_features(image, params)
    q = softmax(scores)
    kernels = [Kernel(position, params.w2), Kernel(bilateral, params.w1)]
    field = MeanField(q.reshape(len(q), -1), kernels)
    yield scores
    for _ in range(iterations):
        current = scores + field.message(q.reshape(len(q), -1)).reshape(scores.shape)
        yield current
        q = softmax(current)


def make_figure2(model: DeepLab, image: UInt8) -> Figure2:
    """Segment an image (HxWx3 uint8 RGB) and keep the maps of the labels found in it.

    Raises ArgumentError for a model without a CRF, and what running the model raises.
    """
    if model.crf is None:
        raise ArgumentError("figure 2 shows what the CRF does, and this model has none")
    result = model(image)
    counts = np.bincount(result.labels.ravel(), minlength=256)
    ranked = np.argsort(-counts, kind="stable")
    least = min(LEAST_SHARE * result.labels.size, counts.max())
    there = [int(label) for label in ranked if counts[label] >= least]
    names = VOC_CLASSES if len(result.scores) == len(VOC_CLASSES) else list(map(str, range(256)))
    maps = [LabelMaps(label, names[label], [], []) for label in there[:MOST_LABELS]]
    for scores in score_maps(image, result.scores, model.crf, model.iterations):
        beliefs = softmax(scores)
        for each in maps:
            each.scores.append(_shrink(scores[each.label]))
            each.beliefs.append(_shrink(beliefs[each.label]))
    return Figure2(image, result.labels, maps, [names[label] for label in there[MOST_LABELS:]])


def write_figure2(path: Path, figure: Figure2) -> None:
    """Write the maps as one .png, atomically: two rows a label, a column an iteration.

    Each row of scores has one scale, from its lowest score to its highest; beliefs go from 0 to 1.
    Raises FileError if the file cannot be written.
    """
    write_image(path, _sheet(figure))


def _shrink(values: F32) -> F32:
    from PIL import Image

    shrunk = Image.fromarray(values).resize(_cell_size(values), Image.Resampling.BOX)
    return np.asarray(shrunk, np.float32)


def _cell_size(values: np.ndarray) -> tuple[int, int]:
    """Width and height of an image or map on the sheet; at most twice as tall as wide."""
    height, width = values.shape[:2]
    scale = min(_CELL / width, 2 * _CELL / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _sheet(figure: Figure2) -> UInt8:
    from PIL import Image, ImageDraw

    size = _cell_size(figure.image)
    n_columns, row_height = len(figure.maps[0].scores), max(size[1], 2 * LINE) + GAP
    lefts = [_NAMES + column * (size[0] + GAP) for column in range(n_columns + 1)]
    top = LINE + row_height + LINE
    height = top + len(figure.maps) * (2 * row_height + GAP)
    sheet = Image.new("RGB", (max(lefts[-1] + _SCALE, _LEAST_WIDTH), height), "white")
    draw, font = ImageDraw.Draw(sheet), text_font()

    write_text(draw, GAP, 0, "the image, and its labels after the CRF", font)
    for column, picture in enumerate((figure.image, overlay(figure.image, figure.labels))):
        small = Image.fromarray(picture).resize(size, Image.Resampling.BOX)
        sheet.paste(small, (_NAMES + column * (size[0] + GAP), LINE))
    for line, text in enumerate(_LEGEND, start=1):
        write_text(draw, _NAMES + 2 * (size[0] + GAP) + GAP, line * LINE, text, font)
    for iteration, left in enumerate(lefts[:-1]):
        text = f"iteration {iteration}" if iteration else "net"
        write_text(draw, left, top - LINE, text, font)
    bar = np.repeat(np.linspace(1, 0, size[1], dtype=np.float32)[:, None], _BAR, axis=1)
    for maps in figure.maps:
        low = min(float(scores.min()) for scores in maps.scores)
        high = max(float(scores.max()) for scores in maps.scores)
        rows = (("score", maps.scores, low, high, 1), ("belief", maps.beliefs, 0.0, 1.0, 0))
        for kind, row, least, most, digits in rows:
            for line, text in enumerate((maps.name, kind)):
                write_text(draw, GAP, top + line * LINE, text, font)
            pictures = [coloured(values, least, most) for values in row]
            for left, picture in zip(lefts, (*pictures, coloured(bar, 0, 1)), strict=True):
                sheet.paste(Image.fromarray(picture), (left, top))
            for value, down in ((most, -LINE // 4), (least, row_height - GAP - 3 * LINE // 4)):
                text = f"{value:.{digits}f}"
                write_text(draw, lefts[-1] + _BAR + GAP // 2, top + down, text, font)
            top += row_height
        top += GAP
    return np.asarray(sheet)
