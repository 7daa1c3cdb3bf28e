"""tools/write_prototxts.py: sizes, weights and rates of the nets, beside the original software."""

import math
import re

import pytest

from tests.conftest import GOLDEN
from tests.tools.conftest import TOOLS, load

ROOT = TOOLS.parent

# net: crop, fc8's size and scores' size in test; crop and scores' size in train; batch
SIZES = {
    "DeepLab": (514, 67, 514, 306, 39, 20),
    "DeepLab-4x4": (514, 67, 514, 306, 39, 20),
    "DeepLab-7x7": (514, 67, 514, 306, 39, 20),
    "DeepLab-MSc": (513, 65, 513, 321, 41, 20),
    "DeepLab-LargeFOV": (513, 65, 513, 321, 41, 30),
    "DeepLab-MSc-LargeFOV": (513, 65, 513, 321, 41, 30),
    "DeepLab-COCO-LargeFOV": (513, 65, 513, 321, 41, 30),
    "DeepLab-MSc-COCO-LargeFOV": (513, 65, 513, 321, 41, 30),
}
TOY_SIZES = {
    "ToyVOC-LargeFOV": (241, 31, 241, 241, 31, 6),
    "ToyVOC-MSc-LargeFOV": (241, 31, 241, 241, 31, 6),
}
# table 2: parameters in millions, field of view of fc6 in pixels
TABLE2 = {
    "DeepLab": (65.1, 128),
    "DeepLab-4x4": (65.1, 224),
    "DeepLab-7x7": (134.3, 224),
    "DeepLab-LargeFOV": (20.5, 224),
}
VARIABLES = {"EXP", "NUM_LABELS", "DATA_ROOT", "TRAIN_SET", "TEST_SET", "NET_ID", "FEATURE_DIR"}


FILES = load("write_prototxts").files()


def parse(text: str) -> dict:
    """Protobuf text to {key: [values]}; strings, enums and numbers stay text without quotes."""
    text = text.replace("${EXP}", "voc12").replace("${NUM_LABELS}", "21")
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    tokens = re.findall(r'(\w+)\s*(?:(\{)|:\s*(?:"([^"\n]*)"|([-\w.]+)))|(\})|(\S)', text)
    stack = [{}]
    for key, opening, string, word, closing, stray in tokens:
        assert not stray, f"stray {stray!r}"
        if closing:
            stack.pop()
            assert stack, "one closing brace too many"
        elif opening:
            stack[-1].setdefault(key, []).append({})
            stack.append(stack[-1][key][-1])
        else:
            stack[-1].setdefault(key, []).append(string or word)
    assert len(stack) == 1, "a brace is never closed"
    return stack[0]


def read(net: str, file: str) -> dict:
    return parse(FILES[f"{net}/{file}.prototxt"])


def by_name(net: dict) -> dict:
    return {layer["name"][0]: layer for layer in net["layers"]}


def numbers(layer: dict, param: str, **defaults: int) -> list[int]:
    fields = layer.get(param, [{}])[0]
    return [int(fields.get(key, [default])[0]) for key, default in defaults.items()]


def convolutions(net: dict) -> list[tuple[str, list[int]]]:
    return [
        (
            layer["name"][0],
            numbers(layer, "convolution_param", num_output=0, kernel_size=0, pad=0, stride=1)
            + numbers(layer, "convolution_param", hole=1),
        )
        for layer in net["layers"]
        if layer["type"] == ["CONVOLUTION"]
    ]


def sizes(net: dict) -> dict[str, int]:
    """The height of every blob, and that all bottoms of one layer have the same."""
    found = {}
    convs = dict(convolutions(net))
    for layer in net["layers"]:
        (name,), (kind,) = layer["name"], layer["type"]
        if kind == "IMAGE_SEG_DATA":
            found["data"] = found["label"] = numbers(layer, "transform_param", crop_size=0)[0]
            continue
        if kind == "SILENCE":
            continue
        (size,) = {found[bottom] for bottom in layer["bottom"]}
        if kind == "CONVOLUTION":
            _, kernel, pad, stride, hole = convs[name]
            size = (size + 2 * pad - kernel - (kernel - 1) * (hole - 1)) // stride + 1
        elif kind == "POOLING":
            kernel, stride, pad = numbers(layer, "pooling_param", kernel_size=0, stride=1, pad=0)
            out = math.ceil((size + 2 * pad - kernel) / stride) + 1
            size = out - 1 if pad and (out - 1) * stride >= size + pad else out
        elif kind == "INTERP":
            zoom, shrink, beg, end = numbers(
                layer, "interp_param", zoom_factor=1, shrink_factor=1, pad_beg=0, pad_end=0
            )
            assert 1 in (zoom, shrink)
            size = (size + beg + end - 1) // shrink * zoom + 1
        elif kind == "PADDING":
            size += sum(numbers(layer, "padding_param", pad_beg=0, pad_end=0))
        for top in layer.get("top", []):
            found[top] = size
    return found


def test_committed_files_are_the_tools_output():
    committed = {
        path.relative_to(ROOT / "prototxt").as_posix(): path.read_text(encoding="utf-8")
        for path in (ROOT / "prototxt").rglob("*.prototxt")
    }
    assert sorted(committed) == sorted(FILES), "run tools/write_prototxts.py"
    for path, text in FILES.items():
        assert committed[path] == text, f"{path}: run tools/write_prototxts.py"


@pytest.mark.parametrize("path", FILES)
def test_every_file_is_readable(path):
    text = FILES[path]
    assert set(re.findall(r"\$\{(.*?)\}", text)) <= VARIABLES
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert not any("$" in line for line in comments), "a comment looks like a variable left over"
    assert all(len(line) <= 100 for line in text.splitlines())
    assert parse(text)


def test_every_net_has_its_four_files():
    expected = {
        f"{net}/{file}.prototxt" for net in SIZES for file in ("test", "train", "solver", "solver2")
    } | {f"{net}/{file}.prototxt" for net in TOY_SIZES for file in ("test", "train", "solver")}
    assert {path for path in FILES if "v2" not in path} == expected


@pytest.mark.parametrize("net", SIZES | TOY_SIZES)
def test_sizes_of_test_nets(net):
    crop, fc8, scores, *_ = (SIZES | TOY_SIZES)[net]
    found = sizes(read(net, "test"))
    classifier = "fc8_voc12" if "LargeFOV" in net else "fc8_pascal"
    assert found["data"] == crop
    assert found[classifier] == fc8
    assert found["fc8_interp"] == 8 * (fc8 - 1) + 1
    final = by_name(read(net, "test"))["fc8_mat"]["bottom"][0]
    assert final == (
        "fc_fusion" if "MSc" in net else "fc8_interp" if "LargeFOV" in net else "fc8_crop"
    )
    assert found[final] == scores


@pytest.mark.parametrize("net", SIZES | TOY_SIZES)
def test_sizes_of_train_nets(net):
    *_, crop, scores, batch = (SIZES | TOY_SIZES)[net]
    layers = by_name(read(net, "train"))
    found = sizes(read(net, "train"))
    assert found["data"] == crop
    assert layers["loss"]["bottom"] == layers["accuracy"]["bottom"]
    assert {found[bottom] for bottom in layers["loss"]["bottom"]} == {scores}
    assert layers["data"]["image_data_param"][0]["batch_size"] == [str(batch)]
    assert layers["data"]["image_data_param"][0]["label_type"] == ["PIXEL"]


@pytest.mark.parametrize("net", TABLE2)
def test_parameters_and_field_of_view_are_table_2s(net):
    millions, view = TABLE2[net]
    channels, count = 3, 0
    for _, (outputs, kernel, *_) in convolutions(read(net, "test")):
        count += outputs * (channels * kernel**2 + 1)
        channels = outputs
    assert round(count / 1e6, 1) == millions
    _, kernel, _, _, hole = dict(convolutions(read(net, "test")))["fc6"]
    assert 8 * ((kernel - 1) * hole + 1) + 24 == view


@pytest.mark.parametrize("net", SIZES | TOY_SIZES)
def test_test_and_train_nets_share_their_weights(net):
    def weights(file: str) -> list[tuple[str, list[int]]]:
        return [
            (name, [outputs, kernel, hole])
            for name, (outputs, kernel, _, _, hole) in convolutions(read(net, file))
        ]

    assert weights("test") == weights("train")


@pytest.mark.parametrize("net", SIZES)
def test_what_learns(net):
    rates = {
        name: [float(rate) for rate in layer["blobs_lr"]]
        for name, layer in by_name(read(net, "train")).items()
        if "blobs_lr" in layer
    }
    msc = "MSc" in net
    classifier = "fc8_voc12" if "LargeFOV" in net else "fc8_pascal"
    expected_classifier = [10, 20] if not msc else [0, 0] if "LargeFOV" in net else [1, 2]
    assert rates.pop(classifier) == expected_classifier
    for name, rate in rates.items():
        frozen = msc and re.match(r"conv|fc[67]", name)
        assert rate == ([0, 0] if frozen else [1, 2]), name


@pytest.mark.parametrize("net", SIZES)
def test_solvers(net):
    average = ["10"] if "MSc" in net and "LargeFOV" in net else None
    slow = "MSc" in net or "LargeFOV" in net
    second = ("0.001", "2000", "8000") if slow else ("0.01", "3000", "12000")
    for file, prefix, values in (
        ("solver", "train", ("0.001", "2000", "6000")),
        ("solver2", "train2", second),
    ):
        solver = read(net, file)
        found = tuple(solver[key][0] for key in ("base_lr", "stepsize", "max_iter"))
        assert found == values
        assert solver["train_net"] == ["train.prototxt"]
        assert solver["snapshot_prefix"][0].endswith(f"/{prefix}")
        assert solver["lr_policy"] == ["step"]
        rest = [solver[key][0] for key in ("gamma", "momentum", "weight_decay", "snapshot")]
        assert rest == ["0.1", "0.9", "0.0005", "2000"]
        assert solver.get("average_loss") == average


# --- against nets that the original software wrote out -------------------------------------------

COMPARED = {
    "CONVOLUTION": ("convolution_param", {"pad": "0", "stride": "1", "hole": "1"}),
    "POOLING": ("pooling_param", {"pad": "0", "stride": "1"}),
    "INTERP": ("interp_param", {"pad_beg": "0", "pad_end": "0"}),
    "PADDING": ("padding_param", {}),
    "ELTWISE": ("eltwise_param", {}),
    "DROPOUT": ("dropout_param", {}),
    "SOFTMAX_LOSS": ("softmaxloss_param", {}),
    "SEG_ACCURACY": ("seg_accuracy_param", {}),
}


def facts(net: dict, train: bool, divide_by: int = 1) -> list:
    """Layers in comparable form, without those that only the one or the other has."""
    found = []
    for layer in net["layers"]:
        kind = layer["type"][0]
        skipped = ("IMAGE_SEG_DATA", "SILENCE", "MAT_WRITE") + (("DROPOUT",) if train else ())
        if kind in skipped:
            continue
        param, defaults = COMPARED.get(kind, ("", {}))
        fields = {**{key: [value] for key, value in defaults.items()}, **layer.get(param, [{}])[0]}
        fillers = [fields.pop(key, None) for key in ("weight_filler", "bias_filler")]
        outputs = fields.get("num_output", ["21"])
        if outputs != ["21"]:
            fields["num_output"] = [str(int(outputs[0]) // divide_by)]
        learning = None
        if train:
            rates = [layer.get(key, []) for key in ("blobs_lr", "weight_decay")]
            learning = [[float(rate) for rate in each] for each in rates]
            stds = [each and {k: v[0] for k, v in each[0].items()} for each in fillers]
            if stds[1]:
                stds[1]["value"] = float(stds[1]["value"])
            learning.append(stds)
        names = [layer.get(key, []) for key in ("name", "type", "bottom", "top")]
        found.append((names, fields, learning))
    return found


@pytest.mark.golden
@pytest.mark.parametrize(
    ("net", "folder"),
    [
        (net, folder)
        for net, folder in (
            ("DeepLab", "nets"),
            ("DeepLab-MSc", "nets"),
            ("DeepLab-LargeFOV", "nets"),
            ("DeepLab-MSc-LargeFOV", "nets"),
            ("DeepLab-LargeFOV", "train"),
            ("DeepLab-MSc-LargeFOV", "train"),
        )
    ],
)
def test_layers_are_the_original_ones(net, folder):
    train = folder == "train"
    path = GOLDEN / folder / net / ("train.prototxt" if train else "deploy.prototxt")
    if not path.is_file():
        pytest.skip(f"no golden net: {path} is absent")
    original = facts(parse(path.read_text(encoding="utf-8")), train)
    assert facts(read(net, "train" if train else "test"), train, divide_by=8) == original


@pytest.mark.parametrize("net", TOY_SIZES)
def test_toy_nets_are_the_papers_at_an_eighth(net):
    paper = net.replace("ToyVOC", "DeepLab")
    for toy, original in zip(
        convolutions(read(net, "test")), convolutions(read(paper, "test")), strict=True
    ):
        outputs = original[1][0]
        assert toy[1] == [outputs if outputs == 21 else outputs // 8, *original[1][1:]]
        assert toy[0] == original[0]
