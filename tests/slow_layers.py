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
