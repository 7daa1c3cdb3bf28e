"""The numbers that the paper (ICLR 2015, arXiv 1412.7062v4) and DeepLab v2's published."""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def published() -> dict[str, Any]:
    """The papers' own numbers; every score is in percent. Shared between callers: do not change it.

    source          where they come from
    classes         the 21 VOC names, background first
    table1          val_mean_iou and test_mean_iou, each method -> score
    table2          one dict a method
    table3          method -> mean_iou and iou (21 in the order of classes, None: not given); test
    figure5         trimap_width_pixels, and mean_iou, pixel_accuracy and class_accuracy, each
                    method -> one score a width
    crf_parameters  released: model -> [w1, sigma_alpha, sigma_beta]; w2, sigma_gamma, iterations
    v2              DeepLab v2's (arXiv 1606.00915): source; vgg16 and resnet101 as table1; and
                    crf_parameters, model -> the fields of CrfParams
    claims          speed, as the text gives it
    """
    text = Path(__file__).with_name("published.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


@cache
def mean_iou_of(split: str) -> dict[str, float]:
    """Every mean IOU of both papers on a split, "val" or "test": each method -> percent."""
    data = published()
    found: dict[str, float] = {}
    if split == "val":
        found.update((row["method"], row["val_mean_iou"]) for row in data["table2"])
    for table in (data["table1"], data["v2"]["vgg16"], data["v2"]["resnet101"]):
        found.update(table[f"{split}_mean_iou"])
    return found
