"""Draw rough labels of examples/coffee.jpg, refine them, and show both: for the README.

Writes examples/coffee.npz, the rough scores, and examples/coffee.png, the pictures in a row.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deeplab_repro import CrfParams, dense_crf, read_image
from deeplab_repro.arrays import F32, UInt8
from deeplab_repro.files.lettering import text_font
from deeplab_repro.files.pictures import overlay
from deeplab_repro.files.probs import read_probs
from deeplab_repro.show.sheet import GAP, LINE, write_text

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = ("table", "white china", "saucer and cup", "coffee", "spoon")
STRIDE = 8
PARAMS = CrfParams(w1=5, sigma_alpha=60, sigma_beta=8)  # as in README.md


def rough_scores() -> F32:
    """Scores (5x50x75) of ellipses and lines, as a hand draws them in a minute: -2.5 to 2.5."""
    draw = ImageDraw.Draw(labels := Image.new("L", (600, 400)))
    draw.ellipse((88, 58, 488, 376), fill=2)  # the saucer, and the cup on it
    draw.line((374, 240, 396, 160, 416, 66), fill=4, width=22)
    draw.ellipse((185, 10, 400, 215), fill=1)
    draw.ellipse((212, 104, 378, 188), fill=3)
    draw.ellipse((335, 240, 412, 332), fill=4)
    masks = [labels.point([255 * (value == label) for value in range(256)]) for label in range(5)]
    blurred = [np.asarray(mask.filter(ImageFilter.GaussianBlur(STRIDE))) for mask in masks]
    scores = np.stack(blurred)[:, ::STRIDE, ::STRIDE] / 255 * 5 - 2.5
    return (np.rint(scores * 16) / 16).astype(np.float32)  # which takes less room in a file


def sheet(image: UInt8, labelled: dict[str, UInt8]) -> Image.Image:
    """The photo and its labels in a row, under their headings, in 256 colours."""
    pictures = {"photo": image}
    pictures |= {text: overlay(image, labels, NAMES) for text, labels in labelled.items()}
    height, width = (13 * n // 20 for n in image.shape[:2])
    out = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, LINE + height), "white")
    for column, (text, picture) in enumerate(pictures.items()):
        left = column * (width + GAP)
        write_text(ImageDraw.Draw(out), left, 0, text, text_font())
        smaller = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
        out.paste(smaller, (left, LINE))
    return out.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3)


if __name__ == "__main__":
    np.savez_compressed(EXAMPLES / "coffee.npz", scores=rough_scores(), stride=STRIDE, offset=0)
    image = read_image(EXAMPLES / "coffee.jpg")
    probs = read_probs(EXAMPLES / "coffee.npz", image.shape[:2])
    labelled = {
        "labels drawn by hand": probs.argmax(axis=0).astype(np.uint8),
        "the dense CRF's labels": dense_crf(image, probs, PARAMS).labels,
    }
    sheet(image, labelled).save(EXAMPLES / "coffee.png", optimize=True)
