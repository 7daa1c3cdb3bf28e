"""The models: nets, CRF parameters, weights and published scores.

Beside those of the paper and of DeepLab v2 there are two of ToyVOC, of the same shape at an eighth
of the width, which come with their weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deeplab_repro.crf.params import CrfParams
from deeplab_repro.errors import ArgumentError, FileError, did_you_mean
from deeplab_repro.models.published import mean_iou_of, published

VOC_CLASSES: tuple[str, ...] = tuple(published()["classes"])
"""The 21 classes of PASCAL VOC 2012 by label, background first."""


def class_names(n_labels: int) -> tuple[str, ...]:
    """Names for a net's labels: VOC's where it has 21, else class-0, class-1 and so on."""
    if n_labels == len(VOC_CLASSES):
        return VOC_CLASSES
    return tuple(f"class-{label}" for label in range(n_labels))


@dataclass(frozen=True)
class Weights:
    """A released caffemodel: its file name, and the split that it was trained on.

    sha256: of its contents, in hex, where it is known: no other file is then taken for it.
    """

    file: str
    training_set: str
    sha256: str | None = None


@dataclass(frozen=True)
class Model:
    """A model. Scores are mean IOU in percent; None where the paper has none.

    `train_weights` (train_aug) gives the val scores. `train2_weights` (trainval_aug) gives the
    test scores: it has seen the val images, so its val scores come out too high. Both are None
    where nothing was released, as is `crf`. `method_with_crf` is the name that the paper's tables
    give the model with its CRF; alone it goes by `name` there. `shipped_weights` is a caffemodel
    that comes with the package. `exp` is the value of ${EXP} in its prototxt files, which names
    the classifier. `knows` is the kind of picture that it was trained on.
    """

    name: str
    crf: CrfParams | None
    train_weights: Weights | None
    train2_weights: Weights | None
    val_mean_iou: float | None
    val_mean_iou_crf: float | None
    test_mean_iou_crf: float | None
    method_with_crf: str | None = None
    shipped_weights: Path | None = None
    exp: str = "voc12"
    knows: Literal["photos", "drawings"] = "photos"

    @property
    def folder(self) -> Path:
        """The model's folder in `prototxt/`; FileError where this installation lacks it."""
        return prototxt_folder() / self.name

    @property
    def test_prototxt(self) -> Path:
        """The net that gives scores."""
        return self.folder / "test.prototxt"

    @property
    def train_prototxt(self) -> Path:
        """The net that is trained, with its data layer and its loss."""
        return self.folder / "train.prototxt"

    @property
    def solver_prototxt(self) -> Path:
        """The solver that made `train_weights`."""
        return self.folder / "solver.prototxt"


def prototxt_folder() -> Path:
    """The folder of the paper's nets: inside an installed package, beside it in a checkout.

    FileError where there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    installed, checkout = package / "prototxt", package.parent / "prototxt"
    for folder in (installed, checkout):
        if folder.is_dir():
            return folder
    raise FileError(
        f"the nets' prototxt files are missing: neither {installed} nor {checkout} exists; "
        "install deeplab-repro again"
    )


def get_model(name: str) -> Model:
    """The model of that name, a key of MODELS; ArgumentError names the nearest for any other."""
    if name in MODELS:
        return MODELS[name]
    near = did_you_mean(str(name), MODELS) or ": deeplab-repro models lists them"
    raise ArgumentError(f"there is no model {name!r}{near}")


def _model(name: str, name_with_crf: str | None, *iterations: int) -> Model:
    """iterations: of the released weights, those of train_aug and those of trainval_aug."""
    train = train2 = None
    if iterations:
        train = Weights(f"train_iter_{iterations[0]}.caffemodel", "train_aug")
        train2 = Weights(f"train2_iter_{iterations[1]}.caffemodel", "trainval_aug")
    return Model(
        name,
        crf=_crf(name),
        train_weights=train,
        train2_weights=train2,
        val_mean_iou=mean_iou_of("val").get(name),
        val_mean_iou_crf=mean_iou_of("val").get(name_with_crf or ""),
        test_mean_iou_crf=mean_iou_of("test").get(name_with_crf or ""),
        method_with_crf=name_with_crf,
    )


def _toy_model(name: str, w1: float, sigma_alpha: float, sigma_beta: float) -> Model:
    # The CRF's parameters were found by cross-validation, see tools/make_toy_models.py.
    return Model(
        name,
        crf=CrfParams(w1, sigma_alpha, sigma_beta),
        train_weights=None,
        train2_weights=None,
        val_mean_iou=None,
        val_mean_iou_crf=None,
        test_mean_iou_crf=None,
        shipped_weights=Path(__file__).resolve().parents[1] / "toy" / f"{name}.caffemodel",
        exp="toyvoc",
        knows="drawings",
    )


def _crf(name: str) -> CrfParams | None:
    v2 = published()["v2"]["crf_parameters"]
    if name in v2:
        return CrfParams(**{key: float(value) for key, value in v2[name].items()})
    paper = published()["crf_parameters"]
    if name not in paper["released"]:
        return None
    w1, sigma_alpha, sigma_beta = map(float, paper["released"][name])
    return CrfParams(
        w1=w1,
        sigma_alpha=sigma_alpha,
        sigma_beta=sigma_beta,
        w2=float(paper["w2"]),
        sigma_gamma=float(paper["sigma_gamma"]),
    )


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        # the net, its name in the papers' tables with the CRF, iterations of the released weights
        _model("DeepLab", "DeepLab-CRF", 6000, 12000),
        _model("DeepLab-4x4", "DeepLab-CRF-4x4"),
        _model("DeepLab-7x7", "DeepLab-CRF-7x7"),
        _model("DeepLab-MSc", "DeepLab-MSc-CRF", 6000, 8000),
        _model("DeepLab-LargeFOV", "DeepLab-CRF-LargeFOV", 6000, 8000),
        _model("DeepLab-MSc-LargeFOV", "DeepLab-MSc-CRF-LargeFOV", 6000, 8000),
        _model("DeepLab-COCO-LargeFOV", None, 6000, 8000),
        _model("DeepLab-MSc-COCO-LargeFOV", None, 6000, 8000),
        _model("DeepLabv2-VGG16", "DeepLabv2-CRF-VGG16", 20000, 20000),
        _model("DeepLabv2-ResNet101", "DeepLabv2-CRF-ResNet101", 20000, 20000),
        _toy_model("ToyVOC-LargeFOV", 8, 40, 5),
        _toy_model("ToyVOC-MSc-LargeFOV", 8, 40, 8),
    )
}
"""Every model by its name; v1's COCO ones were released, but are in none of the papers' tables."""
