"""A train net in memory: its blobs, and its layers forward and backward."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import numpy as np

from deeplab_repro.arrays import F32, Shape
from deeplab_repro.errors import NetError
from deeplab_repro.machine.memory import require_memory
from deeplab_repro.net.channel_layers import BatchNorm, PReLU, Scale
from deeplab_repro.net.layers import (
    Convolution,
    Dropout,
    Eltwise,
    Interp,
    LayerType,
    Padding,
    Pooling,
    ReLU,
    SegAccuracy,
    SoftmaxLoss,
)
from deeplab_repro.net.net import Blob, Layer, Net
from deeplab_repro.train.channels import BatchNormStep, PReLUStep, ScaleStep
from deeplab_repro.train.convolution import ConvolutionStep, FusedReLUStep
from deeplab_repro.train.elementwise import DropoutStep, EltwiseStep, ReLUStep
from deeplab_repro.train.fillers import filled
from deeplab_repro.train.loss import SegAccuracyStep, SoftmaxLossStep
from deeplab_repro.train.pooling import PoolingStep
from deeplab_repro.train.resizing import InterpStep, PaddingStep
from deeplab_repro.train.values import Parameter, Value

# Part of a generator's seed: what its numbers are for. data.py has 1 and 2.
_FOR_FILLERS, _FOR_DROPOUT = 3, 4
# Beside the weights: their gradient, history, and a snapshot's.
_COPIES_OF_WEIGHTS = 4
_IN_PLACE = (BatchNorm, Dropout, PReLU, ReLU, Scale)


class Step(Protocol):
    """A layer in training: values go from its bottoms to its tops, gradients back."""

    def forward(self) -> None:
        """Fill the tops from the bottoms."""

    def backward(self) -> None:
        """Add to the gradients of the parameters and of the bottoms, from the tops'."""


_LEARNING_STEPS: dict[
    type[LayerType], Callable[[Layer, list[Value], list[Value], list[Parameter]], Step]
] = {
    BatchNorm: BatchNormStep,
    Convolution: ConvolutionStep,
    PReLU: PReLUStep,
    Scale: ScaleStep,
}
_STEPS: dict[type[LayerType], Callable[[Layer, list[Value], list[Value]], Step]] = {
    Eltwise: EltwiseStep,
    Interp: InterpStep,
    Padding: PaddingStep,
    Pooling: PoolingStep,
    ReLU: ReLUStep,
    SegAccuracy: SegAccuracyStep,
    SoftmaxLoss: SoftmaxLossStep,
}


class Network:
    """A train net (`caffe.read_train_net`) with memory for one batch, which every batch reuses.

    The net's own blobs become the arrays that are trained; those without values are filled by their
    fillers. Random numbers depend on the seed and on `batch_number`, which the trainer counts up.
    Raises NetError, naming the layer, for a net that cannot be trained, ResourceError if a batch
    needs more memory than there is.
    """

    def __init__(self, net: Net, seed: int = 0) -> None:
        self.net, self.seed, self.batch_number = net, seed, 0
        shapes = net.blob_shapes()
        _check_trainable(net)
        learning = _learning(net)
        _check_memory(net, shapes, learning)
        self.values = {
            name: Value(_zeros(shape), _zeros(shape) if name in learning else None)
            for name, shape in shapes.items()
        }
        self._of_blob: dict[int, Parameter] = {}  # by the blob's id: layers may share one
        self.steps: list[Step] = []
        for number, layer in enumerate(net.layers):
            self.steps.append(self._step(number, layer))
        self.parameters = list(self._of_blob.values())
        self.learning_steps = [
            step
            for layer, step in zip(net.layers, self.steps, strict=True)
            if learning & set(layer.tops)
        ]
        self._overwritten = self._let_the_first_overwrite()
        losses = (step for step in self.steps if isinstance(step, SoftmaxLossStep))
        self.losses = [loss for loss in losses if loss.op.loss_weight]

    def _step(self, number: int, layer: Layer) -> Step:
        bottoms = [self.values[name] for name in layer.bottoms]
        tops = [self.values[name] for name in layer.tops]
        if isinstance(layer.op, Dropout):
            return DropoutStep(layer, bottoms, tops, partial(self._random, number))
        before = self.steps[-1] if self.steps else None
        if (
            isinstance(layer.op, ReLU)
            and isinstance(before, ConvolutionStep)
            and before.top is bottoms[0] is tops[0]
        ):
            return FusedReLUStep(layer, before)
        if type(layer.op) in _STEPS:
            return _STEPS[type(layer.op)](layer, bottoms, tops)
        parameters = []
        for index, blob in enumerate(layer.blobs):
            if id(blob) not in self._of_blob:
                random = np.random.default_rng([self.seed, _FOR_FILLERS, number, index])
                try:
                    self._of_blob[id(blob)] = _parameter(blob, random)
                except NetError as error:
                    raise NetError(f"layer '{layer.name}' ({layer.type}): {error}") from None
            parameters.append(self._of_blob[id(blob)])
        return _LEARNING_STEPS[type(layer.op)](layer, bottoms, tops, parameters)

    def _let_the_first_overwrite(self) -> set[str]:
        """Let convolutions that go back first to a blob overwrite its gradient; names these blobs.

        That saves setting it to 0, and adding.
        """
        last_takers: dict[str, Step] = {}
        for layer, step in zip(self.net.layers, self.steps, strict=True):
            last_takers.update(dict.fromkeys(set(layer.bottoms) - set(layer.tops), step))
        names = set()
        for name, step in last_takers.items():
            if isinstance(step, ConvolutionStep) and step in self.learning_steps:
                step.is_first_to_add = True
                names.add(name)
        return names

    def _random(self, layer: int) -> np.random.Generator:
        """The generator of one layer for one batch: the same in a run that was resumed."""
        return np.random.default_rng([self.seed, _FOR_DROPOUT, self.batch_number, layer])

    def forward(self, data: F32, labels: F32) -> float:
        """The loss of a batch: data NxCxHxW, labels Nx1xHxW, both float32.

        Of a net with several losses it is their sum, each times its loss_weight.
        """
        self.values[self.net.input].data[...] = data
        (name,) = self.net.labels
        self.values[name].data[...] = labels
        for step in self.steps:
            step.forward()
        return float(sum(loss.op.loss_weight * loss.top.data.item() for loss in self.losses))

    def clear_gradients(self) -> None:
        """Set every parameter's gradient to 0."""
        for parameter in self.parameters:
            parameter.diff[...] = 0

    def backward(self) -> None:
        """Add to every parameter's gradient, for the batch of the last `forward`."""
        for name, value in self.values.items():
            if value.diff is not None and name not in self._overwritten:
                value.diff[...] = 0
        for step in reversed(self.learning_steps):
            step.backward()

    def not_finite(self, loss: float) -> str:
        """Why the last batch's loss is NaN or infinite."""
        if not all(loss.counted.any() for loss in self.losses):
            return (
                "the loss is NaN, because no pixel of the batch has a label that counts: remove "
                "images without any, or make batch_size larger"
            )
        for layer in self.net.layers:
            for top in layer.tops:
                if not np.isfinite(self.values[top].data).all():
                    return (
                        f"the loss is {loss:g}, and '{top}' the first blob (made by layer "
                        f"'{layer.name}') with values that are NaN or infinite: lower base_lr, or "
                        "check the weights that training began with"
                    )
        return f"the loss is {loss:g}"


def _check_trainable(net: Net) -> None:
    trained = {*_STEPS, *_LEARNING_STEPS, Dropout}
    others = {x.type: x.name for x in reversed(net.layers) if type(x.op) not in trained}
    if others:
        named = ", ".join(f"layer '{name}' ({kind})" for kind, name in reversed(others.items()))
        raise NetError(f"{named} cannot be trained here")
    takers: dict[str, str] = {}  # of each blob, the first layer that takes it and leaves it
    for layer in net.layers:
        in_place = set(layer.bottoms) & set(layer.tops)
        if in_place and type(layer.op) not in _IN_PLACE:
            raise NetError(f"layer '{layer.name}' ({layer.type}) cannot be trained in place here")
        for name in in_place & takers.keys():
            # That layer's backward step would find other values; Caffe refuses it as well.
            raise NetError(
                f"layer '{layer.name}' ({layer.type}) works in place on '{name}', which layer "
                f"'{takers[name]}' takes before it: give it a top of another name"
            )
        for name in set(layer.bottoms) - in_place:
            takers.setdefault(name, layer.name)


def _parameter(blob: Blob, random: np.random.Generator) -> Parameter:
    """The blob as it is trained, filled by its filler where it has no values."""
    data = filled(blob, random) if blob.data is None else blob.data
    blob.data = np.array(data, np.float32, order="C")
    return Parameter(blob.data, _zeros(blob.shape), blob.lr_mult, blob.decay_mult)


def _zeros(shape: Shape) -> F32:
    return np.zeros(shape, np.float32)


def _learning(net: Net) -> set[str]:
    """The blobs that need a gradient: there is something learnable before them."""
    names: set[str] = set()
    for layer in net.layers:
        if any(blob.lr_mult for blob in layer.blobs) or names & set(layer.bottoms):
            names.update(layer.tops)
    return names


def _check_memory(net: Net, shapes: Mapping[str, Shape], learning: set[str]) -> None:
    floats = sum(math.prod(shape) * (1 + (name in learning)) for name, shape in shapes.items())
    require_memory(
        4 * (floats + _COPIES_OF_WEIGHTS * net.parameters),
        f"training net '{net.name}' with batches of {net.input_shape[0]}",
        "take a smaller batch_size or crop_size",
    )
