"""Labels beside the true ones: scores, and where the CRF mended and where it spoilt."""

import io

import numpy as np

from deeplab_repro.arrays import UInt8
from deeplab_repro.files.images import VOID
from deeplab_repro.files.pictures import own_mark
from deeplab_repro.voc.metrics import Scores, confusion, or_none, trimap_confusions, trimap_scores

VERDICTS = {
    "mended: the net was wrong": (76, 139, 245),
    "spoilt: the net was right": (229, 56, 59),
    "wrong in both": (255, 200, 0),
    "void, not scored": (128, 128, 128),
}
"""The colours of `errors_png`; what is right in both is clear."""

_MENDED, _SPOILT, _WRONG, _NOT_SCORED = 1, 2, 3, 4


def scores(truth: UInt8, labels: UInt8, n_labels: int, width: int) -> dict[str, float | None]:
    """What labels score in percent, as plain data; None for what is not defined.

    Mean IOUs are over the classes that are there, in the truth or the labels. The trimap has a
    width in pixels. All else is as for `voc.metrics.confusion`.
    """
    whole = trimap_scores(confusion(truth, labels, n_labels))
    near = trimap_scores(trimap_confusions(truth, labels, n_labels, [width])[0])
    return _of(whole, "") | _of(near, "trimap_")


def _of(found: Scores, prefix: str) -> dict[str, float | None]:
    return {
        f"{prefix}mean_iou": or_none(found.mean_iou_of_present),
        f"{prefix}pixel_accuracy": or_none(found.pixel_accuracy),
    }


def errors_png(truth: UInt8, net: UInt8, labels: UInt8) -> bytes:
    """What became of the net's errors, HxW uint8 all three, as an indexed PNG."""
    from PIL import Image

    net_is_wrong, is_wrong = net != truth, labels != truth
    verdicts = np.select(
        [truth == VOID, net_is_wrong & is_wrong, net_is_wrong, is_wrong],
        [_NOT_SCORED, _WRONG, _MENDED, _SPOILT],
    )
    picture = Image.fromarray(verdicts.astype(np.uint8))
    picture.putpalette([0, 0, 0, *(value for colour in VERDICTS.values() for value in colour)])
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=0, **own_mark("PNG"))
    return file.getvalue()
