"""Whole nets trained slowly and obviously, in float64: the oracle of trainings of many layers.

It knows the layers of v2's nets. Values are NxCxHxW; every layer has a function that gives its top,
and one that gives from the top's gradient those of its bottoms and of its weights.
"""

import numpy as np

from deeplab_repro.net.channel_layers import BatchNorm, PReLU, Scale
from deeplab_repro.net.layers import (
    Convolution,
    Dropout,
    Eltwise,
    Interp,
    Pooling,
    ReLU,
    SoftmaxLoss,
)


class NaiveTraining:
    """Caffe's SGD on a train net (docs/original.md, section 6): gradients of batches are averaged.

    Layers that share a blob share its array here.
    """

    def __init__(self, net, parameter):
        self.net, self.parameter, self.iteration = net, parameter, 0
        blobs = {id(blob): blob for layer in net.layers for blob in layer.blobs}
        self.rates = {key: (blob.lr_mult, blob.decay_mult) for key, blob in blobs.items()}
        self.weights = {key: blob.data.astype(float) for key, blob in blobs.items()}
        self.history = {key: np.zeros_like(data) for key, data in self.weights.items()}

    def step(self, batches):
        """One update; the mean loss of the batches before it."""
        p, total = self.parameter, 0.0
        gradients = {key: np.zeros_like(data) for key, data in self.weights.items()}
        for data, labels in batches:
            total += self._learn(data.astype(float), labels.astype(float), gradients)
        rate = p.base_lr * (1 - self.iteration / p.max_iter) ** p.power
        for key, data in self.weights.items():
            lr_mult, decay_mult = self.rates[key]
            gradient = gradients[key] / len(batches) + p.weight_decay * decay_mult * data
            self.history[key] = p.momentum * self.history[key] + rate * lr_mult * gradient
            data -= self.history[key]
        self.iteration += 1
        return total / len(batches)

    def _learn(self, data, labels, gradients):
        """Add to the gradients those of one batch; its loss."""
        (label,) = self.net.labels
        values, runs, loss = {self.net.input: data, label: labels}, [], 0.0
        for layer in self.net.layers:
            weights = [self.weights[id(blob)] for blob in layer.blobs]
            bottoms = [values[name] for name in layer.bottoms]
            top, back = _LAYERS[type(layer.op)](layer.op, bottoms, weights)
            values[layer.tops[0]] = top
            runs.append((layer, back))
            if isinstance(layer.op, SoftmaxLoss):
                loss += layer.op.loss_weight * top
        diffs = {}
        for layer, back in reversed(runs):
            is_loss = isinstance(layer.op, SoftmaxLoss)
            top_diff = layer.op.loss_weight if is_loss else diffs.pop(layer.tops[0], None)
            if top_diff is None:  # nothing that is learnt depends on it
                continue
            to_bottoms, to_weights = back(top_diff)
            for name, diff in zip(layer.bottoms, to_bottoms, strict=False):
                diffs[name] = diffs.get(name, 0) + diff
            for blob, diff in zip(layer.blobs, to_weights, strict=False):
                gradients[id(blob)] += diff
        return loss


def _convolution(op, bottoms, weights):
    (x,), (ph, pw), (sh, sw), (hh, hw) = bottoms, op.pad, op.stride, op.hole
    weight, *bias = weights
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    rows, columns = op.top_shape([x.shape])[2:]

    def seen(i, j):
        """What the tap sees of the padded image: a view."""
        down, right = slice(i * hh, None, sh), slice(j * hw, None, sw)
        return (..., down, right), (..., slice(rows), slice(columns))

    def tap(array, i, j):
        every, first = seen(i, j)
        return array[every][first]

    taps = list(np.ndindex(*op.kernel))
    top = sum(np.einsum("oc,nchw->nohw", weight[:, :, i, j], tap(padded, i, j)) for i, j in taps)
    if bias:
        top = top + bias[0][:, None, None]

    def back(diff):
        to_padded, to_weight = np.zeros_like(padded), np.zeros_like(weight)
        for i, j in taps:
            tap(to_padded, i, j)[...] += np.einsum("oc,nohw->nchw", weight[:, :, i, j], diff)
            to_weight[:, :, i, j] = np.einsum("nohw,nchw->oc", diff, tap(padded, i, j))
        inside = to_padded[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]]
        return [inside], [to_weight, *([diff.sum(axis=(0, 2, 3))] if bias else [])]

    return top, back


def _pooling(op, bottoms, weights):  # noqa: ARG001
    (x,) = bottoms
    size = op.top_shape([x.shape])
    top, of = np.empty(size), np.zeros((*size, 2), int)
    for i, j in np.ndindex(*size[2:]):
        first = [max(at * s - p, 0) for at, s, p in zip((i, j), op.stride, op.pad, strict=True)]
        last = [
            at * s - p + k for at, s, p, k in zip((i, j), op.stride, op.pad, op.kernel, strict=True)
        ]
        window = x[:, :, first[0] : last[0], first[1] : last[1]]
        flat = window.reshape(*window.shape[:2], -1)
        best = flat.argmax(axis=2)
        top[:, :, i, j] = flat.max(axis=2)
        of[:, :, i, j, 0] = first[0] + best // window.shape[3]
        of[:, :, i, j, 1] = first[1] + best % window.shape[3]

    def back(diff):
        found = np.zeros_like(x)
        n, c = np.ogrid[: size[0], : size[1]]
        for i, j in np.ndindex(*size[2:]):
            np.add.at(found, (n, c, of[:, :, i, j, 0], of[:, :, i, j, 1]), diff[:, :, i, j])
        return [found], []

    return top, back


def _relu(op, bottoms, weights):  # noqa: ARG001
    (x,) = bottoms
    return np.maximum(x, 0), lambda diff: ([diff * (x > 0)], [])


def _prelu(op, bottoms, weights):  # noqa: ARG001
    (x,), (slope,) = bottoms, weights
    slopes = slope[:, None, None]

    def back(diff):
        to_slope = (diff * np.minimum(x, 0)).sum(axis=(0, 2, 3))
        return [np.where(x > 0, diff, slopes * diff)], [to_slope]

    return np.where(x > 0, x, slopes * x), back


def _dropout(op, bottoms, weights):  # noqa: ARG001
    assert op.ratio == 0  # which values it drops is no oracle's to know
    return bottoms[0], lambda diff: ([diff], [])


def _batch_norm(op, bottoms, weights):
    mean, variance, factor = weights
    mean, scale = mean / factor, 1 / np.sqrt(variance / factor + op.eps)
    top = (bottoms[0] - mean[:, None, None]) * scale[:, None, None]
    return top, lambda diff: ([diff * scale[:, None, None]], [])


def _scale(op, bottoms, weights):  # noqa: ARG001
    (x,), (weight, bias) = bottoms, weights

    def back(diff):
        sums = [(diff * x).sum(axis=(0, 2, 3)), diff.sum(axis=(0, 2, 3))]
        return [diff * weight[:, None, None]], sums

    return x * weight[:, None, None] + bias[:, None, None], back


def _interp(op, bottoms, weights):  # noqa: ARG001
    (x,) = bottoms
    down, right = (
        _between(n, m) for n, m in zip(x.shape[2:], op.top_shape([x.shape])[2:], strict=True)
    )
    top = np.einsum("yh,nchw,xw->ncyx", down, x, right)
    return top, lambda diff: ([np.einsum("yh,ncyx,xw->nchw", down, diff, right)], [])


def _between(n, m):
    """The shares of n values in each of m, with aligned corners."""
    shares = np.zeros((m, n))
    for at in range(m):
        source = at * (n - 1) / (m - 1)
        first = min(int(source), n - 1)
        shares[at, first] += 1 - (source - first)
        shares[at, min(first + 1, n - 1)] += source - first
    return shares


def _eltwise(op, bottoms, weights):  # noqa: ARG001
    if op.operation == "SUM":
        return sum(bottoms), lambda diff: ([diff] * len(bottoms), [])
    best = np.argmax(bottoms, axis=0)
    return np.max(bottoms, axis=0), lambda diff: (
        [diff * (best == number) for number in range(len(bottoms))],
        [],
    )


def _softmax_loss(op, bottoms, weights):  # noqa: ARG001
    scores, labels = bottoms[0], bottoms[1].astype(int)
    counted = ~np.isin(labels, op.ignore_label)
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    probs = exp / exp.sum(axis=1, keepdims=True)
    hot = np.arange(scores.shape[1])[None, :, None, None] == labels
    losses = -np.log((probs * hot).sum(axis=1, keepdims=True)[counted])
    return losses.mean(), lambda diff: ([diff * (probs - hot) * counted / counted.sum()], [])


_LAYERS = {
    BatchNorm: _batch_norm,
    Convolution: _convolution,
    Dropout: _dropout,
    Eltwise: _eltwise,
    Interp: _interp,
    PReLU: _prelu,
    Pooling: _pooling,
    ReLU: _relu,
    Scale: _scale,
    SoftmaxLoss: _softmax_loss,
}
