"""Caffe's SGD: a train net, its learning rates, its momentum (docs/original.md, section 6)."""

import itertools
import json
import logging
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from deeplab_repro.arrays import F32, dims
from deeplab_repro.caffe import (
    load_weights,
    prototxt_text,
    read_solverstate,
    write_caffemodel,
    write_solverstate,
)
from deeplab_repro.errors import FormatError, TrainingError, one_line
from deeplab_repro.files.made_of import sha256_of, sha256_of_text
from deeplab_repro.net.net import Net
from deeplab_repro.net.solver import SolverParameter, SolverState
from deeplab_repro.train.loss import SegAccuracyStep
from deeplab_repro.train.network import Network

_log = logging.getLogger(__name__)

# Settings that change no update; max_iter does with lr_policy "poly".
_NOT_LEARNED_BY = ("train_net", "average_loss", "display", "snapshot", "snapshot_prefix")


class Solver:
    """Trains a net, one update at a time.

    `iteration` counts the updates that were made. Random numbers depend on the solver's random_seed
    (0 if it has none) and the iteration only.
    """

    def __init__(self, parameter: SolverParameter, net: Net) -> None:
        self.parameter = parameter
        self.network = Network(net, parameter.random_seed or 0)
        self.history = [np.zeros_like(p.data) for p in self.network.parameters]
        self.iteration = 0
        self.losses: deque[float] = deque(maxlen=parameter.average_loss)

    @property
    def net(self) -> Net:
        """The net; its blobs are the arrays that are trained."""
        return self.network.net

    @property
    def learning_rate(self) -> float:
        """The rate of the coming update, by lr_policy."""
        return learning_rate(self.parameter, self.iteration)

    @property
    def average_loss(self) -> float:
        """The mean of the last average_loss losses."""
        return math.fsum(self.losses) / len(self.losses)

    @property
    def accuracy(self) -> tuple[float, float, float, float] | None:
        """Of the last batch SEG_ACCURACY's three fractions, and the mean IOU of classes there.

        None if the net has no SEG_ACCURACY; of several it is the last.
        """
        for step in reversed(self.network.steps):
            if isinstance(step, SegAccuracyStep):
                pixels, recall, jaccard = map(float, step.top.data.ravel())
                return pixels, recall, jaccard, step.mean_iou
        return None

    @np.errstate(over="ignore", invalid="ignore")  # the loss shows it
    def step(self, batches: Iterable[tuple[F32, F32]]) -> float:
        """Learn from iter_size batches; returns the mean of their losses before the update.

        A batch is data, NxCxHxW, and labels, Nx1xHxW, both float32. Raises TrainingError if a loss
        is NaN or infinite, or if there are fewer batches; the weights are then as they were.
        """
        self.network.clear_gradients()
        losses: list[float] = []
        for data, labels in itertools.islice(batches, self.parameter.iter_size):
            self.network.batch_number = self.iteration * self.parameter.iter_size + len(losses)
            losses.append(self.network.forward(data, labels))
            if not math.isfinite(losses[-1]):
                why = self.network.not_finite(losses[-1])
                raise TrainingError(f"iteration {self.iteration}: {why}")
            self.network.backward()
        if len(losses) < self.parameter.iter_size:
            raise TrainingError(
                f"iteration {self.iteration}: got {len(losses)} batches, expected "
                f"{self.parameter.iter_size} (iter_size)"
            )
        loss = math.fsum(losses) / len(losses)
        self.losses.append(loss)
        self._update()
        self.iteration += 1
        return loss

    def _update(self) -> None:
        """H = momentum * H + rate * (gradient / iter_size + decay * W), then W -= H, in float32."""
        momentum = np.float32(self.parameter.momentum)
        part = np.float32(1 / self.parameter.iter_size)
        for blob, history in zip(self.network.parameters, self.history, strict=True):
            rate = np.float32(np.float32(self.learning_rate) * np.float32(blob.lr_mult))
            decay = np.float32(
                np.float32(self.parameter.weight_decay) * np.float32(blob.decay_mult)
            )
            history *= momentum
            if rate:
                if part != 1:
                    blob.diff *= part
                if decay:
                    blob.diff += decay * blob.data
                history += rate * blob.diff
            blob.data -= history

    @property
    def digest(self) -> str:
        """A digest of the net and the settings, its data layer's too: of what makes the updates."""
        settings = asdict(self.parameter)
        for name in (*_NOT_LEARNED_BY, *(["max_iter"] if settings["lr_policy"] != "poly" else [])):
            del settings[name]
        return sha256_of_text(json.dumps([settings, prototxt_text(self.net, current=True)]))

    def check_weights(self) -> None:
        """Raise TrainingError for weights that are NaN or infinite: the last update made them."""
        for layer in self.net.layers:
            if not all(blob.data is None or np.isfinite(blob.data).all() for blob in layer.blobs):
                raise TrainingError(
                    f"iteration {self.iteration}: layer '{layer.name}' has weights that are NaN or "
                    "infinite, so no snapshot of them is written: lower base_lr"
                )

    def snapshot(self) -> tuple[Path, Path]:
        """Write <prefix>_iter_<N>.caffemodel, in the net's own format, and .solverstate.

        Each is written atomically. The solverstate comes last, and holds the caffemodel's digest:
        the two belong together.

        Raises FileError if they cannot be written.
        """
        stem = f"{self.parameter.snapshot_prefix}_iter_{self.iteration}"
        model, state = Path(f"{stem}.caffemodel"), Path(f"{stem}.solverstate")
        write_caffemodel(self.net, model, current=self.net.dialect == "Caffe")
        current_step = sum(self.iteration >= value for value in self.parameter.stepvalue)
        made = SolverState(
            self.iteration,
            str(model),
            self.history,
            current_step,
            learned_sha256=sha256_of(model),
            training_sha256=self.digest,
        )
        write_solverstate(made, state)
        return model, state

    def restore(self, path: str | Path) -> None:
        """Continue from a solverstate and the caffemodel that it names, which may lie beside it.

        Warns where another net of the same shapes, or other settings, had written them.

        Raises FileError, FormatError or WeightsError if they cannot be read, are of another net, or
        are not of the same snapshot.
        """
        state = read_solverstate(path)
        found = [array.size for array in state.history]
        expected = [array.size for array in self.history]
        if found != expected:
            wrong = next(
                (
                    f"blob {i + 1} has {n} values of momentum, expected {dims(array.shape)}"
                    for i, (n, array) in enumerate(zip(found, self.history, strict=False))
                    if n != array.size
                ),
                f"it has the momentum of {len(found)} blobs, expected {len(expected)}",
            )
            raise FormatError(
                f"{one_line(path)}: is the snapshot of another net than '{self.net.name}': "
                f"{wrong}: resume with the solver that wrote it"
            )
        model = Path(state.learned_net)
        beside = Path(path).parent / model.name
        model = beside if beside.exists() else model
        if state.learned_sha256 and state.learned_sha256 != sha256_of(model):
            raise FormatError(
                f"{one_line(model)}: is not the caffemodel that was written with {one_line(path)}: "
                "resume from another snapshot"
            )
        self.load(model)
        if state.training_sha256 not in ("", self.digest):
            _log.warning(
                "%s: was written by a training with another net, other settings or another list "
                "of images: this one goes on with its own",
                one_line(path),
            )
        for history, array in zip(self.history, state.history, strict=True):
            history[...] = array.reshape(history.shape)
        self.iteration = state.iteration

    def load(self, weights: str | Path, partial: bool = False) -> list[str]:
        """Take weights from a caffemodel by layer name; `partial` as in `load_weights`."""
        before = [blob for layer in self.net.layers for blob in layer.blobs]
        arrays = {id(blob): blob.data for blob in before}
        left = load_weights(self.net, weights, partial)
        for blob in (blob for layer in self.net.layers for blob in layer.blobs):
            array = arrays.get(id(blob))
            if array is None:  # statistics of a BatchNorm that shares them by name alone
                continue
            assert blob.data is not None
            array[...] = blob.data
            blob.data = array  # the array that is trained
        return left


def learning_rate(parameter: SolverParameter, iteration: int) -> float:
    """The rate of the update that follows `iteration` updates, by Caffe's lr_policy.

    As in C it is infinite where it overflows, and NaN for "poly" after max_iter.
    """
    with np.errstate(all="ignore"):
        return float(parameter.base_lr * _decline(parameter, np.float64(iteration)))


def _decline(p: SolverParameter, iteration: np.float64) -> np.float64:
    """The factor of base_lr."""
    gamma = np.float64(p.gamma)
    if p.lr_policy == "fixed":
        return np.float64(1)
    if p.lr_policy == "step":
        return gamma ** (iteration // p.stepsize)
    if p.lr_policy == "multistep":
        return gamma ** sum(iteration >= value for value in p.stepvalue)
    if p.lr_policy == "exp":
        return gamma**iteration
    if p.lr_policy == "inv":
        return (1 + gamma * iteration) ** -p.power
    if p.lr_policy == "poly":
        return (1 - iteration / p.max_iter) ** p.power
    if p.lr_policy == "sigmoid":
        return 1 / (1 + np.exp(-gamma * (iteration - p.stepsize)))
    raise FormatError(f"lr_policy '{p.lr_policy}' is unknown")
