"""What is known of a model, as plain data: what `deeplab-repro models` prints."""

from dataclasses import asdict
from typing import Any

from deeplab_repro.caffe import read_net
from deeplab_repro.errors import DeepLabError
from deeplab_repro.models.fetched import check_unchanged, remembered
from deeplab_repro.models.published import published
from deeplab_repro.models.registry import MODELS, Model, Weights

Facts = dict[str, Any]
"""Of one model, ready for JSON."""


def facts_of(model: Model) -> Facts:
    """A model's net, CRF, files, published scores and weights.

    name, parameters, field_of_view (in pixels; None where branches at several scales meet), stride
    (of the scores), labels, knows ("photos" or "drawings"), crf (the fields of CrfParams, or None),
    prototxt (test, train, solver: paths), val_mean_iou, val_mean_iou_crf and test_mean_iou_crf (in
    percent, or None), table2 (the paper's row, or None), and weights: a list of what `_weights`
    tells, empty where none were released.

    Raises FileError where the installation lacks the net's files.
    """
    net = read_net(model.test_prototxt, {"EXP": model.exp})
    return {
        "name": model.name,
        "parameters": net.parameters,
        "field_of_view": net.field_of_view,
        "stride": round(net.output_stride, 3),
        "labels": net.output_shape()[1],
        "knows": model.knows,
        "crf": model.crf and asdict(model.crf),
        "prototxt": {
            "test": str(model.test_prototxt),
            "train": str(model.train_prototxt),
            "solver": str(model.solver_prototxt),
        },
        "val_mean_iou": model.val_mean_iou,
        "val_mean_iou_crf": model.val_mean_iou_crf,
        "test_mean_iou_crf": model.test_mean_iou_crf,
        "table2": next(
            (row for row in published()["table2"] if row["method"] == model.method_with_crf), None
        ),
        "weights": _weights(model),
    }


def all_facts() -> list[Facts]:
    """`facts_of` of every model, in the order of MODELS."""
    return [facts_of(model) for model in MODELS.values()]


def _weights(model: Model) -> list[Facts]:
    """A model's weights: file, training_set, path and state.

    state: "shipped" with the package, "fetched" to `path`, "not here", or "damaged": what was
    fetched is gone or has changed since, and `problem` says so in one line.
    """
    if model.shipped_weights:
        path = str(model.shipped_weights)
        return [_state(model.shipped_weights.name, "ToyVOC train", "shipped", path)]
    released = (model.train_weights, model.train2_weights)
    return [_on_this_machine(model, weights) for weights in released if weights]


def _on_this_machine(model: Model, weights: Weights) -> Facts:
    try:
        found = remembered(model.name, weights.file)
        if found is None:
            return _state(weights.file, weights.training_set, "not here")
        check_unchanged(found)
    except DeepLabError as error:
        return _state(weights.file, weights.training_set, "damaged", problem=str(error))
    return _state(weights.file, found.training_set, "fetched", found.path)


def _state(
    file: str,
    training_set: str,
    state: str,
    path: str | None = None,
    problem: str | None = None,
) -> Facts:
    return {
        "file": file,
        "training_set": training_set,
        "state": state,
        "path": path,
        "problem": problem,
    }
