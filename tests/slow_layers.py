"""Slow, obvious layers in float64, and the nets and inputs to compare them on."""

import numpy as np

from deeplab_repro.net.net import Layer, Net

NO_BIAS = np.zeros(1)


def random_input(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 50, shape).astype(np.float32)


def net_of(*layers, shape):
    """A net with random weights, and biases that can be told from none."""
    net = Net("n", "data", shape, list(layers))
    net.fill_random(0)
    for layer in net.layers:
        for name, blob in zip(layer.blob_names, layer.blobs, strict=False):
            if name in layer.op.starts_at:
                low, high = {"variance": (0.5, 2), "factor": (3, 3)}.get(name, (-5, 5))
                blob.data.flat = np.linspace(low, high, blob.data.size)
    return net


def scores_of(engine, data):
    """The net's output."""
    return engine.blobs(data, [engine.net.output])[engine.net.output]


def one_layer(op, shape, bottoms=("data",)):
    return net_of(Layer("a", op, bottoms, ("a",)), shape=shape)


def weights(net):
    """The arrays of the first layer."""
    return [blob.data for blob in net.layers[0].blobs]


def convolve(x, op, weight, bias=NO_BIAS):
    (ph, pw), (sh, sw), (hh, hw) = op.pad, op.stride, op.hole
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    kh, kw = op.kernel
    out_h = (x.shape[2] - op.span[0]) // sh + 1
    out_w = (x.shape[3] - op.span[1]) // sw + 1
    y = np.zeros((len(x), op.num_output, out_h, out_w))
    inside, outside = weight.shape[1], op.num_output // op.group
    for channel in range(op.num_output):
        begin = channel // outside * inside
        for i in range(kh):
            for j in range(kw):
                taps = x[:, begin : begin + inside, i * hh :, j * hw :]
                taps = taps[:, :, : (out_h - 1) * sh + 1 : sh, : (out_w - 1) * sw + 1 : sw]
                y[:, channel] += np.einsum("nchw,c->nhw", taps, weight[channel, :, i, j])
    return y + bias.reshape(1, -1, 1, 1)


def deconvolve(x, op, weight, bias=NO_BIAS):
    n, channels, height, width = x.shape
    (kh, kw), (ph, pw), (sh, sw) = op.kernel, op.pad, op.stride
    whole = np.zeros((n, op.num_output, sh * (height - 1) + kh, sw * (width - 1) + kw))
    inside, outside = channels // op.group, op.num_output // op.group
    for channel in range(channels):
        begin = channel // inside * outside
        for i in range(height):
            for j in range(width):
                at = whole[:, begin : begin + outside, i * sh : i * sh + kh, j * sw : j * sw + kw]
                at += np.einsum("n,ohw->nohw", x[:, channel, i, j], weight[channel])
    cropped = whole[:, :, ph : whole.shape[2] - ph, pw : whole.shape[3] - pw]
    return cropped + bias.reshape(1, -1, 1, 1)


def pool(x, op):
    n, c, height, width = x.shape
    _, _, out_h, out_w = op.top_shape([x.shape])
    kernel = (height, width) if op.kernel == (0, 0) else op.kernel
    y = np.zeros((n, c, out_h, out_w))
    for i in range(out_h):
        for j in range(out_w):
            top, left = i * op.stride[0] - op.pad[0], j * op.stride[1] - op.pad[1]
            bottom = min(top + kernel[0], height + op.pad[0])
            right = min(left + kernel[1], width + op.pad[1])
            area = (bottom - top) * (right - left)  # counts the padding
            window = x[:, :, max(top, 0) : bottom, max(left, 0) : right]
            if op.method == "MAX":
                y[:, :, i, j] = window.max(axis=(2, 3))
            else:
                y[:, :, i, j] = window.sum(axis=(2, 3)) / area
    return y


def pad_or_crop(x, pad_beg, pad_end):
    grown = [(0, 0), (0, 0), *[(max(pad_beg, 0), max(pad_end, 0))] * 2]
    x = np.pad(x, grown)
    begin, end = max(-pad_beg, 0), max(-pad_end, 0)
    return x[:, :, begin : x.shape[2] - end, begin : x.shape[3] - end]


def interpolate(x, op):
    _, _, *size = op.top_shape([x.shape])
    x = pad_or_crop(x, op.pad_beg, op.pad_end).astype(np.float64)
    for axis, n_out in zip((2, 3), size, strict=True):
        n_in = x.shape[axis]
        at = np.linspace(0, n_in - 1, n_out)
        low = np.minimum(np.floor(at).astype(int), n_in - 1)
        high = np.minimum(low + 1, n_in - 1)
        part = (at - low).reshape((-1, 1) if axis == 2 else (1, -1))
        x = x.take(low, axis) * (1 - part) + x.take(high, axis) * part
    return x


def crop(x, like, axis, offsets):
    """offsets: one for each axis from `axis` on."""
    for number, offset in enumerate(offsets, axis):
        x = x.take(range(offset, offset + like.shape[number]), number)
    return x


def argmax(x, axis):
    """The last place of the largest value along an axis."""
    places = np.zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    largest = np.full(places.shape, -np.inf)
    for place in range(x.shape[axis]):
        value = x.take([place], axis)
        places = np.where(value >= largest, place, places)
        largest = np.maximum(value, largest)
    return places


def softmax(x):
    shifted = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def per_channel(array):
    return np.asarray(array, np.float64).reshape(1, -1, 1, 1)


def batch_norm(x, op, mean, variance, factor):
    mean, variance = (per_channel(each) / factor[0] for each in (mean, variance))
    return (x - mean) / np.sqrt(variance + op.eps)


def bn(x, op, slope, bias, mean, variance):
    normal = (x - per_channel(mean)) / np.sqrt(per_channel(variance) + op.eps)
    return per_channel(slope) * normal + per_channel(bias)


def scale(x, op, weight, bias=NO_BIAS):
    """By a weight of the axes from op.axis on."""
    axis = op.axis % x.ndim
    y = x.astype(np.float64)
    y = np.moveaxis(y, range(axis), range(-axis, 0)) if axis else y
    behind = [1] * (y.ndim - weight.ndim)
    y = y * weight.reshape((*weight.shape, *behind))
    y = y + (bias.reshape((*weight.shape, *behind)) if bias is not NO_BIAS else 0)
    return np.moveaxis(y, range(-axis, 0), range(axis)) if axis else y


def prelu(x, _, slope):
    return np.where(x > 0, x, x.astype(np.float64) * per_channel(slope))


def elu(x, op):
    return np.where(x > 0, x, op.alpha * (np.exp(np.minimum(x.astype(np.float64), 0)) - 1))


def power(x, op):
    return (op.shift + op.scale * x.astype(np.float64)) ** op.power


def exponential(x, op):
    return (np.e if op.base == -1 else op.base) ** (op.shift + op.scale * x.astype(np.float64))


def logarithm(x, op):
    base = np.e if op.base == -1 else op.base
    return np.log(op.shift + op.scale * x.astype(np.float64)) / np.log(base)


def normalise(x, op):
    """LRN, value by value."""
    x, y, reach = x.astype(np.float64), np.empty(x.shape), op.local_size // 2
    for n, c, i, j in np.ndindex(x.shape):
        if op.norm_region == "ACROSS_CHANNELS":
            around, count, k = x[n, max(c - reach, 0) : c + reach + 1, i, j], op.local_size, op.k
        else:
            rows, columns = (slice(max(at - reach, 0), at + reach + 1) for at in (i, j))
            around, count, k = x[n, c, rows, columns], op.local_size**2, 1
        y[n, c, i, j] = x[n, c, i, j] / (k + op.alpha / count * (around**2).sum()) ** op.beta
    return y
