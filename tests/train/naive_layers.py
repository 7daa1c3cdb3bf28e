"""The layers of training as docs/original.md gives them, slowly and in float64.

Each takes and gives NxCxHxW, and treats the images of a batch apart.
"""

import math

import numpy as np


def convolution(x, weight, bias, op):
    """docs/original.md, 1.1: each pixel of the top is the taps over it times the weights."""
    (ph, pw), (sh, sw), (hh, hw) = op.pad, op.stride, op.hole
    _, _, *size = op.top_shape([x.shape])
    weight = weight.astype(float)
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    span_h, span_w = op.span
    top = np.empty((len(x), len(weight), *size))
    for i, j in np.ndindex(*size):
        taps = padded[:, :, i * sh : i * sh + span_h : hh, j * sw : j * sw + span_w : hw]
        top[:, :, i, j] = np.einsum("nchw,ochw->no", taps, weight)
    for values in bias:
        top += values[:, None, None]
    return top


def _windows(x, op):
    """For each pixel of the top: its window's rows and columns, cut at in + pad, then at the image.

    The length is that before the second cut.
    """
    height, width = x.shape[2:]
    kernel = (height, width) if op.kernel == (0, 0) else op.kernel
    for i, j in np.ndindex(*op.top_shape([x.shape])[2:]):
        sides, length = [], 1
        for at, k, p, s, n in zip((i, j), kernel, op.pad, op.stride, (height, width), strict=True):
            first = at * s - p
            last = min(first + k, n + p)
            length *= last - first
            sides.append(slice(max(first, 0), min(last, n)))
        yield (i, j), x[:, :, sides[0], sides[1]], length


def pooling(x, op):
    """docs/original.md, 1.2."""
    top = np.empty(op.top_shape([x.shape]))
    for (i, j), window, length in _windows(x, op):
        if op.method == "MAX":
            top[:, :, i, j] = window.max(axis=(2, 3))
        else:
            top[:, :, i, j] = window.sum(axis=(2, 3)) / length
    return top


def interp(x, op):
    """docs/original.md, 1.3: crop, then bilinear with aligned corners; positions in float32."""
    height, width = x.shape[2:]
    x = x[:, :, -op.pad_beg : height + op.pad_end, -op.pad_beg : width + op.pad_end]
    top = np.empty((*x.shape[:2], *_interp_size(x.shape[2:], op)))
    if top.shape == x.shape:
        return x.astype(float)
    for i, j in np.ndindex(*top.shape[2:]):
        (y, y1, ly), (x0, x1, lx) = (
            _between(at, n_in, n_out)
            for at, n_in, n_out in zip((i, j), x.shape[2:], top.shape[2:], strict=True)
        )
        above = (1 - lx) * x[:, :, y, x0] + lx * x[:, :, y, x1]
        below = (1 - lx) * x[:, :, y1, x0] + lx * x[:, :, y1, x1]
        top[:, :, i, j] = (1 - ly) * above + ly * below
    return top


def _interp_size(size, op):
    if op.height is not None:
        return op.height, op.width
    if op.zoom_factor > 1:
        return tuple(n + (n - 1) * (op.zoom_factor - 1) for n in size)
    return tuple((n - 1) // op.shrink_factor + 1 for n in size)


def _between(at, n_in, n_out):
    scale = np.float32(n_in - 1) / np.float32(n_out - 1) if n_out > 1 else np.float32(0)
    source = np.float32(scale * np.float32(at))
    first = int(source)
    return first, min(first + 1, n_in - 1), float(source - np.float32(first))


def padding(x, op):
    """docs/original.md, 1.4: both pads not negative: zeros around; both not positive: a crop."""
    beg, end = op.pad_beg, op.pad_end
    if beg >= 0 and end >= 0:
        return np.pad(x.astype(float), ((0, 0), (0, 0), (beg, end), (beg, end)))
    height, width = x.shape[2:]
    return x[:, :, -beg : height + end, -beg : width + end].astype(float)


def relu(x, op):
    return np.where(x > 0, x, op.negative_slope * x.astype(float))


def softmax_loss(scores, labels, op):
    """docs/original.md, 1.6: the mean over the whole batch's pixels that count; NaN without any."""
    losses = []
    for n, i, j in np.ndindex(len(scores), *scores.shape[2:]):
        label = int(labels[n, 0, i, j])
        if label not in op.ignore_label:
            exp = np.exp(scores[n, :, i, j] - scores[n, :, i, j].max())
            prob = exp[label] / exp.sum()
            losses.append(-math.log(max(prob, np.finfo(np.float32).tiny)))
    return sum(losses) / len(losses) if losses else math.nan


def seg_accuracy(scores, labels, op):
    """docs/original.md, 1.7: pixel accuracy, mean recall of the classes there, mean IOU of all."""
    n_labels = scores.shape[1]
    confusion = np.zeros((n_labels, n_labels))
    for n, i, j in np.ndindex(len(scores), *scores.shape[2:]):
        label = int(labels[n, 0, i, j])
        if label not in op.ignore_label:
            pixel = scores[n, :, i, j]
            highest = max(c for c in range(n_labels) if pixel[c] == pixel.max())
            confusion[label, highest] += 1
    recalls, ious = [], []
    for c in range(n_labels):
        hits, of_label, found = confusion[c, c], confusion[c].sum(), confusion[:, c].sum()
        if of_label:
            recalls.append(hits / of_label)
        union = of_label + found - hits
        ious.append(1.0 if union == hits else hits / union)
    return [np.trace(confusion) / confusion.sum(), np.mean(recalls), np.mean(ious)]


def gradient(function, x, top_diff, step=1e-3):
    """The gradient of sum(function(x) * top_diff) by x, by central differences of one value each.

    Exact, but for rounding, where function is linear within the step.
    """
    found = np.empty(x.shape)
    for n, image in enumerate(x.astype(float)):
        moves = step * np.eye(image.size).reshape(-1, *image.shape)
        change = (function(image + moves) - function(image - moves)) / (2 * step)
        found[n] = np.tensordot(change, top_diff[n].astype(float), 3).reshape(image.shape)
    return found


def batch_norm(x, mean, variance, factor, op):
    """docs/original.md, 9: by kept statistics."""
    part = 1 / float(factor) if factor else 0
    mean, variance = (np.array(each, float)[:, None, None] * part for each in (mean, variance))
    return (x - mean) / np.sqrt(variance + op.eps)


def scale(x, weight, bias, axis):
    """x times the weight, plus the bias, both along the axes from this one on."""
    behind = (1,) * (x.ndim - axis - np.ndim(weight))
    weight, bias = (
        np.array(each, float).reshape(*np.shape(each), *behind) for each in (weight, bias)
    )
    return x.astype(float) * weight + bias


def prelu(x, slope):
    """A slope for each channel, or one for all."""
    slope = np.array(slope, float)
    slope = slope[:, None, None] if slope.ndim else slope
    return np.where(x > 0, x, slope * x.astype(float))
