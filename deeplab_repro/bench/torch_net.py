"""Run a net with PyTorch, an optional package, by torch.nn.functional."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as it is always called

from deeplab_repro.arrays import F32, Shape
from deeplab_repro.bench.net_files import Forward, NetFiles
from deeplab_repro.errors import NetError
from deeplab_repro.net.layers import (
    Concat,
    Convolution,
    Dropout,
    Eltwise,
    Interp,
    Padding,
    Pooling,
    ReLU,
)
from deeplab_repro.net.net import Layer, Net

Apply = Callable[..., torch.Tensor]


def torch_forward(job: NetFiles) -> Forward:
    """The job's net in PyTorch."""
    return torch_net(job.net(), job.blob, job.threads)


def torch_net(net: Net, blob: str, threads: int) -> Forward:
    """Make what runs the net to one blob on so many threads.

    Blobs that no later layer takes are freed. Raises NetError for a layer type that has no
    counterpart here, and WeightsError where a layer has no weights.
    """
    torch.set_num_threads(threads)
    steps = []
    for layer in net.layers:
        steps.append((layer, _counterpart(layer)))
        if blob in layer.tops:
            break
    last_use = {name: number for number, (layer, _) in enumerate(steps) for name in layer.bottoms}

    @torch.inference_mode()
    def run(data: F32) -> F32:
        blobs = {net.input: torch.from_numpy(data)}
        for number, (layer, apply) in enumerate(steps):
            top = apply(*(blobs[name] for name in layer.bottoms))
            for name in layer.bottoms:
                if last_use[name] == number:
                    blobs.pop(name, None)
            blobs.update(dict.fromkeys(layer.tops, top))
        return blobs[blob].numpy()

    return run


def _counterpart(layer: Layer) -> Apply:
    op = layer.op
    if isinstance(op, Convolution):
        weights = {name: torch.tensor(data) for name, data in layer.weights().items()}
        return partial(
            F.conv2d,
            **weights,
            stride=op.stride,
            padding=op.pad,
            dilation=op.hole,
            groups=op.group,
        )
    if isinstance(op, Pooling):
        return partial(_pool, op)
    if isinstance(op, ReLU) and not op.negative_slope:
        return partial(F.relu, inplace=layer.tops == layer.bottoms)
    if isinstance(op, Dropout):
        return lambda blob: blob
    if isinstance(op, Interp):
        return partial(_interp, op)
    if isinstance(op, Padding):
        return lambda blob: F.pad(blob, (op.pad_beg, op.pad_end) * 2)
    if isinstance(op, Concat):
        return lambda *blobs: torch.cat(blobs, op.axis)
    if isinstance(op, Eltwise) and op.operation == "SUM":
        return partial(_sum, op)
    raise NetError(f"layer '{layer.name}' ({layer.type}) has no counterpart here in PyTorch")


def _pool(op: Pooling, blob: torch.Tensor) -> torch.Tensor:
    pool: Any = F.max_pool2d if op.method == "MAX" else F.avg_pool2d
    kernel = op.kernel if any(op.kernel) else blob.shape[2:]
    return pool(blob, kernel, op.stride, op.pad, ceil_mode=True)


def _interp(op: Interp, blob: torch.Tensor) -> torch.Tensor:
    shape: Shape = op.top_shape([tuple(blob.shape)])
    cropped = F.pad(blob, (op.pad_beg, op.pad_end) * 2)
    return F.interpolate(cropped, shape[2:], mode="bilinear", align_corners=True)


def _sum(op: Eltwise, *blobs: torch.Tensor) -> torch.Tensor:
    coefficients = op.coeff or (1.0,) * len(blobs)
    total = coefficients[0] * blobs[0]
    for coefficient, blob in zip(coefficients[1:], blobs[1:], strict=True):
        total += coefficient * blob
    return total
