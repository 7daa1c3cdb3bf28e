"""What v2 trained: both of its nets, narrow, for two updates against an oracle in float64."""

from dataclasses import replace

import numpy as np
import pytest

from deeplab_repro.caffe import read_train_net, write_caffemodel
from deeplab_repro.net.channel_layers import BatchNorm, PReLU, Scale
from deeplab_repro.net.solver import SolverParameter
from deeplab_repro.train.sgd import Solver
from tests.train.naive_net import NaiveTraining

N_LABELS, CROP = 4, 33
SOLVER = SolverParameter(
    "t", 0.01, "poly", power=0.9, max_iter=20, momentum=0.9, weight_decay=0.05, iter_size=2
)


class Text:
    """A train net's prototxt, layer by layer. A suffix tells the scales apart; weights are shared.

    The numbers of channels are a sixteenth of v2's and less.
    """

    def __init__(self):
        self.suffix = ""
        size = f"dim: 2 dim: {{}} dim: {CROP} dim: {CROP}"
        self.lines = [
            'name: "v2" input: "data" input: "label" '
            + " ".join(f"input_shape {{ {size.format(channels)} }}" for channels in (3, 1))
        ]

    def add(self, kind, name, *bottoms, rest="", rates=(), top=""):
        """Add a layer; the name of its top."""
        params = " ".join(
            f'param {{ name: "{name}_{i}" lr_mult: {lr} decay_mult: {decay} }}'
            for i, (lr, decay) in enumerate(rates)
        )
        top = top or name + self.suffix
        taken = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.lines.append(
            f'layer {{ name: "{name + self.suffix}" type: "{kind}" {taken} top: "{top}" '
            f"{params} {rest} }}"
        )
        return top

    def conv(self, name, bottom, outputs, kernel, hole=1, stride=1, bias=True, rate=1):
        pad = hole * (kernel - 1) // 2
        rest = f"num_output: {outputs} kernel_size: {kernel} pad: {pad} stride: {stride}"
        rest += f" dilation: {hole}" + " bias_term: false" * (not bias)
        rates = [(rate, 1), (2 * rate, 0)][: 1 + bias]
        rest = f"convolution_param {{ {rest} }}"
        return self.add("Convolution", name, bottom, rest=rest, rates=rates)

    def pool(self, name, bottom, stride):
        rest = f"pooling_param {{ pool: MAX kernel_size: 3 stride: {stride} pad: 1 }}"
        return self.add("Pooling", name, bottom, rest=rest)

    def relu(self, bottom):
        return self.add("ReLU", f"relu_{bottom}", bottom, top=bottom)

    def interp(self, name, bottom, rest):
        return self.add("Interp", name, bottom, rest=f"interp_param {{ {rest} }}")

    def sum(self, name, bottoms, kind="SUM"):
        return self.add("Eltwise", name, *bottoms, rest=f"eltwise_param {{ operation: {kind} }}")

    def loss(self, name, scores, weight=1):
        rest = f"loss_param {{ ignore_label: 255 }} loss_weight: {weight}"
        self.add("SoftmaxWithLoss", name, scores, "label_shrink", rest=rest)


def vgg16() -> str:
    text = Text()
    blob = "data"
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(count):
            name = f"conv{block}_{i + 1}"
            blob = text.relu(text.conv(name, blob, min(2**block, 8), 3, hole=1 + (block == 5)))
        blob = text.pool(f"pool{block}", blob, stride=2 if block < 4 else 1)
    branches = []
    for i, hole in enumerate((6, 12, 18, 24), start=1):
        fc = blob
        for number, kernel in ((6, 3), (7, 1)):
            fc = text.relu(text.conv(f"fc{number}_{i}", fc, 8, kernel, hole if kernel > 1 else 1))
            drop = f"drop{number}_{i}"
            text.add("Dropout", drop, fc, top=fc, rest="dropout_param { dropout_ratio: 0 }")
        branches.append(text.conv(f"fc8_{i}", fc, N_LABELS, 1, rate=10))
    scores = text.sum("fc8", branches)
    text.interp("label_shrink", "label", "shrink_factor: 8")
    text.loss("loss", scores)
    return "\n".join(text.lines)


def normalised(text: Text, name: str, bottom: str, frozen: bool) -> str:
    """BatchNorm and Scale in place, as after each of ResNet's convolutions."""
    statistics = "batch_norm_param { use_global_stats: true }"
    text.add("BatchNorm", f"bn_{name}", bottom, top=bottom, rest=statistics, rates=[(0, 0)] * 3)
    rates = [(0, 0)] * 2 if frozen else [(1, 0), (2, 1)]
    rest = "scale_param { bias_term: true }"
    return text.add("Scale", f"scale_{name}", bottom, top=bottom, rest=rest, rates=rates)


def resnet_scores(text: Text, blob: str, blocks: tuple[int, ...]) -> str:
    """One scale of ResNet: blocks of three convolutions beside a shortcut; the scores."""

    def conv(name, bottom, *geometry):
        made = text.conv(name, bottom, *geometry, bias=False)
        return normalised(text, name, made, frozen=not name.startswith("res5"))

    blob = text.relu(conv("conv1", blob, 4, 7, 1, 2))
    blob = text.pool("pool1", blob, stride=2)
    for stage, count in enumerate(blocks, start=2):
        hole = {4: 2, 5: 4}.get(stage, 1)
        for i in range(count):
            stride, name = 2 if (stage, i) == (3, 0) else 1, f"res{stage}{'abcdef'[i]}"
            shortcut = blob if i else conv(f"{name}_branch1", blob, 8, 1, 1, stride)
            side = text.relu(conv(f"{name}_branch2a", blob, 4, 1, 1, stride))
            side = conv(f"{name}_branch2b", side, 4, 3, hole)
            if stage == 5:  # no net of v2's has one, but others of its kind
                side = text.add("PReLU", f"prelu_{name}", side, top=side, rates=[(1, 0)])
            else:
                side = text.relu(side)
            side = conv(f"{name}_branch2c", side, 8, 1)
            blob = text.relu(text.sum(name, [shortcut, side]))
    branches = [
        text.conv(f"fc1_c{i}", blob, N_LABELS, 3, hole, rate=10)
        for i, hole in enumerate((6, 12, 18, 24))
    ]
    return text.sum("fc1", branches)


def resnet(blocks: tuple[int, ...] = (1, 1, 2, 1)) -> str:
    text = Text()
    data_half = text.interp("data_res05", "data", "shrink_factor: 2")
    data_most = text.interp("data_res075", "data", "zoom_factor: 3 shrink_factor: 4")
    text.interp("label_shrink", "label", "shrink_factor: 8")
    scores = [resnet_scores(text, "data", blocks)]
    text.suffix = "_res075"
    most = resnet_scores(text, data_most, blocks)
    scores.append(text.interp("fc1_interp", most, "zoom_factor: 4 shrink_factor: 3"))
    text.suffix = "_res05"
    half = resnet_scores(text, data_half, blocks)
    scores.append(text.interp("fc1_interp", half, "zoom_factor: 2"))
    text.suffix = ""
    fused = text.sum("fc_fusion", scores, "MAX")
    for name, each, weight in zip(("loss", "most", "half"), scores, (1, 0.5, 0.25), strict=True):
        text.loss(name, each, weight)
    text.loss("loss_fusion", fused)
    return "\n".join(text.lines)


def read(path, text, seed=0):
    """The train net with weights that keep its values' scale."""
    path.write_text(text)
    net = read_train_net(path)
    rng = np.random.default_rng(seed)
    for layer in net.layers:
        for name, blob in zip(layer.blob_names, layer.blobs, strict=False):
            blob.data = rng.standard_normal(blob.shape, np.float32) / np.float32(10)
            if isinstance(layer.op, BatchNorm):
                if name != "mean":
                    blob.data += 1
                blob.data *= np.float32(999.98)
            elif name == "weight":
                fan_in = np.prod(blob.shape[1:])
                blob.data *= np.float32(10 * np.sqrt(2 / fan_in))
                if isinstance(layer.op, Scale):
                    blob.data = rng.uniform(0.5, 1, blob.shape).astype(np.float32)
            elif isinstance(layer.op, PReLU):
                blob.data += np.float32(0.25)
    return net


def batch(seed):
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((2, 3, CROP, CROP), np.float32)
    labels = rng.integers(N_LABELS, size=(2, 1, CROP, CROP)).astype(np.float32)
    labels[:, :, :9] = 255
    return data, labels


NETS = {"VGG16": (vgg16(), 50), "ResNet": (resnet(), 37)}


@pytest.mark.parametrize(("text", "learnt"), NETS.values(), ids=NETS)
def test_two_updates(tmp_path, text, learnt):
    """With gradients of two batches each; the oracle has single precision's error times layers."""
    net = read(tmp_path / "train.prototxt", text)
    oracle = NaiveTraining(net, SOLVER)
    first = {key: data.copy() for key, data in oracle.weights.items()}
    solver = Solver(SOLVER, net)
    for number in range(2):
        batches = [batch(2 * number), batch(2 * number + 1)]
        assert solver.step(batches) == pytest.approx(oracle.step(batches), rel=1e-5)
    changed = 0
    blobs = {id(blob): (layer, blob) for layer in net.layers for blob in layer.blobs}
    for key, (layer, blob) in blobs.items():
        change = oracle.weights[key] - first[key]
        largest = abs(change).max()
        changed += bool(largest)
        apart = abs((blob.data - first[key]) - change).max()
        assert apart <= 1e-3 * largest + 2e-7 * abs(first[key]).max(), layer.name
    assert changed == learnt
    assert len(solver.network.parameters) == len(blobs)


def test_scales_with_statistics_of_their_own(tmp_path):
    """As Caffe's files may have them: what is learnt is shared, by name, and statistics are not."""
    net = read(tmp_path / "train.prototxt", NETS["ResNet"][0])
    own = [layer for layer in net.layers if layer.name.startswith("bn_") and "_res" in layer.name]
    for number, layer in enumerate(own):
        layer.blobs = [replace(b, data=b.data * np.float32(1 + number)) for b in layer.blobs]
    write_caffemodel(net, tmp_path / "all.caffemodel", current=True)
    oracle = NaiveTraining(net, SOLVER)
    parameter = replace(SOLVER, snapshot_prefix=str(tmp_path / "s"))
    solver = Solver(parameter, read_train_net(tmp_path / "train.prototxt"))
    assert not solver.load(tmp_path / "all.caffemodel")
    batches = [batch(0), batch(1)]
    assert solver.step(batches) == pytest.approx(oracle.step(batches), rel=1e-5)
    _, state = solver.snapshot()
    resumed = Solver(parameter, read_train_net(tmp_path / "train.prototxt"))
    resumed.restore(state)
    for one, other in zip(resumed.net.layers, solver.net.layers, strict=True):
        for blob, expected in zip(one.blobs, other.blobs, strict=True):
            np.testing.assert_array_equal(blob.data, expected.data)
    assert resumed.step(batches) == solver.step(batches)
