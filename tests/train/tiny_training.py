"""A training that takes a moment: pictures of a few pixels, a net of two layers, its solver."""

from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_repro.files.pictures import write_labels
from deeplab_repro.train.data import SegData
from deeplab_repro.train.run import prepare
from deeplab_repro.train.sgd import Solver

# Height by width; some smaller than the crop, some larger.
SIZES = ((12, 20), (30, 13), (25, 28), (17, 17), (19, 40))
N_LABELS = 5

TRAIN = """
name: "tiny"
layers { name: "data" type: IMAGE_SEG_DATA top: "data" top: "label"
  image_data_param { source: "${DIR}/list.txt" root_folder: "${DIR}/" batch_size: 2 shuffle: true
    label_type: PIXEL }
  transform_param { crop_size: 17 mirror: true
    mean_value: 104.008 mean_value: 116.669 mean_value: 122.675 } }
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 6 kernel_size: 5 pad: 4 hole: 2 stride: 4
    weight_filler { type: "gaussian" std: 0.002 } } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "drop1" type: DROPOUT bottom: "conv1" top: "conv1" }
layers { name: "fc8" type: CONVOLUTION bottom: "conv1" top: "fc8"
  blobs_lr: 10 blobs_lr: 20 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 5 kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layers { name: "shrink" type: INTERP bottom: "label" top: "small"
  interp_param { shrink_factor: 4 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc8" bottom: "small" top: "loss"
  softmaxloss_param { ignore_label: 255 } }
layers { name: "accuracy" type: SEG_ACCURACY bottom: "fc8" bottom: "small" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 } }
"""
ACCURACY = TRAIN[TRAIN.index('layers { name: "accuracy"') :]

TEST = """
name: "tiny" input: "data" input_dim: 1 input_dim: 3 input_dim: 17 input_dim: 17
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 5 pad: 4 hole: 2 stride: 4 } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "drop1" type: DROPOUT bottom: "conv1" top: "conv1" }
layers { name: "fc8" type: CONVOLUTION bottom: "conv1" top: "fc8"
  convolution_param { num_output: 5 kernel_size: 1 } }
"""

SOLVER = """
train_net: "train.prototxt"
base_lr: 0.001 lr_policy: "step" gamma: 0.1 stepsize: 4
max_iter: 6 momentum: 0.9 weight_decay: 0.0005
display: 1 average_loss: 3 snapshot: 2 snapshot_prefix: "${DIR}/snap/it" random_seed: 3
"""


def write_training(folder: Path, solver: str = SOLVER, train: str = TRAIN) -> Path:
    """Write everything into the folder; the solver's path."""
    rng = np.random.default_rng(0)
    lines = []
    for i, (height, width) in enumerate(SIZES):
        picture = Image.fromarray(rng.integers(256, size=(height, width, 3), dtype=np.uint8))
        name = f"{i}.jpg" if i % 2 else f"{i}.png"
        picture.save(folder / name)
        labels = rng.integers(N_LABELS, size=(height, width), dtype=np.uint8)
        labels[:2] = 255
        write_labels(folder / f"{i}_labels.png", labels)
        lines.append(f"{name} {i}_labels.png\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "train.prototxt").write_text(train.replace("${DIR}", str(folder)))
    path = folder / "solver.prototxt"
    path.write_text(solver.replace("${DIR}", str(folder)))
    return path


def prepared(folder: Path, solver: str = SOLVER, train: str = TRAIN) -> tuple[Solver, SegData]:
    """The solver and the data of what `write_training` writes."""
    return prepare(write_training(folder, solver, train))


def weights(solver: Solver) -> list[np.ndarray]:
    """Copies of the weights."""
    return [parameter.data.copy() for parameter in solver.network.parameters]


def assert_same_bits(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
